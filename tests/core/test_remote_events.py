import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.core.remote_events import RemoteEvent, parse_event
from adapter.domain.errors import MalformedEventError
from adapter.domain.job import JobStatus
from adapter.domain.outcome import Authority

JOB = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
TAG = f"job:{JOB}:3"
AT = "2026-11-22T10:00:00.000Z"
LATER = "2026-11-22T10:00:05.000Z"
MOMENT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def lifecycle(kind: str, source: str = "hook", *, job: Any = None, **run: Any) -> RemoteEvent:
    data: dict[str, Any] = {
        "source": source,
        "run": {"id": "run_1", "taskIdentifier": "echo", "tags": [TAG]} | run,
    }
    event = parse_event({"type": kind, "timestamp": AT, "data": data | ({"job": job} if job else {})})
    assert event is not None
    return event


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("RUN_STARTED", JobStatus.EXECUTING),
        ("RUN_COMPLETED", JobStatus.COMPLETED),
        ("RUN_FAILED", JobStatus.FAILED),
        ("RUN_CANCELED", JobStatus.CANCELED),
    ],
)
@pytest.mark.parametrize(("source", "authority"), [("hook", Authority.HOOK), ("engine", Authority.ENGINE)])
def test_each_type_says_its_status_and_how_far_it_is_believed(
    kind: str, status: JobStatus, source: str, authority: Authority
) -> None:
    event = lifecycle(kind, source, attempt=2)
    assert (event.type, event.task, event.job) == (kind, "echo", (JOB, 3))
    report = event.report
    assert (report.run_id, report.status, report.remote_status) == ("run_1", status, status.value)
    assert (report.authority, report.attempt, report.at, report.started) == (authority, 2, MOMENT, True)


@pytest.mark.parametrize("word", ["FAILED", "CRASHED", "SYSTEM_FAILURE", "TIMED_OUT", "EXPIRED"])
def test_a_failure_keeps_the_engine_s_own_word(word: str) -> None:
    report = lifecycle("RUN_FAILED", "engine", status=word).report
    assert (report.status.value, report.remote_status) == (word, word)


def test_a_status_that_contradicts_the_type_does_not_win() -> None:
    report = lifecycle("RUN_COMPLETED", status="EXECUTING", output={"ok": True}).report
    assert (report.status, report.remote_status) == (JobStatus.COMPLETED, "EXECUTING")
    assert report.output == {"ok": True}


def test_an_output_that_was_left_out_has_to_be_confirmed() -> None:
    assert lifecycle("RUN_COMPLETED", "engine", outputOmitted=True).report.authority is Authority.HOOK
    assert lifecycle("RUN_COMPLETED", "engine", output=1).report.authority is Authority.ENGINE


def test_without_a_source_an_event_is_a_hook_s() -> None:
    event = parse_event({"type": "RUN_STARTED", "data": {"run": {"id": "run_1"}}})
    assert event is not None
    assert event.report.authority is Authority.HOOK
    assert event.job is None
    assert event.report.at is None


def test_the_engine_s_time_is_the_run_s_and_the_hook_s_its_own() -> None:
    assert lifecycle("RUN_STARTED", "hook", updatedAt=LATER).report.at == MOMENT
    report = lifecycle("RUN_STARTED", "engine", updatedAt=LATER).report
    assert report.at == MOMENT.replace(second=5)


@pytest.mark.parametrize(
    ("run", "started"),
    [
        ({}, None),
        ({"attempt": 0}, False),
        ({"attempt": 1}, True),
        ({"startedAt": AT}, True),
        ({"startedAt": AT, "attempt": 0}, True),
    ],
)
def test_an_engine_says_whether_a_canceled_run_ever_began(run: dict[str, Any], started: bool | None) -> None:
    assert lifecycle("RUN_CANCELED", "engine", **run).report.started is started
    assert lifecycle("RUN_CANCELED", "hook", **run).report.started is True


def test_the_job_s_own_field_wins_over_the_tags() -> None:
    other = UUID(int=7)
    assert lifecycle("RUN_STARTED", job={"id": str(other), "epoch": 1}).job == (other, 1)


@pytest.mark.parametrize(
    "tags", [[], ["vip", "job:x:1", f"tombstone:{JOB}:1"], [TAG, f"job:{JOB}:4"], [f"job:{JOB}:{2**40}"]]
)
def test_tags_that_name_no_job_or_two_bind_nothing(tags: list[str]) -> None:
    assert lifecycle("RUN_STARTED", tags=tags).job is None


@pytest.mark.parametrize(
    "body",
    [
        {"event": "RUN_COMPLETED", "run": {"id": "run_1", "tags": [TAG], "output": 1}, "timestamp": AT},
        {
            "type": "RUN_COMPLETED",
            "payload": {"run": {"id": "run_1", "tags": [TAG], "output": 1}},
            "timestamp": AT,
        },
        {
            "type": "RUN_COMPLETED",
            "data": {"run": {"id": "run_1", "tags": [TAG], "output": 1}, "timestamp": AT},
        },
        {
            "type": "RUN_COMPLETED",
            "run": {"id": "run_1", "tags": [TAG], "output": 1},
            "timestamp": "2026-11-22T10:00:00",
        },
    ],
)
def test_the_guide_s_shapes(body: dict[str, Any]) -> None:
    event = parse_event(body)
    assert event is not None
    assert (event.job, event.report.output, event.report.at) == ((JOB, 3), 1, MOMENT)
    assert event.report.authority is Authority.HOOK


def alert(**run: Any) -> dict[str, Any]:
    """The body of Trigger.dev's contract, 15.2."""
    return {
        "id": "alert_1",
        "created": LATER,
        "webhookVersion": "v1",
        "type": "alert.run.failed",
        "object": {
            "task": {"id": "echo", "filePath": "src/trigger/echo.ts", "exportName": "echo", "version": "1"},
            "run": {
                "id": "run_1",
                "number": 42,
                "status": "FAILED",
                "createdAt": AT,
                "startedAt": AT,
                "completedAt": AT,
                "isTest": False,
                "tags": ["a", TAG],
                "error": {
                    "type": "BUILT_IN_ERROR",
                    "name": "TypeError",
                    "message": "boom",
                    "stackTrace": "at x",
                },
            }
            | run,
            "environment": {"id": "1", "type": "PRODUCTION", "slug": "prod"},
            "organization": {"id": "1", "slug": "o", "name": "O"},
            "project": {"id": "1", "ref": "proj_1", "slug": "p", "name": "P"},
        },
    }


def test_trigger_dev_s_alert_is_the_engine_s_word() -> None:
    event = parse_event(alert())
    assert event is not None
    assert (event.task, event.job) == ("echo", (JOB, 3))
    report = event.report
    assert (report.status, report.authority, report.started, report.at) == (
        JobStatus.FAILED,
        Authority.ENGINE,
        True,
        MOMENT,
    )
    assert report.error == {"name": "TypeError", "message": "boom", "stack": "at x"}


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("CRASHED", JobStatus.CRASHED),
        ("TIMED_OUT", JobStatus.TIMED_OUT),
        ("COMPLETED", JobStatus.FAILED),
        ("NEW", JobStatus.FAILED),
    ],
)
def test_an_alert_s_status_is_always_a_failure(word: str, status: JobStatus) -> None:
    event = parse_event(alert(status=word, startedAt=None, completedAt=None))
    assert event is not None
    assert (event.report.status, event.report.started) == (status, None)
    assert event.report.at == MOMENT.replace(second=5)


@pytest.mark.parametrize(
    "kind", ["alert.error", "alert.deployment.success", "alert.deployment.failed", "alert.new"]
)
def test_other_alerts_are_accepted_and_say_nothing(kind: str) -> None:
    assert parse_event({"id": "alert_1", "type": kind, "object": {}}) is None


@pytest.mark.parametrize(
    ("error", "read"),
    [
        (None, None),
        ("boom", {"name": "Error", "message": "boom"}),
        ({"message": "boom", "name": "E"}, {"name": "E", "message": "boom"}),
        ({"type": "STRING_ERROR", "raw": "boom"}, {"name": "Error", "message": "boom"}),
        ({"name": "E", "message": "m", "stack": "s"}, {"name": "E", "message": "m", "stack": "s"}),
    ],
)
def test_errors_of_every_shape(error: Any, read: Any) -> None:
    assert lifecycle("RUN_FAILED", error=error).report.error == read


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": 7},
        {"type": "RUN_SOMETHING", "run": {"id": "run_1"}},
        {"type": "RUN_STARTED"},
        {"type": "RUN_STARTED", "run": "run_1"},
        {"type": "RUN_STARTED", "run": {"id": ""}},
        {"type": "RUN_STARTED", "run": {"id": "a\x00b"}},
        {"type": "RUN_STARTED", "run": {"id": "r"}, "timestamp": "yesterday"},
        {"type": "RUN_STARTED", "run": {"id": "r"}, "timestamp": "0001-01-01T00:00:00+23:59"},
        {"type": "RUN_STARTED", "run": {"id": "r"}, "source": "root"},
        {"type": "RUN_STARTED", "run": {"id": "r", "attempt": -1}},
        {"type": "RUN_STARTED", "run": {"id": "r"}, "job": {"id": "x", "epoch": 1}},
        {"type": "RUN_STARTED", "run": {"id": "r"}, "job": {"id": str(JOB), "epoch": 2**31}},
        {"type": "alert.run.failed"},
        {"type": "alert.run.failed", "object": {"run": {}}},
    ],
)
def test_what_cannot_be_read_says_where_and_never_what(body: dict[str, Any]) -> None:
    with pytest.raises(MalformedEventError) as caught:
        parse_event(body)
    assert "yesterday" not in str(caught.value)


WORDS = st.sampled_from(
    [
        "RUN_STARTED",
        "RUN_COMPLETED",
        "RUN_FAILED",
        "alert.run.failed",
        "alert.error",
        "hook",
        "engine",
        "FAILED",
        AT,
        TAG,
    ]
)
KEYS = st.sampled_from(
    [
        "type",
        "event",
        "data",
        "payload",
        "run",
        "id",
        "job",
        "epoch",
        "object",
        "task",
        "timestamp",
        "source",
        "status",
        "tags",
        "attempt",
        "error",
        "output",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)


@given(st.dictionaries(KEYS, VALUES, max_size=6), WORDS)
def test_nothing_but_a_malformed_event_error_is_ever_raised(body: dict[str, Any], kind: str) -> None:
    try:
        event = parse_event(body | {"type": kind})
    except MalformedEventError:
        return
    assert event is None or event.report.run_id
    # What was read can be told again.
    json.dumps(event and str(event.report.status))
