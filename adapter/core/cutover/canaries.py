"""Canaries: a job that does nothing, sent to an executor every so often, by the path of all jobs.

Scheduled, dispatched, run, reported and ended as any other: one that does not come back shows a broken
path before the users' jobs do.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from adapter.core.parts import Parts
from adapter.core.planning import JobSpec, Planner, ScheduleOptions
from adapter.core.scheduling import Scheduler
from adapter.domain.failback import CANARY, MISSED_BEATS
from adapter.store import executor_health
from adapter.store.steps import run
from adapter.store.wakeup import DISPATCH

_KEPT = timedelta(days=1)


class CanaryKeeper:
    """Sends the canaries that are due; any number of processes may, one job goes out per beat."""

    def __init__(self, parts: Parts, planner: Planner, scheduler: Scheduler) -> None:
        self._database = parts.database
        self._notifier = parts.notifier
        self._clock = parts.clock
        self._planner = planner
        self._scheduler = scheduler
        self._every = {
            executor: every
            for executor, every in parts.registry.canaries.items()
            if executor in parts.executors
        }
        self._said = False

    @property
    def executors(self) -> frozenset[str]:
        """The executors this application sends canaries to."""
        return frozenset(self._every)

    @property
    def are_kept(self) -> bool:
        """Whether there is any."""
        return bool(self._every)

    async def run_once(self) -> list[UUID]:
        """Send what is due; returns the jobs."""
        if not self._every:
            return []
        if not self._said:
            async with self._database.connection() as conn:
                for executor, every in sorted(self._every.items()):
                    await executor_health.keep_canary(conn, self._database.schema, executor, CANARY, every)
            self._said = True
        sent = [
            job
            for executor, every in sorted(self._every.items())
            for job in await self._beat(executor, every)
        ]
        if sent:
            self._notifier.poke(DISPATCH)
        return sent

    async def _beat(self, executor: str, every: timedelta) -> list[UUID]:
        # Strict: it goes there though the circuit is open, since it is how one sees that all is well again.
        options = ScheduleOptions(
            executor=executor,
            strict=True,
            ttl=every * MISSED_BEATS,
            keep_for=_KEPT,
            max_attempts=1,
            extra={"canary": True},
        )
        planned = self._planner.plan(JobSpec(CANARY, None, options))
        schema = self._database.schema
        async with self._database.transaction() as conn:
            if not await executor_health.beat(conn, schema, executor, planned.job.id):
                return []
            await run(conn, schema, self._scheduler.schedule([planned]))
        return [planned.job.id]
