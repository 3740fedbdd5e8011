"""Places that run jobs, each driven to an end by a test: here, on the fake Trigger.dev, on a peer adapter."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import SecretStr

from adapter import Adapter
from adapter.executors.trigger_dev import TriggerDev
from adapter.web.app import create_app
from tests.kit import eventually
from tests.rig import Rig, rigged

if TYPE_CHECKING:
    from uuid import UUID

    from adapter.core.worker import Worker

KEY = "tr_prod_" + "p" * 24
#: Tasks every place knows: what each returns or raises is the same everywhere.
TASKS = ("doubles", "fails", "waits")


def handlers(adapter: Adapter) -> None:
    """The tasks where they run on our own workers."""

    @adapter.task("doubles")
    async def doubles(payload: int) -> dict[str, int]:
        return {"doubled": payload * 2}

    @adapter.task("fails")
    async def fails(payload: Any) -> None:
        raise ValueError("boom")

    @adapter.task("waits")
    async def waits(payload: Any) -> None:
        await asyncio.Event().wait()

    del doubles, fails, waits


def elsewhere(adapter: Adapter) -> None:
    """The tasks where another place runs them."""
    for task in TASKS:
        adapter.remote_task(task, executor="trigger")


class Place(ABC):
    """One executor, and how a test drives it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.adapter = rig.adapter

    @abstractmethod
    async def settle(self) -> None:
        """Let everything that can end come to its end, and be known."""

    @abstractmethod
    async def start(self, job_id: UUID) -> None:
        """Let a job of ``waits`` begin, and be known to run."""

    async def deliver(self) -> None:
        """Hand jobs over, and no more."""
        await self.adapter.maintenance.run_once()

    async def hurry(self) -> None:
        """Let what waits for its retry wait no longer."""
        await self.rig.sql(
            "UPDATE {s}.worker_jobs_open SET due = now() WHERE status = 'DELAYED' AND attempt > 0"
        )
        await self.adapter.maintenance.run_once()


@asynccontextmanager
async def _beating(worker: Worker) -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        try:
            yield
        finally:
            worker.stop()


class Local(Place):
    """Our own workers."""

    async def settle(self) -> None:
        for _ in range(3):
            await self.hurry()
            await self.rig.work()

    async def start(self, job_id: UUID) -> None:
        async def executes() -> bool:
            return await self.rig.status(job_id) == "EXECUTING"

        await eventually(executes)


class Trigger(Place):
    """Trigger.dev, in memory."""

    async def deliver(self) -> None:
        await super().deliver()
        await self.rig.dispatch()

    async def settle(self) -> None:
        await self.deliver()
        fake = self.rig.fake
        for run in list(fake.runs.values()):
            while run.task != "waits" and fake.start(run.id):
                if run.task == "doubles":
                    fake.complete(run.id, {"doubled": run.payload * 2})
                else:
                    fake.fail_attempt(run.id)
                    if run.error is not None:
                        run.error = {"name": "ValueError", "message": "boom"}
        fake.advance(1)
        await self.adapter.reconcile()

    async def start(self, job_id: UUID) -> None:
        await self.deliver()
        run_id = (await self.rig.row(job_id))["remote_run_id"]
        self.rig.fake.advance(1)
        self.rig.fake.start(run_id)
        await self.adapter.reconcile()


class Peer(Place):
    """Another adapter, through its Trigger.dev-compatible API; here without a socket in between."""

    def __init__(self, rig: Rig, peer: Rig) -> None:
        super().__init__(rig)
        self.peer = peer

    async def deliver(self) -> None:
        await super().deliver()
        await self.rig.dispatch()

    async def settle(self) -> None:
        await self.deliver()
        await Local(self.peer).settle()
        await self.adapter.reconcile()

    async def start(self, job_id: UUID) -> None:
        await self.deliver()

        async def executes() -> bool:
            return bool(
                await self.peer.value("SELECT count(*) FROM {s}.worker_jobs_open WHERE status = 'EXECUTING'")
            )

        await eventually(executes)
        await self.adapter.reconcile()


Open = Callable[[str, Callable[[], str]], AbstractAsyncContextManager[Place]]


@asynccontextmanager
async def local(url: str, other_url: Callable[[], str]) -> AsyncGenerator[Place]:
    async with rigged(url, handlers) as rig:
        yield Local(rig)


@asynccontextmanager
async def trigger(url: str, other_url: Callable[[], str]) -> AsyncGenerator[Place]:
    async with rigged(url, elsewhere) as rig:
        yield Trigger(rig)


@asynccontextmanager
async def peer(url: str, other_url: Callable[[], str]) -> AsyncGenerator[Place]:
    async with rigged(other_url(), handlers, executors=[], api_keys=(SecretStr(KEY),)) as there:
        app = create_app(there.adapter, owns_adapter=False)
        executor = TriggerDev(
            secret_key=KEY,
            api_url="http://peer.test",
            requests_per_minute=0,
            transport=httpx.ASGITransport(app=app),
        )
        async with rigged(url, elsewhere, executors=[executor]) as rig:
            yield Peer(rig, there)


@asynccontextmanager
async def working(place: Place) -> AsyncGenerator[None]:
    """A worker with a heart, for the places that have one."""
    rig = place.peer if isinstance(place, Peer) else place.rig
    if isinstance(place, Trigger):
        yield
        return
    worker = rig.worker(lease=timedelta(seconds=2), grace=timedelta(seconds=1))
    async with _beating(worker):
        yield


PLACES: dict[str, Open] = {"local": local, "trigger": trigger, "peer": peer}
