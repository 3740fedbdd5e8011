"""Batch handlers: one call for several jobs, each of which comes to an end of its own."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from adapter import (
    AbortJobError,
    Adapter,
    Batch,
    BatchItem,
    JobContext,
    JobHandle,
    JobSpec,
    RetryJobError,
    RetryPolicy,
)
from adapter.domain.errors import InvalidArgumentError, TaskDefinitionError
from tests.kit import eventually
from tests.rig import Rig, rigged

ONCE = RetryPolicy(max_attempts=1)
QUICK = RetryPolicy(max_attempts=2, min_timeout_in_ms=0, max_timeout_in_ms=0)


class Order(BaseModel):
    number: int


Items = list[BatchItem[Order]]
Handler = Callable[[Items], Any]


@asynccontextmanager
async def batching(
    url: str, handler: Handler, *, batch: Batch | None = None, **options: Any
) -> AsyncGenerator[Rig]:
    def declare(adapter: Adapter) -> None:
        adapter.task("meter", batch=batch or Batch(), **options)(handler)

    async with rigged(url, declare) as rig:
        yield rig


async def ordered(rig: Rig, count: int) -> Sequence[JobHandle[Any]]:
    return await rig.adapter.schedule_specs([JobSpec("meter", {"number": each}, {}) for each in range(count)])


async def test_one_call_for_what_one_claim_brought_results_in_order(database_url: str) -> None:
    calls: list[int] = []

    async def meter(items: Items) -> list[int]:
        calls.append(len(items))
        return [item.payload.number * 2 for item in items]

    async with batching(database_url, meter) as rig:
        jobs = await ordered(rig, 20)
        assert await rig.work() == 20
        assert calls == [20]
        assert [await job.result() for job in jobs] == [number * 2 for number in range(20)]
        assert {(await rig.row(job.id))["attempt"] for job in jobs} == {1}


async def test_a_thousand_jobs_each_started_once(database_url: str) -> None:
    seen: list[int] = []
    sizes: list[int] = []

    async def meter(items: Items) -> None:
        sizes.append(len(items))
        seen.extend(item.payload.number for item in items)

    async with batching(database_url, meter, batch=Batch(size=40)) as rig:
        jobs = await ordered(rig, 1000)
        worker = rig.worker()
        assert await worker.run_until_idle() == 1000
        assert sorted(seen) == list(range(1000))
        assert max(sizes) == 40
        assert len(sizes) < 80
        rows = await rig.sql("SELECT id, status, attempt FROM {s}.worker_jobs_finished")
        assert {row["id"] for row in rows} == {job.id for job in jobs}
        assert {(row["status"], row["attempt"]) for row in rows} == {("COMPLETED", 1)}
        assert await rig.value("SELECT count(*) FROM {s}.job_events") == 0


async def test_each_job_has_an_outcome_of_its_own(database_url: str) -> None:
    async def meter(items: Items) -> list[str]:
        for item in items:
            match item.payload.number:
                case 0:
                    item.fail(AbortJobError("never"))
                case 1:
                    item.retry("busy", delay=timedelta(hours=1))
                case 2:
                    item.snooze(timedelta(hours=1), "later")
                case 3:
                    item.complete("early")
                case 4:
                    item.fail(ValueError("once more"))
                case _:
                    continue
            with pytest.raises(InvalidArgumentError, match="has an outcome already"):
                item.complete("twice")
        return ["returned" for _ in items]

    async with batching(
        database_url, meter, retry=RetryPolicy(max_attempts=2, min_timeout_in_ms=60_000)
    ) as rig:
        jobs = await ordered(rig, 6)
        await rig.work()
        rows = [await rig.row(job.id) for job in jobs]
        assert [row["status"] for row in rows] == [
            "FAILED",
            "DELAYED",
            "DELAYED",
            "COMPLETED",
            "DELAYED",
            "COMPLETED",
        ]
        assert [row["attempt"] for row in rows] == [1, 1, 0, 1, 1, 1]
        assert [row["error"] and row["error"]["message"] for row in rows] == [
            "never",
            "busy",
            None,
            None,
            "once more",
            None,
        ]
        assert (rows[3]["result"], rows[5]["result"]) == ("early", "returned")


async def test_an_exception_is_that_of_all_that_nothing_was_said_of(database_url: str) -> None:
    async def meter(items: Items) -> None:
        items[0].complete("kept")
        raise ValueError("the meter is broken")

    async with batching(database_url, meter, retry=QUICK) as rig:
        jobs = await ordered(rig, 5)
        await rig.work(2)
        rows = [await rig.row(job.id) for job in jobs]
        assert [row["status"] for row in rows] == ["COMPLETED", "COMPLETED", "FAILED", "FAILED", "FAILED"]
        stacks = [row["error"]["stack"] for row in rows[2:]]
        # One error of many jobs: raised for each from where it came, not from one another.
        assert all(stack.count("the meter is broken") == 2 for stack in stacks), stacks[0]
        assert {len(stack) for stack in stacks} == {len(stacks[0])}
        assert {row["error"]["name"] for row in rows[2:]} == {"ValueError"}


@pytest.mark.parametrize("said", [[1], "ab", 7])
async def test_what_is_no_list_of_results_fails_its_jobs(database_url: str, said: Any) -> None:
    async def meter(items: Items) -> Any:
        return said

    async with batching(database_url, meter, retry=ONCE) as rig:
        jobs = await ordered(rig, 2)
        await rig.work()
        for job in jobs:
            row = await rig.row(job.id)
            assert row["status"] == "FAILED"
            assert "'meter' returned" in row["error"]["message"]


async def test_a_payload_that_does_not_fit_fails_only_itself(database_url: str) -> None:
    sizes: list[int] = []

    async def meter(items: Items) -> None:
        sizes.append(len(items))

    async with batching(database_url, meter) as rig:
        jobs = await ordered(rig, 3)
        await rig.set(jobs[1].id, "data = '{}'")
        await rig.work()
        rows = [await rig.row(job.id) for job in jobs]
        assert [row["status"] for row in rows] == ["COMPLETED", "FAILED", "COMPLETED"]
        assert rows[1]["error"]["name"] == "InvalidPayloadError"
        assert sizes == [2]


async def test_a_result_that_is_no_json_fails_only_itself(database_url: str) -> None:
    async def meter(items: Items) -> list[Any]:
        return [object(), 1]

    async with batching(database_url, meter) as rig:
        jobs = await ordered(rig, 2)
        await rig.work()
        assert [(await rig.row(job.id))["status"] for job in jobs] == ["FAILED", "COMPLETED"]


async def test_a_handler_in_a_thread(database_url: str) -> None:
    threads: set[int] = set()

    def meter(items: Items) -> list[int]:
        threads.add(threading.get_ident())
        items[0].fail(RetryJobError("again", delay=timedelta(hours=1)))
        return [item.payload.number for item in items]

    async with batching(database_url, meter) as rig:
        jobs = await ordered(rig, 3)
        await rig.work()
        rows = [await rig.row(job.id) for job in jobs]
        assert [row["status"] for row in rows] == ["DELAYED", "COMPLETED", "COMPLETED"]
        assert threading.get_ident() not in threads


async def test_one_canceled_job_leaves_the_others_alone(database_url: str) -> None:
    gate, given = asyncio.Event(), list[BatchItem[Order]]()

    async def meter(items: Items) -> list[bool]:
        given.extend(items)
        await gate.wait()
        return [item.is_canceled for item in items]

    async with batching(database_url, meter) as rig:
        jobs = await ordered(rig, 3)
        worker = rig.worker()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(worker.run_once())
            await eventually(lambda: len(given) == 3)
            await rig.adapter.cancel_job(jobs[1].id)
            worker.cancel_tries([jobs[1].id])
            assert (await jobs[1].refresh()).cancel_requested
            await eventually(lambda: given[1].is_canceled)
            gate.set()
            await running
        rows = [await rig.row(job.id) for job in jobs]
        assert [row["status"] for row in rows] == ["COMPLETED", "CANCELED", "COMPLETED"]
        assert [row["result"] for row in rows] == [False, None, False]


async def test_a_call_that_nobody_waits_for_any_more_is_canceled(database_url: str) -> None:
    ended: list[str] = []

    async def meter(items: Items) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("canceled")
            raise

    async with batching(database_url, meter, max_duration=timedelta(milliseconds=300)) as rig:
        jobs = await ordered(rig, 3)
        await rig.work()
        assert {(await rig.row(job.id))["status"] for job in jobs} == {"TIMED_OUT"}
        await eventually(lambda: ended == ["canceled"])


async def test_a_stop_gives_the_jobs_of_a_batch_back_unspent(database_url: str) -> None:
    begun = asyncio.Event()

    async def meter(items: Items) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with batching(database_url, meter) as rig:
        jobs = await ordered(rig, 3)
        worker = rig.worker(grace=timedelta(milliseconds=50))
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await asyncio.wait_for(begun.wait(), 5)
            worker.stop()
        rows = [await rig.row(job.id) for job in jobs]
        assert {(row["status"], row["attempt"]) for row in rows} == {("QUEUED", 0)}


async def test_jobs_that_arrive_within_the_wait_are_of_the_same_call(database_url: str) -> None:
    sizes: list[int] = []

    async def meter(items: Items) -> None:
        sizes.append(len(items))

    async with batching(database_url, meter, batch=Batch(size=3, wait=timedelta(seconds=20))) as rig:
        worker = rig.worker()
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await ordered(rig, 1)
            await eventually(lambda: worker.running == 1)
            jobs = await ordered(rig, 2)
            worker.look_again()
            await jobs[-1].result(timedelta(seconds=10))
            worker.stop()
        assert sizes == [3]


async def test_a_worker_that_can_hold_no_more_waits_for_no_more(database_url: str) -> None:
    sizes: list[int] = []

    async def meter(items: Items) -> None:
        sizes.append(len(items))

    async with batching(database_url, meter, batch=Batch(size=100, wait=timedelta(hours=1))) as rig:
        await ordered(rig, 10)
        assert await rig.worker(concurrency=5).run_until_idle() == 10
        assert sizes == [5, 5]


async def test_hooks_are_those_of_each_job(database_url: str) -> None:
    seen: list[tuple[int, Any]] = []

    async def meter(items: Items) -> list[int]:
        items[0].fail(ValueError("zero"))
        return [item.payload.number for item in items]

    def succeeded(payload: Order, ctx: JobContext, result: int) -> None:
        seen.append((payload.number, result))

    def failed(payload: Order, ctx: JobContext, error: BaseException) -> None:
        seen.append((payload.number, str(error)))

    options: dict[str, Any] = {"on_success": succeeded, "on_failure": failed, "retry": ONCE}
    async with batching(database_url, meter, **options) as rig:
        await ordered(rig, 3)
        await rig.work()
    assert sorted(seen, key=lambda each: each[0]) == [(0, "zero"), (1, 1), (2, 2)]


def test_a_handler_that_takes_no_items_is_refused() -> None:
    adapter = Adapter()

    async def one(payload: Order) -> None: ...

    async def two(items: Items, ctx: JobContext) -> None: ...

    handlers: list[Any] = [one, two]
    for handler in handlers:
        with pytest.raises(TaskDefinitionError, match=r"list\[BatchItem\[Payload\]\]"):
            adapter.task("meter", batch=Batch())(handler)


@pytest.mark.parametrize(("size", "wait"), [(0, timedelta(0)), (1, timedelta(seconds=-1))])
def test_a_batch_of_nothing_is_refused(size: int, wait: timedelta) -> None:
    with pytest.raises(TaskDefinitionError, match="a size of at least 1"):
        Batch(size=size, wait=wait)
