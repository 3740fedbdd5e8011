"""The fake is held to the contract it stands in for."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.fakes.clock import START, ManualClock
from tests.fakes.trigger_dev import API_URL, SECRET_KEY, FakeTriggerDev

HEADERS = {"authorization": f"Bearer {SECRET_KEY}", "x-trigger-api-version": "2025-07-16"}


def call(
    fake: FakeTriggerDev, method: str, path: str, headers: dict[str, str] | None = None, **rest: Any
) -> Any:
    request = httpx.Request(method, API_URL + path, headers=HEADERS | (headers or {}), **rest)
    return fake.handle(request).json()


def trigger(fake: FakeTriggerDev, request_key: str | None = None, task: str = "echo", **options: Any) -> Any:
    headers = {} if request_key is None else {"x-trigger-request-idempotency-key": request_key}
    body = {"payload": 1, "options": options}
    return call(fake, "POST", f"/api/v1/tasks/{task}/trigger", headers, json=body)


def status(fake: FakeTriggerDev, run_id: str) -> str:
    return call(fake, "GET", f"/api/v3/runs/{run_id}")["status"]


def listed(fake: FakeTriggerDev, **query: str) -> dict[str, str]:
    params = {f"filter[{name}]": value for name, value in query.items()}
    return {run["id"]: run["status"] for run in call(fake, "GET", "/api/v1/runs", params=params)["data"]}


End = Callable[[FakeTriggerDev, str], object]
ENDS: dict[str, End] = {
    "QUEUED": status,
    "EXECUTING": lambda fake, run_id: fake.start(run_id),
    "COMPLETED": lambda fake, run_id: fake.start(run_id) and fake.complete(run_id),
    "CANCELED": lambda fake, run_id: call(fake, "POST", f"/api/v2/runs/{run_id}/cancel"),
    "FAILED": lambda fake, run_id: fake.start(run_id) and fake.fail(run_id),
    "CRASHED": lambda fake, run_id: fake.start(run_id) and fake.fail(run_id, status="CRASHED"),
    "TIMED_OUT": lambda fake, run_id: fake.start(run_id) and fake.fail(run_id, status="TIMED_OUT"),
    "EXPIRED": lambda fake, run_id: fake.expire(run_id),
}


@pytest.mark.parametrize("end", ENDS)
def test_failed_ends_release_the_key_and_the_request_key_does_not_care(
    end: str, fake: FakeTriggerDev
) -> None:
    first = trigger(fake, "r1", idempotencyKey="k")
    assert first["isCached"] is False
    ENDS[end](fake, first["id"])
    assert status(fake, first["id"]) == end
    assert trigger(fake, "r1", idempotencyKey="k") == {"id": first["id"], "isCached": False}
    again = trigger(fake, "r2", idempotencyKey="k")
    released = end in {"FAILED", "CRASHED", "TIMED_OUT", "EXPIRED"}
    assert again["isCached"] is not released
    assert (again["id"] != first["id"]) is released
    assert trigger(fake, "r1", task="other", idempotencyKey="k")["isCached"] is False


def test_keys_end_with_their_time(fake: FakeTriggerDev) -> None:
    first = trigger(fake, "r1", idempotencyKey="k", idempotencyKeyTTL="1h")
    lasting = trigger(fake, idempotencyKey="l", idempotencyKeyTTL="nonsense")
    fake.start(lasting["id"])
    fake.complete(lasting["id"])
    fake.advance(3600)
    assert trigger(fake, "r1", idempotencyKey="k")["id"] == first["id"]
    assert trigger(fake, "r2", idempotencyKey="k")["id"] != first["id"]
    fake.advance(23 * 3600)
    assert trigger(fake, "r1", idempotencyKey="other")["id"] != first["id"]
    fake.advance(28 * 86_400)
    assert trigger(fake, idempotencyKey="l")["id"] == lasting["id"]
    fake.advance(86_400)
    assert trigger(fake, idempotencyKey="l")["id"] != lasting["id"]


def test_lists_lag_and_look_back_a_week(clock: ManualClock) -> None:
    fake = FakeTriggerDev(clock, lag=10)
    run_id = trigger(fake, tags=["a"])["id"]
    assert listed(fake) == {}
    fake.advance(10)
    fake.start(run_id)
    assert listed(fake) == {run_id: "QUEUED"}
    assert status(fake, run_id) == "EXECUTING"
    fake.advance(10)
    assert listed(fake, tag="a,b", status="EXECUTING") == {run_id: "EXECUTING"}
    assert listed(fake, tag="b") == listed(fake, status="QUEUED") == listed(fake, taskIdentifier="x") == {}
    fake.advance(7 * 86_400)
    assert listed(fake) == {}
    since = str(int((START - timedelta(hours=1)).timestamp() * 1000))
    assert (
        run_id
        in call(fake, "GET", "/api/v1/runs", params={"filter[createdAt][from]": since})["data"][0].values()
    )


@pytest.mark.parametrize("query", [{"page[size]": "101"}, {"page[size]": "x"}, {"filter[status]": "PENDING"}])
def test_a_wrong_query_is_refused(query: dict[str, str], fake: FakeTriggerDev) -> None:
    assert call(fake, "GET", "/api/v1/runs", params=query) == {"error": "Query Error"}


def test_time_to_live_counts_from_the_queue_and_spares_what_began(fake: FakeTriggerDev) -> None:
    waits = trigger(fake, ttl=60)["id"]
    delayed = trigger(fake, ttl="1m", delay="10m")["id"]
    began = trigger(fake, ttl=60)["id"]
    lives = trigger(fake, ttl=0)["id"]
    assert fake.start(began)
    assert not fake.start(delayed)
    fake.fail_attempt(began)
    fake.advance(60)
    assert [status(fake, each) for each in (waits, delayed, began, lives)] == [
        "EXPIRED",
        "DELAYED",
        "QUEUED",
        "QUEUED",
    ]
    fake.advance(15 * 60)
    assert status(fake, delayed) == "EXPIRED"
    assert fake.runs[delayed].finished_at == START + timedelta(minutes=11)


def test_cancel_is_at_once_and_user_code_has_its_grace(fake: FakeTriggerDev) -> None:
    queued, running = trigger(fake)["id"], trigger(fake)["id"]
    fake.start(running)
    for run_id in (queued, running):
        call(fake, "POST", f"/api/v2/runs/{run_id}/cancel")
        assert status(fake, run_id) == "CANCELED"
    assert fake.runs[queued].finished_at == START
    assert fake.runs[running].finished_at is None
    assert not fake.complete(running)
    fake.advance(30)
    assert fake.runs[running].finished_at == START + timedelta(seconds=30)
    assert [(each.event, each.run_id) for each in fake.ledger] == [("start", running), ("stop", running)]


def test_the_ledger_tells_what_user_code_did(fake: FakeTriggerDev) -> None:
    run_id = trigger(fake, tags=["a"], maxAttempts=3)["id"]
    fake.fence = lambda run: run.attempts > 1
    assert not fake.start(run_id)
    assert fake.start(run_id)
    fake.fail_attempt(run_id)
    assert fake.start(run_id)
    fake.wait(run_id)
    assert not fake.complete(run_id)
    fake.resume(run_id)
    assert fake.complete(run_id, 1)
    assert [each.event for each in fake.ledger] == ["refused", "start", "finish", "start", "finish"]
    assert {(each.task, each.tags) for each in fake.ledger} == {("echo", ("a",))}


def test_attempts_run_out(fake: FakeTriggerDev) -> None:
    run_id = trigger(fake, maxAttempts=2)["id"]
    for _ in range(2):
        assert fake.start(run_id)
        fake.fail_attempt(run_id)
    assert status(fake, run_id) == "FAILED"


def test_a_lost_run_is_gone_from_everywhere(fake: FakeTriggerDev) -> None:
    run_id = trigger(fake, idempotencyKey="k")["id"]
    fake.lose(run_id)
    assert status_code(fake, run_id) == 404
    assert listed(fake) == {}
    assert trigger(fake, idempotencyKey="k")["id"] != run_id


def status_code(fake: FakeTriggerDev, run_id: str) -> int:
    return fake.handle(httpx.Request("GET", f"{API_URL}/api/v3/runs/{run_id}", headers=HEADERS)).status_code


def test_faults_come_once_before_or_after(fake: FakeTriggerDev) -> None:
    fake.next_fault("timeout_before", on="trigger")
    assert listed(fake) == {}
    with pytest.raises(httpx.ReadTimeout):
        trigger(fake)
    assert fake.runs == {}
    fake.next_fault("reset_after")
    with pytest.raises(httpx.ReadError):
        trigger(fake)
    assert len(fake.runs) == 1
    fake.next_fault(429, headers={"x-ratelimit-reset": "1"})
    assert trigger(fake) == {"error": "injected"}
    assert len(fake.runs) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tags": [f"t{n}" for n in range(11)]}, "Runs can only have 10 tags, you're trying to set 11."),
        ({"tags": ["x" * 129]}, "Validation error: a tag is too long"),
    ],
)
def test_what_the_server_refuses(options: dict[str, Any], words: str, fake: FakeTriggerDev) -> None:
    assert trigger(fake, **options) == {"error": words}


def test_a_wrong_key_opens_nothing(fake: FakeTriggerDev) -> None:
    assert call(fake, "GET", "/api/v1/runs", {"authorization": "Bearer x"}) == {"error": "Invalid API key"}
