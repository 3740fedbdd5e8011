import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args
from uuid import UUID

import pytest

from adapter.domain.identity import own_id, run_id_of
from adapter.domain.job import Job, JobStatus, SubmitState, WaitingFor
from adapter.store.insights import Wait
from adapter.web.trigger_api.wire import (
    BATCH,
    SCHEDULE,
    STATUSES,
    public_id,
    run_details,
    run_item,
)

AT = datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=UTC)
JOB_ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")

#: The contract, 7.1: what the SDK's schema asks for, and may not be null.
REQUIRED: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "status": str,
    "taskIdentifier": str,
    "isQueued": bool,
    "isExecuting": bool,
    "isWaiting": bool,
    "isCompleted": bool,
    "isSuccess": bool,
    "isFailed": bool,
    "isCancelled": bool,
    "isTest": bool,
    "createdAt": str,
    "updatedAt": str,
    "tags": list,
    "costInCents": (int, float),
    "baseCostInCents": (int, float),
    "durationMs": (int, float),
    "depth": int,
    "triggerFunction": str,
    "relatedRuns": dict,
    "attemptCount": int,
    "attempts": list,
}
#: The closed list of the contract, 3.1.
API_STATUSES = {
    "PENDING_VERSION",
    "QUEUED",
    "DEQUEUED",
    "EXECUTING",
    "WAITING",
    "COMPLETED",
    "CANCELED",
    "FAILED",
    "CRASHED",
    "SYSTEM_FAILURE",
    "DELAYED",
    "EXPIRED",
    "TIMED_OUT",
}


def make_job(status: JobStatus = JobStatus.QUEUED, **over: Any) -> Job:
    ended = status.is_terminal
    fields: dict[str, Any] = {
        "id": JOB_ID,
        "type": "echo",
        "status": status,
        "executor": "local",
        "route_reason": "default",
        "epoch": 1,
        "submit_state": SubmitState.NEVER,
        "data": {"a": 1},
        "queue": "default",
        "created_at": AT,
        "updated_at": AT,
        "started": AT if ended else None,
        "finished": AT + timedelta(milliseconds=139) if ended else None,
    }
    return Job(**(fields | over))


def nulls(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return [found for key, inner in fields.items() for found in nulls(inner, f"{path}.{key}")]
    if isinstance(value, list):
        return [found for inner in cast("list[Any]", value) for found in nulls(inner, f"{path}[]")]
    return [path] if value is None else []


@pytest.mark.parametrize("status", list(JobStatus))
def test_every_status_has_a_complete_run_without_nulls(status: JobStatus) -> None:
    run = run_details(make_job(status, error={"name": "E", "message": "m"} if status.is_terminal else None))
    for name, kind in REQUIRED.items():
        assert isinstance(run[name], kind), name
    assert nulls(run) == []
    assert run["status"] in API_STATUSES
    json.dumps(run)


EXPECTED = {
    "PENDING": ("QUEUED", {"isQueued"}),
    "DELAYED": ("DELAYED", {"isQueued"}),
    "QUEUED": ("QUEUED", {"isQueued"}),
    "WAITING": ("WAITING", {"isWaiting"}),
    "EXECUTING": ("EXECUTING", {"isExecuting"}),
    "COMPLETED": ("COMPLETED", {"isCompleted", "isSuccess"}),
    "CANCELED": ("CANCELED", {"isCompleted", "isFailed", "isCancelled"}),
    "FAILED": ("FAILED", {"isCompleted", "isFailed"}),
    "CRASHED": ("CRASHED", {"isCompleted", "isFailed"}),
    "SYSTEM_FAILURE": ("SYSTEM_FAILURE", {"isCompleted", "isFailed"}),
    "EXPIRED": ("EXPIRED", {"isCompleted", "isFailed"}),
    "TIMED_OUT": ("TIMED_OUT", {"isCompleted", "isFailed"}),
}


@pytest.mark.parametrize("status", list(JobStatus))
def test_each_status_s_word_and_flags(status: JobStatus) -> None:
    word, flags = EXPECTED[status]
    run = run_details(make_job(status))
    assert run["status"] == word
    assert {name for name, value in run.items() if name.startswith("is") and value is True} == flags


def test_a_fresh_job_shows_nothing_it_has_not() -> None:
    run = run_details(make_job(data=None))
    absent = {"payload", "output", "error", "startedAt", "finishedAt", "delayedUntil", "expiredAt", "ttl"}
    assert not absent & set(run)
    assert not {"metadata", "batchId", "idempotencyKey", "schedule", "version"} & set(run)
    assert (run["durationMs"], run["attemptCount"], run["id"]) == (0, 0, run_id_of(JOB_ID))


def test_a_rich_job_shows_all_it_has() -> None:
    batch = UUID(int=5)
    run = run_details(
        make_job(
            JobStatus.COMPLETED,
            result={"n": None},
            tags=("b:1", "a"),
            metadata={"k": "v"},
            due=AT,
            batch_id=batch,
            schedule_id=UUID(int=6),
            parent_id=UUID(int=7),
            attempt=2,
            extra={"ttl": "10m", "idempotency": {"key": "my-key", "scope": "global"}},
            idempotency_key="5e78",
        )
    )
    assert run["createdAt"] == "2026-11-22T10:00:00.123Z"
    assert run["finishedAt"] == "2026-11-22T10:00:00.262Z"
    assert (run["durationMs"], run["tags"], run["metadata"]) == (139, ["a", "b:1"], {"k": "v"})
    assert (run["output"], run["payload"]) == ({"n": None}, {"a": 1})
    assert (run["idempotencyKey"], run["ttl"], run["attemptCount"], run["depth"]) == ("my-key", "10m", 2, 1)
    assert (run["taskKind"], run["triggerFunction"]) == ("SCHEDULED", "batchTrigger")
    assert own_id(BATCH, run["batchId"]) == batch


def test_only_a_completed_run_shows_an_output_and_only_an_unsuccessful_one_an_error() -> None:
    error = {"name": "E", "message": "m", "stack": "s"}
    failed = run_details(make_job(JobStatus.FAILED, error=error, result={"message": "m"}))
    assert failed["error"] == {"message": "m", "name": "E", "stackTrace": "s"}
    assert "output" not in failed
    # The last failed attempt's error is still on a job that made it in the end.
    assert "error" not in run_details(make_job(JobStatus.COMPLETED, error=error))
    assert "error" not in run_details(make_job(JobStatus.EXECUTING, error=error))


def test_an_expired_run_says_when() -> None:
    run = run_details(make_job(JobStatus.EXPIRED, started=None))
    assert run["expiredAt"] == run["finishedAt"]
    assert run["durationMs"] == 0
    said = run_details(make_job(JobStatus.EXPIRED, error={"message": "m"}, extra={"ttl": "1s"}))["error"]
    assert said["message"] == "Run expired because the TTL (1s) was reached"


def test_a_list_s_item_has_an_environment_and_no_payload() -> None:
    item = run_item(make_job(JobStatus.COMPLETED, result=1), {"id": "env_1", "name": "prod"})
    assert item["env"] == {"id": "env_1", "name": "prod"}
    assert not {"payload", "output", "error", "attempts"} & set(item)
    assert nulls(item) == []


def test_the_filter_s_words_are_the_api_s_and_reach_every_status() -> None:
    assert set(STATUSES) == API_STATUSES
    assert {status for found in STATUSES.values() for status in found.statuses} == set(JobStatus)
    assert {wait for found in STATUSES.values() for wait in found.waits} == set(get_args(Wait))


@pytest.mark.parametrize(
    ("waiting_for", "started", "word"),
    [
        ("executor", None, "PENDING_VERSION"),
        ("executor", AT, "WAITING"),
        ("key", None, "QUEUED"),
        ("key", AT, "QUEUED"),
        ("children", AT, "WAITING"),
        ("token", AT, "WAITING"),
    ],
)
def test_what_waits_is_shown_by_what_it_waits_for(
    waiting_for: str, started: datetime | None, word: str
) -> None:
    run = run_details(make_job(JobStatus.WAITING, waiting_for=WaitingFor(waiting_for), started=started))
    assert (run["status"], run["isWaiting"], run["isQueued"]) == (word, word == "WAITING", word != "WAITING")


@pytest.mark.parametrize("prefix", [BATCH, SCHEDULE])
def test_public_ids_come_back(prefix: str) -> None:
    shown = public_id(prefix, JOB_ID)
    assert shown.startswith(prefix)
    assert own_id(prefix, shown) == JOB_ID
    assert own_id(prefix, "run_" + shown.removeprefix(prefix)) is None
    assert own_id(prefix, prefix + "0") is None
