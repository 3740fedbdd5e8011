"""The processes that are killed: `python -m tests.fault.processes worker|dispatcher|producer|drill|server DIRECTORY [PORT]`.

Settings come from the environment. Ready is said by a file `ready-{pid}`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvicorn

from adapter import Adapter, JobContext, Queue, Rate
from adapter.settings import Settings
from tests.fault import isolated
from tests.fault.ledger import Ledger
from tests.kit import eventually

NARROW = Queue("narrow", concurrency_limit=4, key_limit=2, rate=Rate(count=10, per=timedelta(seconds=1)))
SINGLE = Queue("single", concurrency_limit=1)


def declare(adapter: Adapter, directory: Path | None = None) -> None:
    """Tasks whose runs are written down; without a directory they are only to be scheduled."""
    ledger = Ledger(directory) if directory is not None else None

    @adapter.task("short")
    async def short(data: dict[str, Any], context: JobContext) -> int:
        assert ledger is not None
        ledger.write("start", context.job.id)
        await asyncio.sleep(data["seconds"])
        ledger.write("end", context.job.id)
        return context.attempt

    @adapter.task("parent")
    async def parent(data: dict[str, Any], context: JobContext) -> int:
        assert ledger is not None
        ledger.write("start", context.job.id)
        ended = await context.batch_trigger_and_wait([short.job(data) for _ in range(2)])
        ledger.write("end", context.job.id)
        return len(ended)

    @adapter.task("gathers")
    async def gathers(data: dict[str, Any], context: JobContext) -> int:
        """Its first child is done at once."""
        assert ledger is not None
        ledger.write("start", context.job.id)
        waits = [context.trigger_and_wait(short, {"seconds": each}) for each in (0, data["seconds"])]
        ended = await asyncio.gather(*waits)
        ledger.write("end", context.job.id)
        return len(ended)

    @adapter.task("narrow", queue=NARROW)
    async def narrow(data: dict[str, Any], context: JobContext) -> int:
        return await short(data, context)

    @adapter.task("family", queue=SINGLE)
    async def family(data: dict[str, Any], context: JobContext) -> int:
        """Its children share its queue and its key."""
        assert ledger is not None
        ledger.write("start", context.job.id)
        job = context.job
        children = [
            short.job(data, queue=job.queue, concurrency_key=job.concurrency_key)
            for _ in range(data["children"])
        ]
        ended = await context.batch_trigger_and_wait(children)
        ledger.write("end", context.job.id)
        return len(ended)

    @adapter.task("poison")
    async def poison(_: dict[str, Any], context: JobContext) -> None:
        assert ledger is not None
        ledger.write("start", context.job.id)
        os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.Event().wait()

    @adapter.task("either", remote_id={"trigger": "either"})
    async def either(_: dict[str, Any], context: JobContext) -> None:
        assert ledger is not None
        ledger.write("start", context.job.id)

    adapter.remote_task("away", remote_id={"trigger": "away"})
    del parent, gathers, narrow, family, poison, either


async def worker(adapter: Adapter, directory: Path) -> None:
    stop = _until_told()
    async with adapter.running(work=True, dispatch=False):
        _ready(directory)
        await stop.wait()


async def isolated_worker(directory: Path) -> None:
    stop = _until_told()
    async with isolated.adapter.running(work=True, dispatch=False, app=isolated.APP):
        _ready(directory)
        await stop.wait()


async def dispatcher(adapter: Adapter, directory: Path) -> None:
    stop = _until_told()
    async with adapter.running(dispatch=True, sync=False):
        _ready(directory)
        await stop.wait()


async def drill(adapter: Adapter, directory: Path) -> None:
    async with adapter:
        _ready(directory)
        await adapter.drill("either", hold=timedelta(minutes=5), reason="monthly")


async def producer(adapter: Adapter, directory: Path) -> None:
    """Schedule jobs that may run at either executor, and write down where each was sent."""
    stop, ledger, made = _until_told(), Ledger(directory), 0
    async with adapter:
        _ready(directory)
        while not stop.is_set():
            made, asked_at = made + 1, time.monotonic_ns()
            delay = timedelta(milliseconds=200) if made % 4 == 0 else None
            job = await adapter.schedule_job("either", {}, tag=f"{os.getpid()}-{made}", delay=delay)
            ledger.write(f"to-{job.executor}", job.id, asked_at)
            await asyncio.sleep(0.01)


async def server(adapter: Adapter, directory: Path, port: int) -> None:
    config = uvicorn.Config(adapter.asgi(), host="127.0.0.1", port=port, log_level="warning")
    serving = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(serving.serve())
        await eventually(lambda: serving.started, within=30)
        _ready(directory)


def _ready(directory: Path) -> None:
    (directory / f"ready-{os.getpid()}").touch()


def _until_told() -> asyncio.Event:
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    return stop


def main() -> None:
    role, directory = sys.argv[1], Path(sys.argv[2])
    adapter = Adapter(Settings.from_env())
    declare(adapter, directory)
    match role:
        case "worker":
            asyncio.run(worker(adapter, directory))
        case "isolated":
            asyncio.run(isolated_worker(directory))
        case "dispatcher":
            asyncio.run(dispatcher(adapter, directory))
        case "drill":
            asyncio.run(drill(adapter, directory))
        case "producer":
            asyncio.run(producer(adapter, directory))
        case "server":
            asyncio.run(server(adapter, directory, int(sys.argv[3])))
        case _:
            sys.exit(f"no such role: {role}")


if __name__ == "__main__":
    main()
