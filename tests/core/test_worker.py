"""The worker: handlers of every form, retries, deadlines, cancels, stops, and what it does when its lease is lost."""

import asyncio
import functools
import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from adapter import AbortJobError, Adapter, JobContext, RetryJobError, RetryPolicy
from adapter.domain.errors import JobFailedError
from tests.kit import eventually
from tests.rig import Rig
from tests.stage import Stage, playing, running


class Order(BaseModel):
    number: int
    note: str = "none"


def forms(adapter: Adapter, stage: Stage) -> None:
    @adapter.task("async-payload")
    async def async_payload(order: Order) -> int:
        stage.seen.append(order)
        return order.number

    @adapter.task("async-context")
    async def async_context(order: Order, ctx: JobContext) -> dict[str, Any]:
        stage.seen.append((order, ctx.job.type))
        return {"attempt": ctx.attempt, "note": order.note}

    @adapter.task("sync-payload")
    def sync_payload(order: Order) -> str:
        stage.seen.append(threading.current_thread() is threading.main_thread())
        return order.note

    @adapter.task("sync-context")
    def sync_context(order: Order, ctx: JobContext) -> bool:
        return ctx.is_canceled

    @adapter.task("untyped")
    async def untyped(payload: Any) -> Any:
        return payload

    async def with_a_prefix(prefix: str, payload: Order) -> str:
        return f"{prefix}{payload.number}"

    adapter.task("partial")(functools.partial(with_a_prefix, "no. "))

    class Callable_:  # noqa: N801 - an object is a handler too
        async def __call__(self, payload: Order) -> int:
            return payload.number + 1

    adapter.task("object")(Callable_())
    del async_payload, async_context, sync_payload, sync_context, untyped


@pytest.mark.parametrize(
    ("task", "result"),
    [
        ("async-payload", 7),
        ("async-context", {"attempt": 1, "note": "none"}),
        ("sync-payload", "none"),
        ("sync-context", False),
        ("untyped", {"number": 7}),
        ("object", 8),
        ("partial", "no. 7"),
    ],
)
async def test_every_form_of_handler_runs_and_its_result_is_kept(
    database_url: str, task: str, result: Any
) -> None:
    async with playing(database_url, forms) as (rig, stage):
        job = await rig.adapter.schedule_job(task, {"number": 7})
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["success"], row["result"], row["attempt"]) == (
            "COMPLETED",
            True,
            result,
            1,
        )
        assert await job.result() == result
        if task == "sync-payload":
            assert stage.seen == [False]


async def test_a_stored_payload_that_no_longer_fits_fails_at_once(database_url: str) -> None:
    async with playing(database_url, forms) as (rig, stage):
        job = await rig.adapter.schedule_job("async-payload", Order(number=7))
        await rig.set(job.id, 'data = \'{"number": "seven"}\'')
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["attempt"], row["error"]["name"]) == ("FAILED", 1, "InvalidPayloadError")
        assert "seven" not in str(row["error"])
        assert stage.seen == []


def failing(adapter: Adapter, stage: Stage) -> None:
    @adapter.task(
        "fails", retry=RetryPolicy(max_attempts=3, min_timeout_in_ms=4000, factor=3, randomize=False)
    )
    async def fails(payload: Any, ctx: JobContext) -> None:
        stage.seen.append(ctx.attempt)
        raise ValueError(f"attempt {ctx.attempt}")

    @adapter.task("aborts")
    async def aborts(payload: Any) -> None:
        raise AbortJobError("no use")

    @adapter.task("again")
    async def again(payload: Any, ctx: JobContext) -> int:
        if ctx.attempt == 1:
            raise RetryJobError("not yet", delay=timedelta(minutes=7))
        return ctx.attempt

    @adapter.task("again-and-again", retry=RetryPolicy(max_attempts=2))
    async def forever(payload: Any) -> None:
        raise RetryJobError("never", delay=timedelta(0))

    @adapter.task("fails-later")
    async def fails_later(payload: Any) -> None:
        await stage.gate.wait()
        raise ValueError("late")

    del fails, aborts, again, forever, fails_later


async def _ready(rig: Rig, job_id: UUID) -> None:
    await rig.set(job_id, "due = now()")
    await rig.adapter.maintenance.run_once()


async def test_retries_wait_by_the_formula_and_end_in_the_last_error(database_url: str) -> None:
    async with playing(database_url, failing) as (rig, stage):
        job = await rig.adapter.schedule_job("fails")
        for seconds in (4, 12):
            await rig.work()
            row = await rig.row(job.id)
            assert (row["status"], row["due"] - row["updated_at"]) == ("DELAYED", timedelta(seconds=seconds))
            await _ready(rig, job.id)
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["attempt"], row["error"]["message"]) == ("FAILED", 3, "attempt 3")
        assert "ValueError" in row["error"]["stack"]
        assert stage.seen == [1, 2, 3]
        with pytest.raises(JobFailedError, match="attempt 3"):
            await job.result()


async def test_a_call_may_say_how_it_is_retried(database_url: str) -> None:
    async with playing(database_url, failing) as (rig, _):
        once = await rig.adapter.schedule_job("fails", max_attempts=1)
        other = await rig.adapter.schedule_job(
            "fails", retry={"maxAttempts": 2, "minTimeoutInMs": 9000, "randomize": False}
        )
        await rig.work()
        row = await rig.row(other.id)
        assert await rig.status(once.id) == "FAILED"
        assert row["due"] - row["updated_at"] == timedelta(seconds=9)


async def test_abort_fails_at_once_and_retry_waits_as_it_says(database_url: str) -> None:
    async with playing(database_url, failing) as (rig, _):
        aborted = await rig.adapter.schedule_job("aborts")
        again = await rig.adapter.schedule_job("again")
        spent = await rig.adapter.schedule_job("again-and-again")
        await rig.work()
        await rig.work()
        row = await rig.row(aborted.id)
        assert (row["status"], row["attempt"], row["error"]["name"]) == ("FAILED", 1, "AbortJobError")
        row = await rig.row(again.id)
        assert (row["status"], row["due"] - row["updated_at"]) == ("DELAYED", timedelta(minutes=7))
        await _ready(rig, again.id)
        await rig.work()
        assert (await rig.row(again.id))["result"] == 2
        assert (await rig.row(spent.id))["status"] == "FAILED"


def slow(adapter: Adapter, stage: Stage) -> None:
    @adapter.task("slow")
    async def slow_task(payload: Any, ctx: JobContext) -> str:
        stage.seen.append(ctx)
        try:
            await stage.gate.wait()
        except asyncio.CancelledError:
            stage.seen.append("canceled")
            raise
        return "done"

    @adapter.task("slow-thread")
    def slow_thread(payload: Any, ctx: JobContext) -> str:
        stage.seen.append(ctx)
        stage.thread_gate.wait(10)
        return "done"

    @adapter.task("stubborn")
    async def stubborn(payload: Any) -> str:
        stage.seen.append("began")
        try:
            await stage.gate.wait()
        except asyncio.CancelledError:
            stage.seen.append("ignored")
        return "done all the same"

    del slow_task, slow_thread, stubborn


@pytest.mark.parametrize("task", ["slow", "slow-thread"])
async def test_a_handler_out_of_time_times_out_and_is_told(database_url: str, task: str) -> None:
    async with playing(database_url, slow, worker_cancel_grace_seconds=0.05) as (rig, stage):
        # Time enough for a thread to begin on a busy machine.
        job = await rig.adapter.schedule_job(task, max_duration=timedelta(milliseconds=500))
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["error"]["name"], row["attempt"]) == ("TIMED_OUT", "TimedOut", 1)
        assert stage.seen[0].is_canceled


@pytest.mark.parametrize("task", ["slow", "slow-thread"])
async def test_a_running_job_is_canceled_cooperatively(database_url: str, task: str) -> None:
    async with playing(database_url, slow, worker_cancel_grace_seconds=0.05) as (rig, stage):
        job = await rig.adapter.schedule_job(task)
        worker = rig.worker(lease=timedelta(seconds=2), grace=timedelta(seconds=1))
        async with running(worker):
            await eventually(lambda: stage.seen)
            asked = await rig.adapter.cancel_job(job.id, reason="changed my mind")
            assert (asked.status, asked.cancel_requested) == ("EXECUTING", True)
            await eventually(lambda: _has_status(rig, job.id, "CANCELED"))
        assert stage.seen[0].is_canceled
        assert await rig.events(job.id) == ["cancel_requested"]


async def _has_status(rig: Rig, job_id: UUID, status: str) -> bool:
    return await rig.status(job_id) == status


async def test_a_job_that_completes_although_it_was_canceled_is_completed(database_url: str) -> None:
    async with playing(database_url, slow) as (rig, stage):
        job = await rig.adapter.schedule_job("stubborn")
        worker = rig.worker(lease=timedelta(seconds=2), grace=timedelta(seconds=1))
        async with running(worker):
            await eventually(lambda: stage.seen)
            await rig.adapter.cancel_job(job.id)
            await eventually(lambda: _has_status(rig, job.id, "COMPLETED"))
        assert stage.seen == ["began", "ignored"]


async def test_a_job_that_waits_for_its_retry_is_canceled_at_once(database_url: str) -> None:
    async with playing(database_url, failing) as (rig, stage):
        job = await rig.adapter.schedule_job("fails")
        await rig.work()
        assert (await rig.adapter.cancel_job(job.id)).status == "CANCELED"
        assert stage.seen == [1]


async def test_a_failed_try_of_a_canceled_job_is_not_repeated(database_url: str) -> None:
    async with playing(database_url, failing) as (rig, stage):
        job = await rig.adapter.schedule_job("fails-later")
        worker = rig.worker()
        await worker._register()
        await worker._fill(0)
        await rig.set(job.id, "cancel_requested = true")
        stage.gate.set()
        await worker.run_once()
        assert await rig.status(job.id) == "CANCELED"


async def test_a_graceful_stop_lets_tries_end_and_gives_the_rest_back_unspent(database_url: str) -> None:
    async with playing(database_url, slow) as (rig, stage):
        job = await rig.adapter.schedule_job("slow")
        worker = rig.worker(grace=timedelta(0))
        async with running(worker):
            await eventually(lambda: stage.seen)
        row = await rig.row(job.id)
        assert (row["status"], row["attempt"], row["worker_id"]) == ("QUEUED", 0, None)
        assert stage.seen[1:] == ["canceled"]
        assert await rig.events(job.id) == ["returned"]
        assert await rig.value("SELECT count(*) FROM {s}.workers") == 0
        stage.gate.set()
        await rig.work()
        assert (await rig.row(job.id))["result"] == "done"


async def test_a_stop_within_its_grace_finishes_what_runs_and_claims_nothing_more(database_url: str) -> None:
    async with playing(database_url, slow) as (rig, stage):
        job = await rig.adapter.schedule_job("slow")
        worker = rig.worker(concurrency=1)
        async with running(worker) as task:
            await eventually(lambda: stage.seen)
            worker.stop()
            later = await rig.adapter.schedule_job("slow")
            stage.gate.set()
            await asyncio.wait({task})
        assert [await rig.status(each.id) for each in (job, later)] == ["COMPLETED", "QUEUED"]


async def test_a_lost_heartbeat_fences_the_worker_until_one_gets_through_again(database_url: str) -> None:
    async with playing(database_url, slow, worker_grace_seconds=0) as (rig, stage):
        job = await rig.adapter.schedule_job("slow")
        worker = rig.worker()
        async with running(worker):
            await eventually(lambda: stage.seen)
            worker._fence()
            await eventually(lambda: "canceled" in stage.seen)
            stage.gate.set()
            await eventually(lambda: _has_status(rig, job.id, "COMPLETED"))
        assert rig.adapter.observers.counts["lease_lost"] == 1
        assert (await rig.row(job.id))["attempt"] == 1
        assert await rig.events(job.id) == ["returned"]


async def test_a_worker_the_database_has_forgotten_stops_what_it_runs(database_url: str) -> None:
    async with playing(database_url, slow) as (rig, stage):
        await rig.adapter.schedule_job("slow")
        worker = rig.worker(lease=timedelta(seconds=2), grace=timedelta(seconds=1))
        async with running(worker):
            await eventually(lambda: stage.seen)
            await rig.sql("DELETE FROM {s}.workers")
            await eventually(lambda: "canceled" in stage.seen)
            stage.gate.set()


async def test_a_worker_runs_no_more_than_its_concurrency(database_url: str) -> None:
    async with playing(database_url, slow) as (rig, stage):
        for _ in range(5):
            await rig.adapter.schedule_job("slow")
        worker = rig.worker(concurrency=2)
        async with running(worker):
            await eventually(lambda: len(stage.seen) == 2)
            assert worker.running == 2
            assert (
                await rig.value("SELECT count(*) FROM {s}.worker_jobs_open WHERE status = 'EXECUTING'") == 2
            )
            stage.gate.set()
            await eventually(lambda: len(stage.seen) == 5)


async def test_children_name_the_job_that_scheduled_them(database_url: str) -> None:
    def declare(adapter: Adapter, stage: Stage) -> None:
        @adapter.task("child")
        async def child(payload: int) -> int:
            return payload * 2

        @adapter.task("parent")
        async def parent(payload: int, ctx: JobContext) -> str:
            return str((await ctx.schedule_job("child", payload)).id)

        del child, parent

    async with playing(database_url, declare) as (rig, _):
        job = await rig.adapter.schedule_job("parent", 4)
        await rig.work(2)
        child = UUID((await rig.row(job.id))["result"])
        row = await rig.row(child)
        assert (row["status"], row["result"], row["parent_id"]) == ("COMPLETED", 8, job.id)
