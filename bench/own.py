"""The adapter as a contender: what callers do, through the public API. Its worker is `adapter worker`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvloop

from adapter import Adapter, JobSpec, Settings
from adapter.store import migrate
from bench.app import declare
from bench.peers.program import Client, Given, Program, run


class OwnClient(Client):
    """Schedules on the adapter's own pool."""

    def __init__(self, adapter: Adapter, given: Given) -> None:
        self._adapter, self._task, self._keys = adapter, given.task, given.keys

    async def one(self, number: int, lane: int) -> object:
        if self._keys:
            key = f"key-{lane}-{number}"
            return await self._adapter.schedule_job(self._task, {"i": number}, idempotency_key=key)
        return await self._adapter.schedule_job(self._task, {"i": number})

    async def many(self, start: int, count: int) -> object:
        specs = [JobSpec(self._task, {"i": number}) for number in range(start, start + count)]
        return await self._adapter.schedule_specs(specs)

    async def timed(self, at_ns: int) -> object:
        return await self._adapter.schedule_job("lag", {"at_ns": at_ns})


class Own(Program):
    """The adapter."""

    async def prepare(self) -> None:
        await asyncio.to_thread(migrate.upgrade, self.given.database)

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Client]:
        settings = Settings.model_validate({"database_url": self.given.database})
        async with declare(Adapter(settings)) as adapter:
            yield OwnClient(adapter, self.given)


if __name__ == "__main__":
    logging.getLogger("adapter").setLevel(logging.ERROR)
    # As the client of pgqueuer runs; a worker of ours drains faster without it.
    uvloop.run(run(Own))
