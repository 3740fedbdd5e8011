"""The application under load: every kind of handler there is."""

from __future__ import annotations

import asyncio
import threading

from adapter import Adapter, JobContext, Queue, RetryPolicy

adapter = Adapter.from_env()
#: A killed worker spends the attempt of what it held; a job of the load is not to end by that.
STURDY = RetryPolicy(max_attempts=50, min_timeout_in_ms=200, max_timeout_in_ms=1000)


@adapter.task("quick", retry=STURDY)
async def quick(number: int) -> int:
    return number + 1


@adapter.task("threaded", retry=STURDY)
def threaded(number: int) -> int:
    threading.Event().wait(0.005)
    return number + 1


@adapter.task("slow", retry=STURDY)
async def slow(number: int) -> int:
    """Long enough to be in somebody's hands when that somebody is killed."""
    await asyncio.sleep(1)
    return number + 1


@adapter.task("flaky", retry=STURDY)
async def flaky(number: int, ctx: JobContext) -> int:
    if ctx.attempt == 1:
        raise ValueError("the first try always fails")
    return number + 1


@adapter.task("parent", retry=STURDY)
async def parent(number: int, ctx: JobContext) -> str:
    child = await ctx.schedule_job("quick", number, idempotency_key=f"child-of-{ctx.job.id}")
    return str(child.id)


@adapter.task("limited", queue=Queue("limited", 4), retry=STURDY)
async def limited(number: int) -> int:
    await asyncio.sleep(0.01)
    return number + 1


@adapter.task("canceled", retry=STURDY)
async def canceled(_number: int) -> None:
    """Runs until somebody cancels it."""
    await asyncio.Event().wait()


KINDS: dict[str, float] = {
    "quick": 60,
    "threaded": 10,
    "flaky": 10,
    "parent": 6,
    "slow": 4,
    "limited": 8,
    "canceled": 2,
}


@adapter.task("apart", retry=STURDY, isolation="process")
def apart(number: int) -> int:
    """Runs in a process of its own."""
    return number + 1


KINDS["apart"] = 1
