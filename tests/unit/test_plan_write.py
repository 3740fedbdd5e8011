"""What each outcome of a try means for its row, as a table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapter.core.completion import Done, plan_write
from adapter.core.registry import Registry, TaskDefinition
from adapter.domain.outcome import (
    Errored,
    Lease,
    Returned,
    Snoozed,
    Stopped,
    Succeeded,
    TimedOut,
    TryOutcome,
)
from adapter.domain.task import RetryPolicy, TaskPolicy
from adapter.store.endings import Ending, GivingBack
from tests.rig import a_running_job, new_id

NOW = datetime(2026, 11, 26, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
MINUTE = timedelta(minutes=1)
ERROR = {"name": "ValueError", "message": "no"}
JOB = a_running_job(epoch=3, attempt=1, max_attempts=2)
LEASE = Lease(new_id(), 7)


def registry() -> Registry:
    made = Registry()
    policy = RetryPolicy(min_timeout_in_ms=4000, randomize=False)
    made.add(TaskDefinition(TaskPolicy(id="task", retry=policy, max_snoozes=2), None))
    made.add(TaskDefinition(TaskPolicy(id="endless", max_snoozes=None), None))
    made.freeze()
    return made


def plan(outcome: TryOutcome, **over: Any) -> Ending | GivingBack:
    job = replace(JOB, **over)
    planned = plan_write(Done(job, LEASE, outcome), registry())
    assert (planned.job_id, planned.epoch, planned.lease) == (job.id, 3, LEASE)
    return planned


@pytest.mark.parametrize(
    ("outcome", "over", "status", "error"),
    [
        (Succeeded({"rows": 3}), {}, "COMPLETED", None),
        (Succeeded(1), {"attempt": 2}, "COMPLETED", None),
        (Errored(ERROR), {"attempt": 2}, "FAILED", "ValueError"),
        (Errored(ERROR, retryable=False), {}, "FAILED", "ValueError"),
        (Errored(ERROR, retry_after=MINUTE), {"attempt": 2}, "FAILED", "ValueError"),
        (Errored(ERROR, retry_at=LATER), {"attempt": 2}, "FAILED", "ValueError"),
        (Errored(ERROR, retryable=False, retry_at=LATER), {}, "FAILED", "ValueError"),
        (TimedOut({"name": "TimedOut"}), {}, "TIMED_OUT", "TimedOut"),
        (Stopped("canceled"), {}, "CANCELED", "Canceled"),
        (Snoozed(MINUTE), {"extra": {"snoozes": 2}}, "FAILED", "SnoozeLimit"),
        (Snoozed(MINUTE), {"extra": {"snoozes": 3}}, "FAILED", "SnoozeLimit"),
    ],
)
def test_an_outcome_that_ends_its_job(
    outcome: TryOutcome, over: dict[str, Any], status: str, error: str | None
) -> None:
    ending = plan(outcome, **over)
    assert isinstance(ending, Ending)
    assert (ending.status, (ending.error or {}).get("name")) == (status, error)
    assert ending.result == (outcome.result if isinstance(outcome, Succeeded) else None)


@pytest.mark.parametrize(
    ("outcome", "over", "written"),
    [
        (Errored(ERROR), {}, ("retry", False, timedelta(seconds=4), None)),
        (Errored(ERROR, retry_after=MINUTE), {}, ("retry", False, MINUTE, None)),
        (Errored(ERROR, retry_after=-MINUTE), {}, ("retry", False, timedelta(0), None)),
        (Errored(ERROR, retry_at=LATER), {}, ("retry", False, None, LATER)),
        (Errored(ERROR), {"max_attempts": 3, "attempt": 2}, ("retry", False, timedelta(seconds=8), None)),
        (
            Errored(ERROR),
            {"retry": {"minTimeoutInMs": 9000, "randomize": False}},
            ("retry", False, timedelta(seconds=9), None),
        ),
        (Returned("the worker was stopped"), {}, ("returned", True, None, None)),
        (Returned("the worker was stopped"), {"attempt": 2}, ("returned", True, None, None)),
        (Snoozed(MINUTE), {}, ("snoozed", True, MINUTE, None)),
        (Snoozed(MINUTE), {"attempt": 2}, ("snoozed", True, MINUTE, None)),
        (Snoozed(MINUTE), {"extra": {"snoozes": 1}}, ("snoozed", True, MINUTE, None)),
        (Snoozed(MINUTE), {"type": "endless", "extra": {"snoozes": 10**6}}, ("snoozed", True, MINUTE, None)),
        (Snoozed(MINUTE), {"type": "unknown here"}, ("snoozed", True, MINUTE, None)),
    ],
)
def test_an_outcome_that_leaves_its_job_open(
    outcome: TryOutcome,
    over: dict[str, Any],
    written: tuple[str, bool, timedelta | None, datetime | None],
) -> None:
    back = plan(outcome, **over)
    assert isinstance(back, GivingBack)
    assert (back.kind, back.unspent, back.delay, back.at) == written
    assert not back.waits_for_executor


def test_a_job_nobody_here_can_run_waits_for_somebody_who_can() -> None:
    back = plan(Returned("no handler", runnable=False))
    assert isinstance(back, GivingBack)
    assert (back.waits_for_executor, back.unspent) == (True, True)
