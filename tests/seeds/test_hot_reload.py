"""The seed's ``worker:dev`` with hot reload: `adapter worker --reload` and `adapter dev --reload`."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests import kit
from tests.cli.commands import PATIENCE_S, Started, all_end, eventually, started

pytestmark = [pytest.mark.once("about files and processes"), pytest.mark.timeout(240)]

ENDLESS = """
import asyncio
from adapter import Adapter
adapter = Adapter.from_env()

@adapter.task("greet")
async def greet(payload: str) -> str:
    await asyncio.Event().wait()
    return "never"
"""
BROKEN = ENDLESS + "\nthis is no Python\n"
MENDED = ENDLESS.replace("    await asyncio.Event().wait()\n", "").replace("never", "hello")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    file = folder / "greetings.py"
    file.write_text(ENDLESS)
    return file


def environment(**more: str) -> dict[str, str]:
    return {"ADAPTER_APP": "greetings", "PYTHONPATH": str(kit.ROOT), **more}


def only_job(database_url: str) -> tuple[Any, ...] | None:
    with psycopg.connect(database_url) as conn:
        return conn.execute("SELECT status, attempt, result FROM adapter.worker_jobs").fetchone()


def test_worker_dev_with_hot_reload_gives_running_jobs_back_unspent(
    database_url: str, source: Path, tmp_path: Path
) -> None:
    env = environment(DATABASE_URL=database_url)
    with started("worker", "--reload", directory=tmp_path / "run", env=env, cwd=source.parent) as running:
        eventually(lambda: running.says("worker started"))
        with started(
            "jobs", "schedule", "greet", '"ann"', directory=tmp_path / "call", env=env, cwd=source.parent
        ) as call:
            assert call.end() == 0
        eventually(lambda: only_job(database_url) == ("EXECUTING", 1, None))

        source.write_text(BROKEN)
        eventually(lambda: running.says("waits for the next save"))
        assert only_job(database_url) == ("QUEUED", 0, None)
        assert running.process.is_running()

        source.write_text(MENDED)
        eventually(lambda: only_job(database_url) == ("COMPLETED", 1, "hello"))
        children = running.process.children(recursive=True)
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
        assert all_end(children)
    assert "greetings.py changed: restarting" in running.err


def test_dev_with_hot_reload_keeps_the_port(server_dir: Path, source: Path, tmp_path: Path) -> None:
    env = environment(**({"ADAPTER_PG_BIN": found} if (found := kit.own_setting("PG_BIN")) else {}))
    options = ("--port", "0", "--data-dir", str(server_dir), "--reload")
    source.write_text(BROKEN)
    with started(
        "--json", "dev", *options, directory=tmp_path / "run", env=env, cwd=source.parent
    ) as running:
        # The server, the worker and the dispatcher each wait.
        eventually(lambda: running.err.count("waits for the next save") == 3, within=PATIENCE_S * 2)
        source.write_text(ENDLESS)
        eventually(lambda: running.says("Ready."), within=PATIENCE_S * 2)
        told = json.loads(running.out)
        headers = {"authorization": f"Bearer {told['api_key']}"}
        with httpx.Client(base_url=told["url"], headers=headers, trust_env=False, timeout=30) as client:

            def run() -> dict[str, Any]:
                return client.get(f"/api/v3/runs/{run_id}").json()

            made = client.post("/api/v1/tasks/greet/trigger", json={"payload": "ann"})
            run_id = made.json()["id"]
            eventually(lambda: run()["status"] == "EXECUTING")
            before = names(running)
            source.write_text(MENDED)
            # Nobody is refused meanwhile: whoever comes waits for the next server on the same port.
            assert eventually(lambda: run_again(client, run_id)) == "hello"
            eventually(lambda: not before & names(running))
        children = running.process.children(recursive=True)
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
        assert all_end(children)


def names(running: Started) -> set[int]:
    """The pids of the processes that are ours."""
    return {each.pid for each in running.process.children() if "adapter.cli" in each.cmdline()}


def run_again(client: httpx.Client, run_id: str) -> Any:
    try:
        return client.get(f"/api/v3/runs/{run_id}").json().get("output")
    except (httpx.ReadError, httpx.RemoteProtocolError):
        # A request that the old server had begun to read ends with it; a connection is never refused.
        return None
