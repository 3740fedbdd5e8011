"""Tasks whose handlers run in child processes. They say what they did in a file: a child shares nothing else."""

import asyncio
import ctypes
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from adapter import AbortJobError, Adapter, JobContext, JobFailedError, JobSpec, RetryJobError, RetryPolicy
from adapter.domain.errors import NotOpenError, TokenNotFoundError, UnknownTaskError

adapter = Adapter()
QUICK = RetryPolicy(max_attempts=2, min_timeout_in_ms=0, max_timeout_in_ms=0)
around: ContextVar[str] = ContextVar("around", default="nothing")


class Order(BaseModel):
    number: int
    path: str = ""


def note(path: str, text: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{text}\n")


def until_told(path: str) -> None:
    while not Path(f"{path}.go").exists():
        pass


@adapter.task("pid", isolation="process")
def pid(order: Order, ctx: JobContext) -> dict[str, Any]:
    return {"pid": os.getpid(), "number": order.number, "attempt": ctx.attempt, "id": str(ctx.job.id)}


@adapter.task("async-pid", isolation="process")
async def async_pid(order: Order) -> int:
    await asyncio.to_thread(str)
    return os.getpid()


@adapter.task("raises", isolation="process", retry=QUICK, abort_on=(KeyError,))
async def raises(kind: str) -> None:
    match kind:
        case "key":
            raise KeyError("not worth it")
        case "abort":
            raise AbortJobError("never")
        case "later":
            raise RetryJobError("busy", delay=timedelta(hours=1))
        case _:
            raise ValueError(f"no {kind}")


@adapter.task("dies", isolation="process", retry=QUICK)
def dies(how: str, ctx: JobContext) -> None:
    match how:
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(7)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "once":
            if ctx.attempt == 1:
                os._exit(3)
        case _:
            sys.exit(how)


@adapter.task("works", isolation="process", max_duration=timedelta(seconds=60))
def works(order: Order) -> None:
    """Computes, deaf to everything, with a program of its own."""
    program = subprocess.Popen(["sleep", "300"])
    note(order.path, f"{os.getpid()} {program.pid}")
    # Takes longer than anybody lives, without letting another thread of the process run.
    re.match(r"(a+)+$", "a" * 64 + "b")


@adapter.task("listens", isolation="process")
def listens(order: Order, ctx: JobContext) -> str:
    note(order.path, str(os.getpid()))
    while not ctx.is_canceled:
        pass
    note(order.path, "stopped")
    ctx.raise_if_canceled()
    return "not reached"


@adapter.task("listens-async", isolation="process")
async def listens_async(order: Order, ctx: JobContext) -> None:
    note(order.path, str(os.getpid()))
    try:
        await asyncio.Event().wait()
    finally:
        note(order.path, f"stopped {ctx.is_canceled}")


@adapter.task("tells", isolation="process")
def tells(order: Order, ctx: JobContext) -> str:
    ctx.logger.warning("order %d", order.number, extra={"color": "red"})
    logging.getLogger("shop").info("not wanted")
    ctx.progress(0.5, "half")
    ctx.metadata.append("seen", order.number)
    sys.stdout.write("this is not data")
    note(order.path, "half")
    until_told(order.path)
    ctx.progress(1.0)
    return around.get()


@tells.middleware
@asynccontextmanager
async def tells_around(ctx: JobContext) -> AsyncGenerator[None]:
    around.set("the middleware")
    yield


@adapter.task("hungry", isolation="process")
def hungry(megabytes: int) -> int:
    hoard.append(bytearray(os.urandom(1024)) * 1024 * megabytes)
    return os.getpid()


hoard: list[bytearray] = []


@adapter.task("no-json", isolation="process", retry=QUICK)
def no_json(_: None) -> Any:
    return object()


@adapter.task("schedules", isolation="process", retry=RetryPolicy(max_attempts=1))
async def schedules(_: None, ctx: JobContext) -> list[str]:
    options: dict[str, Any] = {"delay": timedelta(hours=1), "tags": ["a", "b"], "detached": True}
    handle = await ctx.schedule_job(pid, Order(number=1), **options)
    with pytest.raises(NotOpenError):
        await handle.refresh()
    return [str(handle.id), handle.status]


@adapter.task("schedules-wrongly", isolation="process", retry=RetryPolicy(max_attempts=1))
def schedules_wrongly(task: str, ctx: JobContext) -> None:
    adapter.sync.call(ctx.schedule_job(task, {"number": "none"}))


class Held(BaseModel):
    """What children that a test holds are given, and where their parent says that it began."""

    path: str
    count: int = 1
    token: UUID | None = None


@adapter.task("waits", isolation="process", retry=QUICK)
async def waits(held: Held, ctx: JobContext) -> list[Any]:
    note(held.path, str(os.getpid()))
    results = await ctx.batch_trigger_and_wait([JobSpec("held", each) for each in range(held.count)])
    return [*results, *([] if held.token is None else [await ctx.wait_for_token(held.token)])]


@adapter.task("waits-in-a-thread", isolation="process", retry=QUICK)
def waits_in_a_thread(held: Held, ctx: JobContext) -> list[Any]:
    note(held.path, str(os.getpid()))
    handles = [
        adapter.sync.call(ctx.schedule_job("held", each, idempotency_key=f"{ctx.job.id}-{each}"))
        for each in range(held.count)
    ]
    results = [each.result for each in adapter.sync.call(ctx.wait_for_children(handles))]
    return [*results, *([] if held.token is None else [adapter.sync.call(ctx.wait_for_token(held.token))])]


@adapter.task("waits-for-the-broken", isolation="process", retry=RetryPolicy(max_attempts=1))
async def waits_for_the_broken(task: str, ctx: JobContext) -> str:
    try:
        await ctx.trigger_and_wait(task, 1)
    except (JobFailedError, UnknownTaskError, TokenNotFoundError) as error:
        return f"{type(error).__name__}: {error}"
    return "not reached"


@adapter.task("computes-after", isolation="process", retry=RetryPolicy(max_attempts=1))
async def computes_after(held: Held, ctx: JobContext) -> None:
    before = ctx.deadline
    await ctx.trigger_and_wait("held", 1)
    after = ctx.deadline
    assert before is not None
    assert after is not None
    note(held.path, f"{os.getpid()} {(after - before).total_seconds()}")
    await asyncio.Event().wait()


@adapter.task("gives-up", isolation="process", retry=RetryPolicy(max_attempts=1))
async def gives_up(held: Held, ctx: JobContext) -> str:
    try:
        async with asyncio.timeout(0.5):
            await ctx.trigger_and_wait("held", 1)
    except TimeoutError:
        note(held.path, str(os.getpid()))
        await asyncio.to_thread(until_told, held.path)
        return "it goes on"
    return "not reached"
