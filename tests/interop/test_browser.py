"""Pages in a real browser, on another origin than the API: Trigger.dev's hook, ours, and a plain EventSource."""

import json
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from time import monotonic

import httpx
import pytest

from tests import kit
from tests.interop import node_tools
from tests.interop.processes import SdkServer, stop

PAGE = b'<!doctype html><meta charset="utf-8"><div id="page"></div><script type="module" src="/page.js"></script>'
END = ['realtime COMPLETED true {"done":3}', 'stream completed {"done":3}', "source COMPLETED closed"]
PATIENCE_S = 60.0


@pytest.mark.patient
@pytest.mark.browser
@pytest.mark.once("about pages")
@pytest.mark.interop
@pytest.mark.timeout(150)
def test_a_page_shows_a_job_until_it_has_ended(sdk_server: SdkServer, tmp_path: Path) -> None:
    browser = kit.browser()
    script = bundled(tmp_path)

    def begin() -> bytes:
        made = httpx.post(
            f"{sdk_server.base_url}/api/v1/tasks/in steps/trigger",
            json={"payload": {"steps": 3}, "options": {"delay": "1s"}},
            headers={"authorization": f"Bearer {sdk_server.secret_key}"},
            trust_env=False,
        ).raise_for_status()
        told = {"api": sdk_server.base_url, "run": made.json()["id"], "token": made.headers["x-trigger-jwt"]}
        return json.dumps(told).encode()

    with page_server(script, begin) as (address, shown), opened(browser, address, tmp_path):
        seen = lines_until_the_end(shown)
    for line in ("realtime DELAYED", "realtime EXECUTING true", "stream pending", "stream active", *END):
        assert any(each.startswith(line) for each in seen), f"{line!r} was never shown: {seen}"


def bundled(directory: Path) -> bytes:
    """The page's script with all it imports, as an application would check and build it."""
    node_tools.run_node(node_tools.MODULES / "typescript" / "bin" / "tsc", "-p", "browser", env={})
    built = directory / "page.js"
    node_tools.run_node(
        node_tools.MODULES / "esbuild" / "bin" / "esbuild",
        "browser/page.tsx",
        "--bundle",
        "--format=esm",
        "--jsx=automatic",
        "--log-level=warning",
        # What only servers import, and never in a browser.
        "--external:node:*",
        '--define:process.env.NODE_ENV="production"',
        f"--outfile={built}",
        env={"NODE_PATH": str(node_tools.MODULES)},
    )
    return built.read_bytes()


@contextmanager
def page_server(script: bytes, begin: Callable[[], bytes]) -> Generator[tuple[str, Queue[str]]]:
    """Serves the page, and a job when it is there to show one; what it shows arrives in the queue."""
    shown: Queue[str] = Queue()
    pages = {"/": (lambda: PAGE, "text/html"), "/page.js": (lambda: script, "text/javascript")}
    pages["/job"] = begin, "application/json"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path in pages:
                make, kind = pages[self.path]
                self._answer(make(), kind)
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            shown.put(self.rfile.read(int(self.headers["content-length"])).decode())
            self._answer(b"", "text/plain")

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("content-type", f"{kind}; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base class
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/", shown
        server.shutdown()
        serving.join()


@contextmanager
def opened(browser: Path, url: str, directory: Path) -> Generator[None]:
    """The page in a browser of its own, which knows nobody and calls nobody else."""
    with (directory / "browser.log").open("wb") as log:
        popen = subprocess.Popen(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--no-first-run",
                "--remote-debugging-port=0",
                f"--user-data-dir={directory / 'profile'}",
                url,
            ],
            env={"PATH": "/usr/bin:/bin", "HOME": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
        finally:
            stop(popen)


def lines_until_the_end(shown: Queue[str]) -> list[str]:
    """Every line the page has shown, in order, until it shows the end of all."""
    seen: list[str] = []
    deadline = monotonic() + PATIENCE_S
    while True:
        try:
            lines = shown.get(timeout=max(deadline - monotonic(), 0.01)).splitlines()
        except Empty:
            pytest.fail(f"the page did not show the end within {PATIENCE_S:g} s: {seen[-12:]}", pytrace=False)
        lines = [line for line in lines if line]
        seen += [line for line in lines if line not in seen]
        if lines == END:
            return seen
