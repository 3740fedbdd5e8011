"""What a worker looks at now and then: which queues there are, what it holds without knowing, what it can run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

from adapter.core.parts import Parts
from adapter.store import processes, upkeep
from adapter.store.endings import return_unknown

logger = logging.getLogger("adapter.worker")

_LOOK_S = 5.0
_ADVERTISE_S = 60.0
_NEVER = float("-inf")


class Surroundings:
    """The queues that a worker may claim from, as they were when it looked last.

    ``queues``: the only ones it works, empty for all.
    """

    def __init__(self, parts: Parts, worker_id: UUID, queues: Sequence[str]) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._clock = parts.clock
        self._worker_id = worker_id
        self._only = queues
        self._looked_at = self._advertised_at = _NEVER
        #: Queues that anybody may claim from, and those with limits.
        self.free: list[str] = []
        self.limited: list[str] = []

    @property
    def are_unknown(self) -> bool:
        """Whether nothing can be claimed before a look."""
        return self._looked_at == _NEVER or not (self.free or self.limited)

    @property
    def are_old(self) -> bool:
        """Whether it is time for a look."""
        return self._clock.monotonic() - self._looked_at >= _LOOK_S

    def forget(self) -> None:
        """Look before the next claim."""
        self._looked_at = _NEVER

    async def look(self, known: Sequence[str]) -> bool:
        """Look now; returns whether the queues are others than before. ``known``: the jobs the worker has in hand."""
        before, now = (self.free, self.limited), self._clock.monotonic()
        async with self._database.connection() as conn:
            schema = self._database.schema
            if now - self._advertised_at >= _ADVERTISE_S:
                await processes.advertise(conn, schema, self._worker_id, self._registry.runnable)
                self._advertised_at = now
            # Also what another worker, which has no handler for it, has just put down.
            can_run = [each.id for each in self._registry if each.runs_here]
            await upkeep.admit(conn, schema, can_run)
            if returned := await return_unknown(conn, schema, self._worker_id, known):
                logger.warning("%d jobs were ours without our knowing: given back", returned)
            found = await processes.queues(conn, schema)
        mine = [each for each in found if not self._only or each.name in self._only]
        self.free = [each.name for each in mine if not each.paused and not each.limited]
        self.limited = [each.name for each in mine if not each.paused and each.limited]
        self._looked_at = now
        return before != (self.free, self.limited)
