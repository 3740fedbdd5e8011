"""Handlers that tests watch and hold: what they have done, and the gates they wait at."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from adapter import Adapter
from adapter.core.worker import Worker
from tests.rig import Rig, rigged


class Stage:
    """What handlers of a test have done, and the gates they wait at."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.gate = asyncio.Event()
        self.thread_gate = threading.Event()


@asynccontextmanager
async def playing(
    url: str, declare: Callable[[Adapter, Stage], None], **options: Any
) -> AsyncGenerator[tuple[Rig, Stage]]:
    """A rig with the tasks of ``declare``; in the end every gate is open."""
    stage = Stage()
    async with rigged(url, lambda adapter: declare(adapter, stage), **options) as rig:
        try:
            yield rig, stage
        finally:
            stage.gate.set()
            stage.thread_gate.set()


@asynccontextmanager
async def running(worker: Worker) -> AsyncGenerator[asyncio.Task[None]]:
    """The worker runs beside the block, and is stopped after it."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(worker.run())
        yield task
        worker.stop()
