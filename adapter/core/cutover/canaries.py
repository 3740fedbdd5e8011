"""Canaries: a job that does nothing, sent to an executor every so often, by the path of all jobs.

Scheduled, dispatched, run, reported and ended as any other: one that does not come back shows a broken
path before the users' jobs do.
"""

from __future__ import annotations

from datetime import timedelta

from adapter.core.parts import Parts
from adapter.core.planning import JobSpec, Planner, ScheduleOptions
from adapter.core.scheduling import Scheduler
from adapter.domain.failback import CANARY, MISSED_BEATS
from adapter.store import executor_health
from adapter.store.executor_health import Canary
from adapter.store.steps import run
from adapter.store.wakeup import DISPATCH

_KEPT = timedelta(days=1)


class CanaryKeeper:
    """Sends the canaries that are due; any number of processes may, one job goes out per beat."""

    def __init__(self, parts: Parts, planner: Planner, scheduler: Scheduler) -> None:
        self._database = parts.database
        self._notifier = parts.notifier
        self._planner = planner
        self._scheduler = scheduler
        self._every = {
            executor: every
            for executor, every in parts.registry.canaries.items()
            if executor in parts.executors
        }
        self._said = False

    async def run_once(self) -> list[Canary]:
        """Send what is due; returns the canaries of this application as they were before."""
        if not self._every:
            return []
        schema = self._database.schema
        async with self._database.connection() as conn:
            if not self._said:
                for executor, every in sorted(self._every.items()):
                    await executor_health.keep_canary(conn, schema, executor, CANARY, every)
                self._said = True
            known = await executor_health.canaries(conn, schema)
        ours = [each for each in known if each.executor in self._every]
        sent = [await self._beat(each.executor, each.every) for each in ours if each.is_due]
        if any(sent):
            self._notifier.poke(DISPATCH)
        return ours

    async def _beat(self, executor: str, every: timedelta) -> bool:
        # Strict: it goes there though the circuit is open, since it is how one sees that all is well again.
        options = ScheduleOptions(
            executor=executor,
            strict=True,
            ttl=every * MISSED_BEATS,
            keep_for=_KEPT,
            max_attempts=1,
        )
        planned = self._planner.plan(JobSpec(CANARY, None, options))
        schema = self._database.schema
        async with self._database.transaction() as conn:
            if not await executor_health.beat(conn, schema, executor, planned.job.id):
                return False
            await run(conn, schema, self._scheduler.schedule([planned]))
        return True
