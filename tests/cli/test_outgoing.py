"""Who is told how jobs go, from the command line."""

import shlex
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import pytest

from adapter.domain.clock import SystemClock
from adapter.domain.signing import Secret, verify
from tests.cli.commands import adapter
from tests.cli.test_jobs import schedule, work

SECRET = "the secret of the receiver"


class Receiver(HTTPServer):
    """Keeps what it is sent; answers 418 with a few words."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                got.append((dict(self.headers), body))
                self.send_response(418)
                self.end_headers()
                self.wfile.write(b"short and stout")

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the library's name

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    return str(file)


def document(*command: str) -> Any:
    answer = adapter("--json", "webhooks", *command)
    assert answer.code == 0, answer.err
    return answer.document


def test_a_subscription_from_its_first_day_to_its_last(shop: ModuleType) -> None:
    assert "Nobody is told" in adapter("webhooks", "subscriptions").err
    made = document("subscribe", "https://receiver.test/a", "--event", "RUN_COMPLETED", "--name", "crm")
    one = made["subscription"]["id"]
    assert made["subscription"]["secrets"][0].startswith("whsec_")
    assert made["subscription"]["secrets"][0] not in adapter("webhooks", "subscriptions").out
    schedule("send-email", {"to": "ann"})
    work()
    (waiting,) = document("deliveries", "--state", "pending")["deliveries"]
    assert (waiting["event"], waiting["attempts"]) == ("RUN_COMPLETED", 0)
    assert one in adapter("webhooks", "subscriptions").out
    assert "Secret: whsec_" in adapter("webhooks", "rotate", one).out
    assert document("rotate", one, "--drop-old")["subscription"]["secret_count"] == 1
    assert document("change", one, "--off")["subscription"]["active"] is False
    assert document("redrive", "--all") == {"redriven": 0}
    assert adapter("webhooks", "redrive", waiting["id"]).code == 6
    document("unsubscribe", one)
    assert document("deliveries") == {"deliveries": []}
    assert adapter("webhooks", "unsubscribe", one).code == 6


@pytest.mark.parametrize(
    "command",
    [
        ["subscribe", "ftp://receiver.test"],
        ["subscribe", "https://receiver.test", "--event", "RUN_EXPLODED"],
        ["change", "00000000-0000-0000-0000-000000000000"],
        ["redrive"],
        ["deliveries", "--state", "lost"],
    ],
)
def test_what_cannot_be_is_said(shop: ModuleType, command: list[str]) -> None:
    assert adapter("webhooks", *command).code == 2


def test_a_test_shows_what_came_back_and_how_to_ask_again_with_curl(
    shop: ModuleType, secret_file: str
) -> None:
    receiver = Receiver()
    thread = Thread(target=receiver.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{receiver.server_port}/hooks"
    try:
        refused = adapter("webhooks", "test", url)
        assert "not of the open internet" in refused.out
        assert not receiver.got
        answer = adapter("webhooks", "test", url, "--allow-private", "--secret-file", secret_file)
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()
    assert answer.code == 3
    assert "it answered 418" in answer.out
    assert "short and stout" in answer.out
    ((headers, body),) = receiver.got
    verified = verify(headers, body, [Secret("s", SECRET)], SystemClock().now())
    curl = shlex.split(answer.out[answer.out.index("curl ") :].replace("\\\n", " "))
    assert curl[-1].encode() == body
    assert f"webhook-id: {verified.delivery_id}" in curl
    assert curl[4] == url
