import http.server
import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.cli.commands import adapter
from tests.cli.test_jobs import make_uncertain, schedule


def dead_letter(url: str, delivery: str) -> int:
    with psycopg.connect(url, autocommit=True) as conn:
        row = conn.execute(
            "INSERT INTO adapter.webhook_inbox (source, delivery_id, body, state, error)"
            " VALUES ('trigger:hooks', %s, %s, 'dead', 'no such job') RETURNING id",
            [delivery, Jsonb({"secret": "of the sender"})],
        ).fetchone()
        assert row is not None
        return row[0]


def test_webhooks_are_listed_without_their_bodies_and_paged(database: str) -> None:
    first, second = dead_letter(database, "d-1"), dead_letter(database, "d-2")
    found = adapter("--json", "webhooks", "list", "--state", "dead")
    assert [each["id"] for each in found.document["webhooks"]] == [second, first]
    assert "of the sender" not in found.out
    page = adapter("webhooks", "list", "--limit", "1")
    assert "no such job" in page.out
    assert f"--before {second}" in page.err
    rest = adapter("--json", "webhooks", "list", "--before", str(second)).document["webhooks"]
    assert [each["id"] for each in rest] == [first]


def test_dead_letters_are_offered_again(database: str) -> None:
    first, _ = dead_letter(database, "d-1"), dead_letter(database, "d-2")
    assert adapter("--json", "webhooks", "replay", str(first)).document == {"replayed": 1}
    assert adapter("webhooks", "replay", "--all").out == "1 offered again\n"
    assert adapter("webhooks", "list", "--state", "dead").err == "No webhooks.\n"
    assert adapter("webhooks", "replay", str(first)).code == 6
    assert adapter("webhooks", "replay").code == 2


def test_reconciling_brings_rows_forward_and_reports(shop: ModuleType) -> None:
    job = schedule("report")
    shop.remote.start(job["remote_run_id"])
    dry = adapter("reconcile", "--dry-run")
    assert (dry.code, "a dry run: nothing was changed" in dry.out) == (0, True)
    report = adapter("--json", "reconcile")
    assert report.code == 0, report.err
    assert (report.document["verdicts"]["advanced"], report.document["stopped"]) == (1, None)
    assert adapter("--json", "jobs", "show", job["id"]).document["job"]["status"] == "EXECUTING"


def test_a_pass_that_stops_early_ends_with_3(shop: ModuleType) -> None:
    schedule("report")
    for _ in range(20):
        shop.remote.next_fault(503)
    report = adapter("--json", "reconcile")
    assert report.code == 3
    assert "trigger" in report.document["stopped"]
    for _ in range(20):
        shop.remote.next_fault(503)
    assert "stopped early: trigger" in adapter("reconcile").out


def test_the_schema_is_made_compared_and_named(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database)
    assert adapter("--json", "db", "current").document["current"] is None
    assert (adapter("db", "check").code, adapter("jobs", "list").code) == (3, 1)
    assert "adapter db upgrade" in adapter("jobs", "list").err
    up = adapter("--json", "db", "upgrade").document
    assert (up["before"], bool(up["after"])) == (None, True)
    assert "as it was" in adapter("db", "upgrade").out
    assert up["after"] in adapter("db", "current").out
    assert adapter("--json", "db", "check").document == {"schema": "adapter", "ok": True, "differences": []}
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute("ALTER TABLE adapter.batches ADD COLUMN surplus int")
    differs = adapter("db", "check")
    assert (differs.code, "surplus" in differs.out) == (3, True)


def checks(answer: Any) -> dict[str, str]:
    return {each["name"]: each["verdict"] for each in answer.document["checks"]}


def test_the_doctor_finds_a_healthy_installation_healthy(shop: ModuleType) -> None:
    answer = adapter("--json", "doctor")
    assert (answer.code, answer.document["ok"]) == (0, True), answer.out
    assert set(checks(answer).values()) <= {"pass", "warn"}
    table = adapter("doctor")
    assert "wake-ups" in table.out
    assert "0 failed" in table.err


def test_the_doctor_finds_what_waits_for_a_person(shop: ModuleType, database: str) -> None:
    for _ in range(5):
        shop.remote.next_fault("timeout_before", on="trigger")
    make_uncertain(database, schedule("report")["id"])
    dead_letter(database, "d-1")
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("UPDATE adapter.worker_jobs_open SET remote_environment = 'another'")
    answer = adapter("--json", "doctor")
    assert answer.code == 3
    found = checks(answer)
    assert (found["uncertain submits"], found["remote jobs"], found["dead letters"]) == (
        "fail",
        "fail",
        "warn",
    )


def test_the_doctor_finds_jobs_of_an_executor_that_nobody_configured(
    shop: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule("report")
    monkeypatch.delenv("ADAPTER_APP")
    assert checks(adapter("--json", "doctor"))["remote jobs"] == "fail"


def test_the_doctor_finds_a_kill_switch_that_matches_nothing(
    shop: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTER_EXECUTOR__SEND_MAIL", "local")
    monkeypatch.delenv("ADAPTER_APP")
    assert checks(adapter("--json", "doctor"))["kill switches"] == "warn"


def test_the_doctor_says_which_first_steps_are_missing(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checks(adapter("--json", "doctor"))["configuration"] == "fail"
    monkeypatch.setenv("DATABASE_URL", empty_database)
    assert checks(adapter("--json", "doctor"))["schema"] == "fail"
    monkeypatch.setenv("DATABASE_URL", "postgresql://who:hidden@127.0.0.1:1/x")
    answer = adapter("--json", "doctor")
    assert (answer.code, checks(answer)["database"]) == (3, "fail")
    assert "hidden" not in answer.out


def test_the_doctor_mentions_a_placeholder_and_a_missing_webhook_secret(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIGGER_SECRET_KEY", "tr_dev_placeholder")
    assert checks(adapter("--json", "doctor"))["executors"] == "warn"
    monkeypatch.setenv("TRIGGER_SECRET_KEY", "tr_dev_0123456789")
    found = checks(adapter("--json", "doctor"))
    assert (found["executors"], found["webhook secret"]) == ("pass", "warn")


@contextmanager
def answering(status: int) -> Generator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps({"problems": {"database": "away"}}).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/readyz"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_a_health_check_ends_with_0_or_1(status: int, code: int) -> None:
    with answering(status) as url:
        answer = adapter("--json", "healthcheck", "--url", url)
        assert (answer.code, answer.document["status"]) == (code, status)
        assert adapter("healthcheck", "--url", url).code == code


def test_a_server_that_is_not_there_is_unhealthy(free_url: Callable[[], str]) -> None:
    answer = adapter("healthcheck", "--url", free_url())
    assert (answer.code, "unhealthy" in answer.out) == (1, True)


@pytest.fixture
def free_url() -> Callable[[], str]:
    def make() -> str:
        with answering(200) as url:
            return url

    return make


def test_the_version_is_the_distributions() -> None:
    assert adapter("--json", "version").document["version"] in adapter("version").out
