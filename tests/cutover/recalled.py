"""What tests of recalls share: the task they take back, and a remote at which things happen in between."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from adapter import Adapter
from adapter.core.cutover.rollback import RollbackReport
from tests.fakes.trigger_engine import FakeRun
from tests.rig import Rig, rigged

Act = Callable[[], Awaitable[Any]]


def tasks(adapter: Adapter) -> None:
    there = {"trigger": "there"}

    async def handle(payload: Any) -> Any:
        return payload

    adapter.task("fragile", remote_id=there)(handle)
    adapter.task("safe", remote_id=there, idempotent=True)(handle)
    adapter.task("fenced", remote_id=there, start_fence={"trigger": "*"})(handle)
    adapter.task("fenced-since", remote_id=there, start_fence={"trigger": "20260101.2"})(handle)


@asynccontextmanager
async def recalling(url: str, **options: Any) -> AsyncGenerator[Rig]:
    async with rigged(url, tasks, **options) as rig:
        yield rig


async def sent(rig: Rig, task: str = "fragile", **options: Any) -> tuple[UUID, FakeRun]:
    return await rig.sent(task, 1, executor="trigger", **options)


async def back(
    rig: Rig, task: str = "fragile", mode: Any = "recall-unstarted", **options: Any
) -> RollbackReport:
    return await rig.adapter.rollback(task, mode=mode, reason="INC-7", actor="ann", **options)


def around(rig: Rig, call: str, *, before: Act | None = None, after: Act | None = None) -> None:
    """Let something happen just before or after the next call of that name reaches the remote."""
    executor: Any = rig.adapter.executors.by_name["trigger"]
    real = getattr(executor, call)

    async def once(*arguments: Any) -> Any:
        setattr(executor, call, real)
        if before is not None:
            await before()
        result = await real(*arguments)
        if after is not None:
            await after()
        return result

    setattr(executor, call, once)


async def where(rig: Rig, job_id: UUID) -> tuple[str, str, int]:
    row = await rig.row(job_id)
    return row["status"], row["executor"], row["epoch"]
