"""procrastinate on psycopg 3. Its documents: a pool as large as the concurrency for short jobs. Of 1, 5, 10 and 20, five
at once was the fastest. It documents no other event loop. Jobs are kept when they have succeeded: the default."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from procrastinate import App, PsycopgConnector

from bench.ledger import Ledger
from bench.peers.program import Client, Program, run

_AT_ONCE = 5


class ProcrastinateClient(Client):
    """Defers on the app's pool."""

    def __init__(self, app: App) -> None:
        self._noop, self._lag = app.tasks["noop"], app.tasks["lag"]

    async def one(self, number: int, _lane: int) -> object:
        return await self._noop.defer_async(i=number)

    async def many(self, start: int, count: int) -> object:
        return await self._noop.batch_defer_async(*[{"i": number} for number in range(start, start + count)])

    async def timed(self, at_ns: int) -> object:
        return await self._lag.defer_async(at_ns=at_ns)


class Procrastinate(Program):
    """procrastinate."""

    @asynccontextmanager
    async def _app(self, connections: int) -> AsyncGenerator[App]:
        app = App(
            connector=PsycopgConnector(
                conninfo=self.given.database, min_size=connections, max_size=connections
            )
        )
        ledger = Ledger()

        @app.task(name="noop")
        async def noop(i: int) -> None:
            ledger.hit(i)

        @app.task(name="lag")
        async def lag(at_ns: int) -> None:
            ledger.lag(at_ns)

        async with app.open_async():
            yield app

    async def prepare(self) -> None:
        async with self._app(1) as app:
            await app.schema_manager.apply_schema_async()

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Client]:
        async with self._app(self.given.connections) as app:
            yield ProcrastinateClient(app)

    async def work(self) -> None:
        async with self._app(_AT_ONCE + 1) as app:
            await app.run_worker_async(concurrency=_AT_ONCE)


if __name__ == "__main__":
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    asyncio.run(run(Procrastinate))
