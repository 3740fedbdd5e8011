"""Lifecycle hooks and middleware: when they are called, with what, and what they cannot spoil."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from adapter import AbortJobError, Adapter, JobContext, JobEnd, RetryPolicy
from adapter.domain.errors import TaskDefinitionError
from adapter.store import rescuing
from tests.kit import eventually
from tests.rig import Rig, rigged

QUICK = RetryPolicy(max_attempts=2, min_timeout_in_ms=0, max_timeout_in_ms=0)
Declare = Callable[[Adapter, list[Any]], None]


class Order(BaseModel):
    number: int


@asynccontextmanager
async def playing(url: str, declare: Declare, **options: Any) -> AsyncGenerator[tuple[Rig, list[Any]]]:
    seen: list[Any] = []
    async with rigged(url, lambda adapter: declare(adapter, seen), **options) as rig:
        yield rig, seen


def hook_all_tasks(adapter: Adapter, seen: list[Any]) -> None:
    @adapter.middleware
    @asynccontextmanager
    async def everywhere(ctx: JobContext) -> AsyncGenerator[None]:
        seen.append("in all")
        try:
            yield
        finally:
            seen.append("out all")

    @adapter.on_start
    async def started(payload: Any, ctx: JobContext) -> None:
        seen.append("start all")

    @adapter.on_success
    async def succeeded(payload: Any, ctx: JobContext, result: Any) -> None:
        seen.append(("success all", result))

    @adapter.on_failure
    def failed(payload: Any, ctx: JobContext, error: BaseException) -> None:
        seen.append(("failure all", str(error)))

    @adapter.on_cancel
    async def canceled(payload: Any, ctx: JobContext) -> None:
        seen.append("cancel all")

    @adapter.on_complete
    async def completed(payload: Any, ctx: JobContext, end: JobEnd) -> None:
        seen.append(("complete all", end.status.value))

    del everywhere, started, succeeded, failed, canceled, completed


def hooked(adapter: Adapter, seen: list[Any]) -> None:
    """Every hook there is, of all tasks and of one."""
    hook_all_tasks(adapter, seen)

    @asynccontextmanager
    async def around(ctx: JobContext) -> AsyncGenerator[None]:
        seen.append("in task")
        try:
            yield
        finally:
            seen.append("out task")

    @adapter.task("order", retry=QUICK, middleware=around)
    async def order(payload: Order, ctx: JobContext) -> Order:
        seen.append(f"run {ctx.attempt}")
        if payload.number == 0:
            raise ValueError(f"attempt {ctx.attempt}")
        if payload.number < 0:
            await asyncio.Event().wait()
        return payload

    @order.on_start
    def order_started(payload: Order, ctx: JobContext) -> None:
        seen.append(("start task", payload.number, threading.current_thread() is threading.main_thread()))

    @order.on_success
    async def order_succeeded(payload: Order, ctx: JobContext, result: Order) -> None:
        seen.append(("success task", result))

    @order.on_failure
    async def order_failed(payload: Order, ctx: JobContext, error: BaseException) -> None:
        seen.append(("failure task", type(error).__name__, ctx.attempt))

    @order.on_cancel
    async def order_canceled(payload: Order, ctx: JobContext) -> None:
        seen.append("cancel task")

    @order.on_complete
    async def order_completed(payload: Order, ctx: JobContext, end: JobEnd) -> None:
        seen.append(("complete task", end.status.value, end.result, end.error is None))

    @adapter.task("plain")
    async def plain(payload: Any) -> None: ...

    del order_started, order_succeeded, order_failed, order_canceled, order_completed, plain


async def test_a_job_that_completes_calls_them_in_order_each_once(database_url: str) -> None:
    async with playing(database_url, hooked) as (rig, seen):
        job = await rig.adapter.schedule_job("order", {"number": 7})
        await rig.work()
        assert await rig.status(job.id) == "COMPLETED"
        assert seen == [
            "in all",
            "in task",
            "start all",
            ("start task", 7, False),
            "run 1",
            "out task",
            "out all",
            ("success all", Order(number=7)),
            ("success task", Order(number=7)),
            ("complete all", "COMPLETED"),
            ("complete task", "COMPLETED", Order(number=7), True),
        ]


async def test_a_failure_is_told_when_no_attempt_is_left_and_a_start_only_once(database_url: str) -> None:
    async with playing(database_url, hooked) as (rig, seen):
        job = await rig.adapter.schedule_job("order", {"number": 0})
        await rig.work()
        assert seen[-3:] == ["run 1", "out task", "out all"]
        seen.clear()
        await rig.work()
        assert await rig.status(job.id) == "FAILED"
        assert seen == [
            "in all",
            "in task",
            "run 2",
            "out task",
            "out all",
            ("failure all", "attempt 2"),
            ("failure task", "ValueError", 2),
            ("complete all", "FAILED"),
            ("complete task", "FAILED", None, False),
        ]


async def test_running_out_of_time_is_a_failure(database_url: str) -> None:
    async with playing(database_url, hooked) as (rig, seen):
        job = await rig.adapter.schedule_job("order", {"number": -1}, max_duration=timedelta(milliseconds=50))
        await rig.work()
        assert await rig.status(job.id) == "TIMED_OUT"
        assert seen[-4:] == [
            ("failure all", "It ran longer than its max_duration of 0.05 s."),
            ("failure task", "TimeoutError", 1),
            ("complete all", "TIMED_OUT"),
            ("complete task", "TIMED_OUT", None, False),
        ]


async def test_a_cancel_while_it_runs_is_told(database_url: str) -> None:
    async with playing(database_url, hooked) as (rig, seen):
        job = await rig.adapter.schedule_job("order", {"number": -1})
        worker = rig.worker(lease=timedelta(seconds=2))
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await eventually(lambda: "run 1" in seen)
            await rig.adapter.cancel_job(job.id)
            await eventually(lambda: _ended(rig, job.id))
            worker.stop()
        assert await rig.status(job.id) == "CANCELED"
        assert seen[-4:] == [
            "cancel all",
            "cancel task",
            ("complete all", "CANCELED"),
            ("complete task", "CANCELED", None, False),
        ]


async def _ended(rig: Rig, job_id: Any) -> bool:
    return (await rig.row(job_id)).get("finished") is not None


async def test_a_stop_of_the_worker_ends_no_job_and_tells_nobody(database_url: str) -> None:
    async with playing(database_url, hooked, worker_grace_seconds=0) as (rig, seen):
        job = await rig.adapter.schedule_job("order", {"number": -1})
        worker = rig.worker()
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await eventually(lambda: "run 1" in seen)
            worker.stop()
        row = await rig.row(job.id)
        assert (row["status"], row["attempt"]) == ("QUEUED", 0)
        assert seen[-2:] == ["out task", "out all"]


async def test_what_no_worker_saw_the_end_of_calls_nothing(database_url: str) -> None:
    async with playing(database_url, hooked) as (rig, seen):
        canceled = await rig.adapter.schedule_job("order", {"number": 1})
        assert (await rig.adapter.cancel_job(canceled.id)).status == "CANCELED"
        crashed = await rig.adapter.schedule_job("order", {"number": 1}, max_attempts=1)
        lease, _ = await rig.claim()
        async with rig.adapter.database.connection() as conn:
            await rescuing.rescue(
                conn, rig.schema, [], unknown=[lease.worker_id], lease=timedelta(days=-1000)
            )
        assert await rig.status(crashed.id) == "CRASHED"
        assert seen == []


async def test_a_payload_that_no_longer_fits_is_told_as_it_is_stored(database_url: str) -> None:
    async with playing(database_url, hooked) as (rig, seen):
        job = await rig.adapter.schedule_job("order", {"number": 7})
        await rig.set(job.id, 'data = \'{"number": "seven"}\'')
        await rig.work()
        assert await rig.status(job.id) == "FAILED"
        assert [each[0] for each in seen] == [
            "failure all",
            "failure task",
            "complete all",
            "complete task",
        ]


async def test_a_start_hook_that_fails_fails_the_attempt(database_url: str) -> None:
    def declare(adapter: Adapter, seen: list[Any]) -> None:
        def refuse(payload: Any, ctx: JobContext) -> None:
            raise AbortJobError("not today")

        @adapter.task("task", on_start=refuse)
        async def task(payload: Any) -> None:
            seen.append("run")

        del task

    async with playing(database_url, declare) as (rig, seen):
        job = await rig.adapter.schedule_job("task")
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["attempt"], row["error"]["message"], seen) == (
            "FAILED",
            1,
            "not today",
            [],
        )


class StrangeExit(BaseException):
    pass


@pytest.mark.parametrize("fault", [ValueError("x"), StrangeExit(), SystemExit(3), asyncio.CancelledError()])
@pytest.mark.parametrize("sync", [False, True])
async def test_a_hook_of_the_end_that_fails_changes_nothing(
    database_url: str,
    fault: BaseException,
    sync: bool,
) -> None:
    def declare(adapter: Adapter, seen: list[Any]) -> None:
        async def breaks(payload: Any, ctx: JobContext, result: Any) -> None:
            raise fault

        def breaks_in_thread(payload: Any, ctx: JobContext, result: Any) -> None:
            raise fault

        @adapter.task("task", on_success=breaks_in_thread if sync else breaks)
        async def task(payload: Any) -> int:
            return 1

        @task.on_complete
        async def complete(payload: Any, ctx: JobContext, end: JobEnd) -> None:
            seen.append(end.result)

        del complete

    async with playing(database_url, declare) as (rig, seen):
        job = await rig.adapter.schedule_job("task")
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["result"], row["error"], seen) == ("COMPLETED", 1, None, [1])
        assert rig.adapter.observers.counts["hook_failed"] == 1


def hanging(adapter: Adapter, seen: list[Any]) -> None:
    async def hangs(payload: Any, ctx: JobContext, result: Any) -> None:
        seen.append("hangs")
        await asyncio.Event().wait()

    @adapter.task("task", on_success=hangs)
    async def task(payload: Any) -> int:
        return 1

    @task.on_complete
    async def complete(payload: Any, ctx: JobContext, end: JobEnd) -> None:
        seen.append("complete")

    del complete


async def test_a_hook_that_hangs_is_let_go_and_the_others_are_called(database_url: str) -> None:
    async with playing(database_url, hanging, worker_hook_seconds=0.05) as (rig, seen):
        job = await rig.adapter.schedule_job("task")
        await rig.work()
        assert (await rig.status(job.id), seen) == ("COMPLETED", ["hangs", "complete"])


async def test_a_stop_cuts_a_hanging_hook_short_and_the_outcome_is_written(database_url: str) -> None:
    async with playing(database_url, hanging, worker_grace_seconds=0) as (rig, seen):
        job = await rig.adapter.schedule_job("task")
        worker = rig.worker()
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await eventually(lambda: seen)
            worker.stop()
        assert (await rig.status(job.id), (await rig.row(job.id))["result"]) == ("COMPLETED", 1)
        assert seen == ["hangs"]


async def test_a_cancel_that_comes_while_the_end_is_told_is_too_late(database_url: str) -> None:
    gate = asyncio.Event()

    def declare(adapter: Adapter, seen: list[Any]) -> None:
        async def waits(payload: Any, ctx: JobContext, result: Any) -> None:
            seen.append("began")
            await gate.wait()
            seen.append("ended")

        @adapter.task("task", on_success=waits)
        async def task(payload: Any) -> int:
            return 1

        del task

    async with playing(database_url, declare) as (rig, seen):
        job = await rig.adapter.schedule_job("task")
        worker = rig.worker()
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await eventually(lambda: seen)
            await rig.adapter.cancel_job(job.id)
            worker.cancel_tries([job.id])
            gate.set()
            await eventually(lambda: _ended(rig, job.id))
            worker.stop()
        assert (await rig.status(job.id), seen) == ("COMPLETED", ["began", "ended"])


TENANT: ContextVar[str] = ContextVar("TENANT", default="nobody")


async def test_a_middleware_sets_the_scene_for_handlers_and_may_translate_their_errors(
    database_url: str,
) -> None:
    def declare(adapter: Adapter, seen: list[Any]) -> None:
        @adapter.middleware
        @asynccontextmanager
        async def tenant(ctx: JobContext) -> AsyncGenerator[None]:
            TENANT.set(ctx.job.tag or "nobody")
            try:
                yield
            except LookupError as error:
                raise AbortJobError("gone") from error

        @adapter.task("async")
        async def in_loop(payload: Any) -> str:
            return TENANT.get()

        @adapter.task("thread")
        def in_thread(payload: Any) -> str:
            return TENANT.get()

        @adapter.task("fails")
        async def fails(payload: Any) -> None:
            raise KeyError

        del tenant, in_loop, in_thread, fails

    async with playing(database_url, declare) as (rig, _):
        jobs = [await rig.adapter.schedule_job(task, tag="acme") for task in ("async", "thread", "fails")]
        await rig.work()
        rows = [await rig.row(job.id) for job in jobs]
        assert [row["result"] for row in rows] == ["acme", "acme", None]
        assert (rows[2]["status"], rows[2]["error"]["name"]) == ("FAILED", "AbortJobError")


def test_hooks_are_declared_before_the_adapter_opens_with_the_right_arguments() -> None:
    adapter = Adapter()

    @adapter.task("task")
    async def task(payload: Any) -> None: ...

    def one(payload: Any) -> None: ...

    wrong: Any = one
    no_function: Any = 3
    with pytest.raises(TaskDefinitionError, match="3 arguments"):
        task.on_success(wrong)
    with pytest.raises(TaskDefinitionError, match="must be a function"):
        adapter.on_start(no_function)
    with pytest.raises(TaskDefinitionError, match="never be called"):
        adapter.remote_task("remote", executor="trigger", on_start=wrong)
    adapter.registry.freeze()
    assert adapter.registry.get("task").hooks is None
    with pytest.raises(TaskDefinitionError, match="after the adapter was opened"):
        adapter.on_complete(wrong)
