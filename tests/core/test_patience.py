"""Handlers that do not end when they are told to: given a grace, left behind, and fenced."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from adapter import Adapter, JobContext, JobEnd
from adapter.core.threads import HandlerThreads
from adapter.core.worker import Worker
from tests import stage
from tests.kit import eventually
from tests.rig import Rig
from tests.stage import Stage

#: Time enough for a thread to begin on a busy machine.
SOON = timedelta(milliseconds=500)
GRACE: dict[str, Any] = {"worker_cancel_grace_seconds": 0.05, "worker_grace_seconds": 0, "worker_threads": 2}


@asynccontextmanager
async def playing(
    url: str, declare: Callable[[Adapter, Stage], None] | None = None, **options: Any
) -> AsyncGenerator[tuple[Rig, Stage]]:
    async with stage.playing(url, declare or stubborn, **(GRACE | options)) as played:
        yield played


@asynccontextmanager
async def running(worker: Worker) -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        yield
        worker.stop()


def stubborn(adapter: Adapter, stage: Stage) -> None:
    @adapter.task("async")
    async def swallows(payload: Any, ctx: JobContext) -> str:
        stage.seen.append(ctx)
        while not stage.gate.is_set():
            try:
                await stage.gate.wait()
            except asyncio.CancelledError:
                stage.seen.append("swallowed")
        ctx.metadata.set("late", True)
        stage.seen.append("ended")
        return "late"

    @adapter.task("thread")
    def hangs(payload: Any, ctx: JobContext) -> str:
        stage.seen.append(ctx)
        stage.thread_gate.wait(10)
        ctx.metadata.set("late", True)
        stage.seen.append("ended")
        return "late"

    @adapter.task("polite")
    def polite(payload: Any, ctx: JobContext) -> str:
        stage.seen.append(ctx)
        while True:
            ctx.raise_if_canceled()
            stage.thread_gate.wait(0.005)

    @adapter.task("late")
    async def late(payload: Any, ctx: JobContext) -> str:
        try:
            await stage.gate.wait()
        except asyncio.CancelledError:
            return "a result all the same"
        return "never"

    @adapter.task("quick")
    def quick(payload: Any) -> str:
        return "done"

    @adapter.task("quick-async")
    async def quick_async(payload: Any) -> str:
        return "done"

    del swallows, hangs, polite, late, quick, quick_async


async def has_status(rig: Rig, job_id: UUID, status: str) -> bool:
    return await rig.status(job_id) == status


@pytest.mark.parametrize("task", ["async", "thread"])
async def test_out_of_time_it_is_left_behind_and_what_it_does_later_counts_for_nothing(
    database_url: str, task: str
) -> None:
    async with playing(database_url) as (rig, stage):
        job = await rig.adapter.schedule_job(task, max_duration=SOON)
        worker = rig.worker(concurrency=1)
        async with running(worker):
            await eventually(lambda: has_status(rig, job.id, "TIMED_OUT"))
            assert rig.adapter.observers.counts["abandoned"] == 1
            assert stage.seen[0].is_canceled
            # Its slot is free.
            after = await rig.adapter.schedule_job("quick-async")
            await eventually(lambda: has_status(rig, after.id, "COMPLETED"))
            stage.gate.set()
            stage.thread_gate.set()
            await eventually(lambda: stage.seen[-1] == "ended")
        row = await rig.row(job.id)
        assert (row["status"], row["result"], row["metadata"]) == ("TIMED_OUT", None, None)
        assert row["error"]["name"] == "TimedOut"


@pytest.mark.parametrize("task", ["async", "thread"])
async def test_canceled_it_is_left_behind(database_url: str, task: str) -> None:
    async with playing(database_url) as (rig, stage):
        job = await rig.adapter.schedule_job(task)
        worker = rig.worker(concurrency=1)
        async with running(worker):
            await eventually(lambda: stage.seen)
            await rig.adapter.cancel_job(job.id)
            worker.cancel_tries([job.id])
            await eventually(lambda: has_status(rig, job.id, "CANCELED"))
            # The row shows it before the worker has heard that it is written.
            await eventually(lambda: worker.running == 0)
        assert rig.adapter.observers.counts["abandoned"] == 1


@pytest.mark.parametrize("task", ["async", "thread"])
async def test_it_does_not_hold_the_stop_of_its_worker(database_url: str, task: str) -> None:
    async with playing(database_url) as (rig, stage):
        job = await rig.adapter.schedule_job(task)
        worker = rig.worker()
        async with running(worker):
            await eventually(lambda: stage.seen)
        row = await rig.row(job.id)
        assert (row["status"], row["attempt"], row["worker_id"]) == ("QUEUED", 0, None)
        assert await rig.value("SELECT count(*) FROM {s}.workers") == 0
        # Nor the end of the event loop, which waits for every task it knows.
        assert not [each for each in asyncio.all_tasks() if each.get_name() == f"job {job.id}"]


async def test_a_thread_that_looks_ends_within_its_grace(database_url: str) -> None:
    async with playing(database_url, worker_cancel_grace_seconds=5) as (rig, _):
        job = await rig.adapter.schedule_job("polite", max_duration=SOON)
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["error"]["name"]) == ("TIMED_OUT", "TimedOut")
        assert rig.adapter.observers.counts["abandoned"] == 0


async def test_a_result_that_comes_too_late_is_none(database_url: str) -> None:
    async with playing(database_url) as (rig, _):
        job = await rig.adapter.schedule_job("late", max_duration=SOON)
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["result"]) == ("TIMED_OUT", None)


async def test_hanging_threads_are_replaced_and_when_there_are_too_many_threads_are_refused(
    database_url: str,
) -> None:
    async with playing(database_url) as (rig, stage):
        jobs = [await rig.adapter.schedule_job("thread", max_duration=SOON) for _ in range(4)]
        worker = rig.worker()
        rig.adapter._workers.append(worker)
        async with running(worker):
            for job in jobs:
                await eventually(lambda job=job: has_status(rig, job.id, "TIMED_OUT"))
            # Two ran at once, two more in the places of those that hang; as many again would be too many.
            assert await rig.adapter.probe() == {"worker": worker.problem}
            assert "threads hang" in str(worker.problem)
            refused = await rig.adapter.schedule_job("quick")
            taken = await rig.adapter.schedule_job("quick-async")
            await eventually(lambda: has_status(rig, refused.id, "DELAYED"))
            await eventually(lambda: has_status(rig, taken.id, "COMPLETED"))
            row = await rig.row(refused.id)
            assert (row["attempt"], await rig.events(refused.id)) == (0, ["returned"])
            stage.thread_gate.set()
            await eventually(lambda: worker.problem is None)
            await rig.set(refused.id, "due = now()")
            await rig.adapter.maintenance.run_once()
            worker.look_again()
            await eventually(lambda: has_status(rig, refused.id, "COMPLETED"))


async def test_a_hook_that_hangs_in_a_thread_is_left_behind(database_url: str) -> None:
    def declare(adapter: Adapter, stage: Stage) -> None:
        def hangs(payload: Any, ctx: JobContext, end: JobEnd) -> None:
            stage.thread_gate.wait(10)

        @adapter.task("task", on_complete=hangs)
        async def task(payload: Any) -> int:
            return 1

        del task

    async with playing(database_url, declare, worker_hook_seconds=SOON.total_seconds()) as (rig, _):
        job = await rig.adapter.schedule_job("task")
        await rig.work()
        assert (await rig.row(job.id))["result"] == 1
        assert rig.adapter.observers.counts["abandoned"] == 1


# ---- threads alone -------------------------------------------------------------------------------


async def run(threads: HandlerThreads, function: Callable[[], Any], grace: float = 0.02) -> Any:
    return await threads.run(function, grace=grace, on_cancel=lambda: None, on_abandoned=lambda: None)


async def test_threads_run_no_more_at_once_than_they_are() -> None:
    threads, lock, now, most = HandlerThreads(3, 3), threading.Lock(), 0, 0
    gate = threading.Event()

    def work() -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        gate.wait(0.005)
        with lock:
            now -= 1
        return 1

    assert sum(await asyncio.gather(*(run(threads, work) for _ in range(50)))) == 50
    assert most == 3
    threads.shutdown()


async def test_what_had_not_begun_is_taken_back_and_costs_no_thread() -> None:
    threads, gate, began = HandlerThreads(1, 1), threading.Event(), list[int]()

    def block() -> None:
        began.append(1)
        gate.wait(10)

    async with asyncio.TaskGroup() as group:
        first = group.create_task(run(threads, block, grace=10))
        await eventually(lambda: began)
        second = group.create_task(run(threads, lambda: began.append(2), grace=10))
        await asyncio.wait({second}, timeout=0.01)
        second.cancel()
        await asyncio.wait({second})
        gate.set()
        await first
    assert await run(threads, lambda: 3) == 3
    assert (began, threads.abandoned) == ([1], 0)
    threads.shutdown()


async def test_an_abandoned_thread_ends_when_its_function_does() -> None:
    threads, gate = HandlerThreads(1, 1), threading.Event()
    names: list[str] = []

    def hang() -> None:
        names.append(threading.current_thread().name)
        gate.wait(10)

    async with asyncio.TaskGroup() as group:
        hanging = group.create_task(run(threads, hang))
        await eventually(lambda: names)
        hanging.cancel()
    assert hanging.cancelled()
    assert threads.is_exhausted
    assert await run(threads, lambda: threading.current_thread().name) != names[0]
    gate.set()
    await eventually(lambda: not threads.is_exhausted)
    await eventually(lambda: names[0] not in {each.name for each in threading.enumerate()})
    threads.shutdown()
    await eventually(
        lambda: not [each for each in threading.enumerate() if each.name.startswith(names[0][:11])]
    )
