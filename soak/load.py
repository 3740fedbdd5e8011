"""The load: a steady mix of jobs, each written down in the transaction that schedules it."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from adapter import Adapter, AdapterError
from soak.app import KINDS

TICK_S = 0.1
_DELAYED = 0.05
_CANCEL_AFTER_S = 1.0


class Load:
    """Schedules ``rate`` jobs a second until told to stop."""

    def __init__(self, adapter: Adapter, url: str, rate: float, seed: int) -> None:
        self._adapter = adapter
        self._url = url
        self._rate = rate
        self._dice = random.Random(seed)
        self._conn: psycopg.AsyncConnection[Any] | None = None
        self._to_cancel: list[tuple[float, UUID]] = []
        #: Jobs that were committed as far as we were told, and transactions that were refused.
        self.scheduled = self.refused = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Schedule until ``stop``; what was begun to be canceled is canceled then."""
        loop = asyncio.get_running_loop()
        owed, before = 0.0, loop.time()
        while not stop.is_set():
            now = loop.time()
            # A restart of PostgreSQL is no reason for a flood afterwards.
            owed = min(owed + (now - before) * self._rate, self._rate)
            before = now
            await self._tick(int(owed))
            owed -= int(owed)
            await asyncio.sleep(TICK_S)
        await self._cancel(loop.time() + _CANCEL_AFTER_S)
        if self._conn is not None:
            await self._conn.close()

    async def _tick(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._conn is None or self._conn.closed:
                self._conn = await psycopg.AsyncConnection[Any].connect(self._url, autocommit=True)
            if number:
                await self._schedule(self._conn, number)
            await self._cancel(loop.time())
        except (psycopg.Error, AdapterError):
            self.refused += 1
            if self._conn is not None:
                await self._conn.close()

    async def _schedule(self, conn: psycopg.AsyncConnection[Any], number: int) -> None:
        kinds = self._dice.choices(list(KINDS), weights=list(KINDS.values()), k=number)
        made: list[tuple[str, UUID]] = []
        async with conn.transaction():
            for kind in kinds:
                options: dict[str, Any] = {}
                if self._dice.random() < _DELAYED and kind != "canceled":
                    options["delay"] = timedelta(seconds=self._dice.uniform(0.5, 3))
                if self._dice.random() < 0.1:
                    options["idempotency_key"] = f"key-{self._dice.getrandbits(64)}"
                if kind == "limited":
                    options["concurrency_key"] = f"tenant-{self._dice.randrange(4)}"
                job = await self._adapter.schedule_job(kind, self.scheduled, within=conn, **options)
                made.append((kind, job.id))
            ids = [job_id for _, job_id in made]
            await conn.execute("INSERT INTO soak.expected (id) SELECT unnest(%s::uuid[])", [ids])
        self.scheduled += number
        self._adapter.poke()
        due = asyncio.get_running_loop().time() + _CANCEL_AFTER_S
        self._to_cancel += [(due, job_id) for kind, job_id in made if kind == "canceled"]

    async def _cancel(self, until: float) -> None:
        while self._to_cancel and self._to_cancel[0][0] <= until:
            await self._adapter.cancel_job(self._to_cancel[0][1], reason="part of the load")
            self._to_cancel.pop(0)

    async def cancel_rest(self) -> None:
        """Cancel what nobody else would end: a job whose scheduling seemed to be refused may be there."""
        rows = await self._adapter.database.fetch(
            "SELECT id FROM {s}.worker_jobs_open WHERE type = 'canceled'"
        )
        for row in rows:
            await self._adapter.cancel_job(row["id"], reason="the end of the load")
