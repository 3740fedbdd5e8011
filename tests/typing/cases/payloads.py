"""What both type checkers must say of a task's payload and result.

A line that is wrong on purpose ends with the rule each checker must report there, and no other line may
be reported: ``# error: <mypy's code> <pyright's rule>``.
"""

from typing import Any, assert_type

from pydantic import BaseModel

from adapter import Adapter, Batch, BatchItem, JobContext, JobHandle, JobSpec, Task

adapter = Adapter()


class Dataset(BaseModel):
    dataset_id: str


@adapter.task("async-with-context")
async def first(payload: Dataset, ctx: JobContext) -> dict[str, int]:
    return {"attempt": ctx.attempt}


@adapter.task("async-alone")
async def second(payload: Dataset) -> int:
    return 1


@adapter.task("sync-with-context")
def third(payload: Dataset, ctx: JobContext) -> str:
    return payload.dataset_id


@adapter.task("sync-alone")
def fourth(payload: list[int]) -> float:
    return 1.0


report = adapter.remote_task("report", payload=Dataset, executor="trigger")


@adapter.task("batch", batch=Batch(size=10))
async def fifth(items: list[BatchItem[Dataset]]) -> list[int]:
    return [len(item.payload.dataset_id) for item in items]


@adapter.task("batch-sync", batch=Batch())
def sixth(items: list[BatchItem[Dataset]]) -> None:
    return None


assert_type(first, Task[Dataset, dict[str, int]])
assert_type(second, Task[Dataset, int])
assert_type(third, Task[Dataset, str])
assert_type(fourth, Task[list[int], float])
assert_type(fifth, Task[Dataset, int])
assert_type(sixth, Task[Dataset, None])
assert_type(report, Task[Dataset, Any])


async def right() -> None:
    job = await first.schedule(Dataset(dataset_id="1"), tag="t", priority=1)
    assert_type(job, JobHandle[dict[str, int]])
    assert_type(await job.result(), dict[str, int])
    jobs = await fourth.schedule_many([fourth.job([1]), fourth.job([2], tag="x")])
    assert_type(await jobs[0].result(), float)
    assert_type(first.job(Dataset(dataset_id="1")), JobSpec)


async def wrong() -> None:
    await first.schedule("1")  # error: arg-type reportArgumentType
    await second.schedule({"dataset_id": "1"})  # error: arg-type reportArgumentType
    await third.schedule(None)  # error: arg-type reportArgumentType
    await fourth.schedule(["1"])  # error: list-item reportArgumentType
    await fifth.schedule("1")  # error: arg-type reportArgumentType
    await report.schedule(1)  # error: arg-type reportArgumentType
    third.job(3)  # error: arg-type reportArgumentType
    await first.schedule(Dataset(dataset_id="1"), tag=5)  # error: arg-type reportArgumentType
    await first.schedule(Dataset(dataset_id="1"), retires=5)  # error: call-arg reportCallIssue
    job = await second.schedule(Dataset(dataset_id="1"))
    text: str = await job.result()  # error: assignment reportAssignmentType
    del text
