"""What has to happen now and then whoever does it: promote, expire, rescue, admit, trim."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from adapter.core.parts import Parts
from adapter.domain.errors import DatabaseUnavailableError
from adapter.store import processes, retention, upkeep
from adapter.store.wakeup import DISPATCH, FINISHED

logger = logging.getLogger("adapter.maintenance")

_TICK_S = 1.0
_RETENTION_S = 900.0


class Maintenance:
    """Any number of processes may run it; each statement takes only what nobody else has."""

    def __init__(self, parts: Parts, lease: timedelta) -> None:
        self._database = parts.database
        self._notifier = parts.notifier
        self._observers = parts.observers
        self._clock = parts.clock
        self._lease = lease
        self._stopping = asyncio.Event()
        self._retained_at: float | None = None

    def stop(self) -> None:
        """Return from `run`."""
        self._stopping.set()

    def resume(self) -> None:
        """Let `run` run again after a `stop`."""
        self._stopping.clear()

    async def run(self) -> None:
        """Tick until `stop`, sleeping until the next job is due but never longer than a second."""
        while not self._stopping.is_set():
            wait = _TICK_S
            try:
                await self.run_once()
                async with self._database.connection() as conn:
                    soonest = await upkeep.next_due(conn, self._database.schema)
                if soonest is not None:
                    wait = min(_TICK_S, max(0.0, soonest))
            except DatabaseUnavailableError as error:
                logger.warning("upkeep has to wait: %s", type(error).__name__)
            try:
                async with asyncio.timeout(max(wait, 0.005)):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    async def run_once(self) -> None:
        """Do everything that is due."""
        schema = self._database.schema
        async with self._database.connection() as conn:
            promoted = await upkeep.promote(conn, schema)
            expired = await upkeep.expire(conn, schema)
            rescued = await upkeep.rescue(conn, schema, self._lease)
        topics = set(promoted.queues | rescued.queues)
        if promoted.remote:
            topics.add(DISPATCH)
        if expired or rescued.ended:
            topics.add(FINISHED)
            self._observers.finished(expired + rescued.ended)
        if rescued.count or rescued.ended:
            logger.warning("rescued %d jobs of dead workers, buried %d", rescued.count, len(rescued.ended))
            self._observers.counts["rescued"] += rescued.count
        if topics:
            self._notifier.poke(*topics)
        await self._retain()

    async def _retain(self) -> None:
        now = self._clock.monotonic()
        if self._retained_at is not None and now - self._retained_at < _RETENTION_S:
            return
        self._retained_at = now
        async with self._database.connection() as conn:
            pooled = self._database.config.transaction_pooler
            report = await retention.upkeep(conn, self._database.schema, transaction_pooler=pooled)
            await processes.forget_dead(conn, self._database.schema)
        if report.made or report.dropped:
            logger.info("partitions made: %s, dropped: %s", report.made, report.dropped)
