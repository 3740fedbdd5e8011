"""Making room: partitions ahead and behind, and what has outlived its use."""

from __future__ import annotations

import logging

from adapter.core.loops import Poller
from adapter.core.parts import Parts
from adapter.store import processes, retention

logger = logging.getLogger("adapter.retention")

_EVERY_S = 900.0


class Retention:
    """Any number of processes may run it. A loop of its own: a lock it waits for must keep nobody from rescue."""

    def __init__(self, parts: Parts) -> None:
        self._database = parts.database
        self._clock = parts.clock
        self._done_at = -_EVERY_S
        self.loop = Poller("retention", self._work, parts.clock, "*")

    async def _work(self) -> int:
        if self._clock.monotonic() - self._done_at >= _EVERY_S:
            await self.run_once()
        return 0

    async def run_once(self) -> retention.RetentionReport:
        """Make and drop partitions, trim side tables, forget workers that are long dead."""
        async with self._database.connection() as conn:
            report = await retention.upkeep(conn, self._database.schema)
            await processes.forget_dead(conn, self._database.schema)
        self._done_at = self._clock.monotonic()
        if report.made or report.dropped:
            logger.info("partitions made: %s, dropped: %s", report.made, report.dropped)
        return report
