"""pgqueuer on asyncpg and uvloop, as its own command runs it, with its autovacuum settings. Of batches of 10 to 500 and
of one to five consumers in the process, one consumer with batches of 100 was the fastest; for latency its default of 10."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.ledger import Ledger
from bench.peers.program import Client, Program, run

_BATCH, _BATCH_WHEN_IDLE = 100, 10


class PgqueuerClient(Client):
    """Enqueues on one connection per lane: a driver is one connection."""

    def __init__(self, lanes: list[Queries]) -> None:
        self._lanes = lanes

    async def one(self, number: int, lane: int) -> object:
        return await self._lanes[lane].enqueue("noop", b"%d" % number, 0)

    async def many(self, start: int, count: int) -> object:
        payloads = [b"%d" % number for number in range(start, start + count)]
        return await self._lanes[0].enqueue(["noop"] * count, payloads, [0] * count)

    async def timed(self, at_ns: int) -> object:
        return await self._lanes[0].enqueue("lag", b"%d" % at_ns, 0)


class Pgqueuer(Program):
    """pgqueuer."""

    async def _driver(self) -> AsyncpgDriver:
        return AsyncpgDriver(await asyncpg.connect(dsn=self.given.database))

    async def prepare(self) -> None:
        queries = Queries(await self._driver())
        await queries.install()
        await queries.optimize_autovacuum()

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Client]:
        yield PgqueuerClient([Queries(await self._driver()) for _ in range(self.given.connections)])

    async def work(self) -> None:
        ledger, queue = Ledger(), PgQueuer(await self._driver())

        @queue.entrypoint("noop")
        async def noop(job: Job) -> None:
            ledger.hit(int(job.payload or b""))

        @queue.entrypoint("lag")
        async def lag(job: Job) -> None:
            ledger.lag(int(job.payload or b""))

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queue.shutdown.set)
        await queue.run(
            batch_size=_BATCH_WHEN_IDLE if self.given.task == "lag" else _BATCH,
            dequeue_timeout=timedelta(seconds=5),
        )


if __name__ == "__main__":
    logging.getLogger("pgqueuer").setLevel(logging.ERROR)
    uvloop.run(run(Pgqueuer))
