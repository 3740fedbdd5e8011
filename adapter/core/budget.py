"""Calls to a remote, within its rate limit and shared fairly by everything that calls it.

One budget per remote key, kept in PostgreSQL, so all processes together stay inside. A quarter is left to
the application's own use of the same key.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from adapter.domain.clock import Clock
from adapter.executors.base import Executor
from adapter.store import processes
from adapter.store.database import Database

logger = logging.getLogger("adapter.budget")

#: What part of the remote's limit each kind of call may use.
SHARES = {"dispatch": 0.40, "reads": 0.25, "cancel": 0.10}


class Budgets:
    """Hands out calls. An executor without a budget costs nothing."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._declared: set[str] = set()

    async def wait_for(self, executor: Executor, share: str) -> float:
        """Take one call; returns 0 when it may go now, else the seconds until it is worth asking again."""
        budget = executor.budget
        if budget is None:
            return 0.0
        async with self._database.connection() as conn:
            if executor.name not in self._declared:
                for name, part in SHARES.items():
                    await processes.declare_budget(
                        conn,
                        self._database.schema,
                        executor=executor.name,
                        share=name,
                        capacity=max(1.0, budget.burst * part),
                        per_second=budget.per_second * part,
                    )
                self._declared.add(executor.name)
            return await processes.spend(conn, self._database.schema, executor=executor.name, share=share)

    async def take(
        self,
        executor: Executor,
        share: str,
        *,
        longest: timedelta | None = None,
        spare: str | None = None,
    ) -> bool:
        """Take one call, waiting for it; False when that would take longer than ``longest``.

        ``spare``: another share to take it from while the first has none.
        """
        deadline = None if longest is None else self._clock.monotonic() + longest.total_seconds()
        while (wait := await self.wait_for(executor, share)) > 0:
            if spare is not None and await self.wait_for(executor, spare) == 0:
                return True
            if deadline is not None and self._clock.monotonic() + wait > deadline:
                return False
            await self._clock.sleep(min(wait, 1.0))
        return True

    async def pause(self, executor: Executor, pause: timedelta) -> None:
        """The remote said not now: let nobody call it for that long."""
        if executor.budget is None:
            return
        await self.wait_for(executor, "dispatch")
        async with self._database.connection() as conn:
            schema = self._database.schema
            await processes.pause_budget(conn, schema, executor.name, list(SHARES), pause)
        seconds = pause.total_seconds()
        logger.warning(
            "%s throttles us for %.1f s", executor.name, seconds, extra={"executor": executor.name}
        )
