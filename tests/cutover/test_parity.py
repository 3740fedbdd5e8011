"""The parity report, over what really ran: in a rollout, beside shadows, and with nothing."""

from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pydantic_core import to_jsonable_python

from adapter import Adapter, Comparison, Ignore, RetryPolicy
from adapter.domain.errors import InvalidArgumentError, TaskDefinitionError, UnknownTaskError
from adapter.domain.parity import ParityVerdict
from tests.rig import Rig, rigged

REASON = "week 1"


def tasks(adapter: Adapter) -> None:
    @adapter.task(
        "both",
        remote_id={"trigger": "both"},
        pure=True,
        retry=RetryPolicy(max_attempts=2, min_timeout_in_ms=0, max_timeout_in_ms=0),
        compare=Comparison(ignore=[Ignore("/at", until=date(2026, 1, 1)), "/never"]),
    )
    async def both(payload: int) -> int:
        if payload < 0:
            raise KeyError(payload)
        return payload

    @adapter.task("here")
    async def here(payload: int) -> None:
        del payload

    adapter.price("trigger", per_run=0.01, per_second=0.001)
    adapter.price("internal", per_second=0.002)
    del both, here


@pytest.fixture
async def rig(database_url: str) -> AsyncGenerator[Rig]:
    async with rigged(database_url, tasks) as made:
        yield made


async def ran_here(rig: Rig, *payloads: int) -> None:
    for payload in payloads:
        await rig.adapter.schedule_job("both", payload)
    await rig.work(2)


async def ran_there(rig: Rig, *statuses: str) -> None:
    for status in statuses:
        _, run = await rig.sent("both", 1, executor="trigger")
        rig.fake.start(run.id)
        if status == "COMPLETED":
            rig.fake.complete(run.id, output=1)
        else:
            rig.fake.fail(run.id, {"name": "Oops", "message": "secret"}, status=status)
    await rig.adapter.reconcile()


async def test_a_rollout_is_enough_to_compare(rig: Rig) -> None:
    await ran_here(rig, 1, 2, 3, -1)
    await ran_there(rig, "COMPLETED", "COMPLETED", "FAILED", "TIMED_OUT")
    canceled = await rig.adapter.schedule_job("both", 5)
    await canceled.cancel()
    await rig.adapter.schedule_job("here", 1)
    await rig.work()
    report = await rig.adapter.parity(at_least=4, margin=0.5, reference="trigger")
    (found,) = report.tasks
    assert (found.task, found.reference) == ("both", "trigger")
    here, there = found.executors
    assert (here.executor, here.jobs, here.succeeded, here.success) == ("local", 4, 3, 0.75)
    assert here.statuses == {"COMPLETED": 3, "FAILED": 1, "CANCELED": 1}
    assert (here.errors, here.attempts, here.lag) == ({"KeyError": 1}, 1.25, None)
    assert (there.jobs, there.errors, there.statuses["TIMED_OUT"]) == (4, {"Oops": 2}, 1)
    assert here.wait is not None
    assert here.run is not None
    assert there.lag is not None
    assert 0 <= here.wait.p50 <= here.wait.p95 <= here.wait.p99 < 60
    (verdict,) = found.verdicts
    assert verdict.executor == "local"
    assert report.verdict is verdict.verdict is ParityVerdict.PASS
    # As a document: every figure, and nothing of any payload, result or message.
    document = to_jsonable_python(report)
    assert document["tasks"][0]["executors"][1]["success_low"] == pytest.approx(0.15, abs=0.01)
    assert "secret" not in str(document)


async def test_copies_are_held_against_their_jobs(rig: Rig) -> None:
    await rig.adapter.shadow("both", mode="execute", at="local", reason=REASON, most_open=4)
    await rig.sql("UPDATE {s}.executor_flags SET updated_at = now() - interval '1 minute'")
    await ran_there(rig, "COMPLETED", "COMPLETED", "FAILED", "COMPLETED")
    await rig.adapter.shadows.run_once(timedelta(0))
    await rig.work()
    await rig.adapter.shadows.run_once(timedelta(0))
    report = await rig.adapter.parity("both", at_least=4)
    (found,) = report.tasks
    assert found.reference == "trigger"
    assert [each.executor for each in found.executors] == ["trigger"]
    assert found.expired == ["/at (until 2026-01-01)"]
    (copies,) = found.shadows
    assert (copies.executor, copies.equal, copies.different, copies.dropped) == ("local", 3, 1, 0)
    assert copies.paths == {"/error": 1, "/result": 1, "/status": 1}
    (mismatch,) = copies.mismatches
    assert mismatch.detail == {
        "record": {"status": "FAILED", "error": "Oops"},
        "shadow": {"status": "COMPLETED", "error": None},
    }
    assert copies.took is not None
    assert report.verdict is ParityVerdict.FAIL
    assert "secret" not in str(to_jsonable_python(report))


async def test_what_had_to_be_put_right_is_counted(rig: Rig) -> None:
    await ran_here(rig, 1)
    job = await rig.adapter.schedule_job("both", 1, executor="trigger")
    rig.fake.next_fault("timeout_after", on="trigger")
    await rig.dispatch(job.id)
    await rig.due_now(job.id)
    await rig.dispatch(job.id)
    run = rig.fake.runs[(await rig.row(job.id))["remote_run_id"]]
    rig.fake.start(run.id)
    rig.fake.complete(run.id, output=1)
    await rig.adapter.reconcile()
    found = (await rig.adapter.parity()).tasks[0].executors[1]
    assert found.repairs == {"submit_unknown": 1}


async def test_the_window_and_the_waits_are_those_of_the_database(rig: Rig) -> None:
    await ran_here(rig, 1)
    await rig.sql(
        "UPDATE {s}.worker_jobs_finished SET created_at = now() - interval '110 s', due = now() - interval '100 s',"
        " started = now() - interval '90 s', finished = now() - interval '70 s'"
    )
    found = (await rig.adapter.parity("both")).tasks[0].executors[0]
    assert found.wait is not None
    assert found.run is not None
    assert (round(found.wait.p99), round(found.run.p50)) == (10, 20)
    # A due that a retry has moved is not when the job could start.
    await rig.sql("UPDATE {s}.worker_jobs_finished SET due = now() - interval '75 s'")
    found = (await rig.adapter.parity("both")).tasks[0].executors[0]
    assert found.wait is not None
    assert round(found.wait.p99) == 20
    assert (await rig.adapter.parity("both", since=timedelta(minutes=1))).tasks[0].executors == []


async def test_nothing_that_ran_is_not_parity(rig: Rig) -> None:
    report = await rig.adapter.parity()
    assert (report.tasks, report.verdict) == ([], ParityVerdict.INCONCLUSIVE)
    # One executor has nobody to be held against.
    await ran_here(rig, 1)
    assert (await rig.adapter.parity()).tasks == []
    named = await rig.adapter.parity("both")
    assert [each.executor for each in named.tasks[0].executors] == ["local"]
    assert (named.tasks[0].verdicts, named.verdict) == ([], ParityVerdict.INCONCLUSIVE)


@pytest.mark.parametrize(
    "since",
    [timedelta(0), timedelta(days=-1), datetime(2999, 1, 1, tzinfo=UTC), datetime(2026, 1, 1)],  # noqa: DTZ001 - naive on purpose
)
async def test_a_window_lies_in_the_past(rig: Rig, since: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="since="):
        await rig.adapter.parity("both", since=since)


async def test_a_task_nobody_knows_is_an_error_and_prices_are_declared_in_time(rig: Rig) -> None:
    with pytest.raises(UnknownTaskError):
        await rig.adapter.parity("bth")
    with pytest.raises(TaskDefinitionError, match="after the adapter was opened"):
        rig.adapter.price("trigger", per_run=1)
