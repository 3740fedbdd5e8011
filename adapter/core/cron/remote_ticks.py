"""Ticks that the clocks of others have fired: each becomes a job here, found by a look or named by a webhook."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.applying import Applier, report_of
from adapter.core.budget import Budgets
from adapter.core.parts import Parts
from adapter.domain.errors import ExecutorError, UnsupportedError
from adapter.executors.base import Executor, HasClock, RemoteClock, RemoteTick
from adapter.store import hand_overs, remote_runs, schedules
from adapter.store.schedules import Schedule

logger = logging.getLogger("adapter.cron")

#: How far back ticks are looked for: what a list did not show the last time.
BACK = timedelta(hours=1)


class RemoteTicks:
    """Adopts what other clocks have fired. A tick that is known already is nothing new."""

    def __init__(self, parts: Parts, applier: Applier, budgets: Budgets) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._executors = parts.executors
        self._applier = applier
        self._budgets = budgets

    async def adopt_all(self, kept: Iterable[Schedule]) -> int:
        """Adopt what is new of schedules that others keep; returns how many ticks that were."""
        adopted = 0
        for each in kept:
            since = (each.last_at or each.handover_cut or each.created_at) - BACK
            try:
                adopted += await self.adopt(each, each.owner, since)
            except ExecutorError as error:
                logger.warning("ticks of %s cannot be read: %s", each.task, error, extra=fields_of(each))
        return adopted

    async def adopt(self, schedule: Schedule, owner: str, since: datetime) -> int:
        """Write a job for each tick that was fired there since; returns how many are new.

        Each is written before the next is asked for, the oldest first: a look that ends early is gone on with.

        Raises:
            ExecutorError: the other side could not be asked.
        """
        if schedule.remote_schedule_id is None:
            return 0
        executor = self.executor(owner)
        await self._budgets.take(executor, "reads")
        adopted = 0
        async for tick in self.clock_of(owner).ticks(schedule.remote_schedule_id, since):
            adopted += await self._adopt_one(schedule, executor, tick)
            await self._budgets.take(executor, "reads")
        return adopted

    async def named(self, executor_name: str, run_id: str, task: str | None) -> tuple[UUID, int] | None:
        """Adopt the run a webhook names, if a schedule has started it; returns (job id, epoch).

        ``task``: what the executor calls its task, where the webhook says so. None: it is no tick of ours,
        or cannot be read now; then the next look finds it.
        """
        executor = self._executors.get(executor_name)
        if executor is None or not isinstance(executor, HasClock):
            return None
        schema = self._database.schema
        async with self._database.connection() as conn:
            kept = await schedules.listed(conn, schema, elsewhere=True)
        by_id = {
            each.remote_schedule_id: each
            for each in kept
            if each.owner == executor_name and task in {None, self._name_there(each)}
        }
        if not by_id:
            return None
        try:
            await self._budgets.take(executor, "reads")
            tick = await executor.clock.tick(run_id)
        except ExecutorError as error:
            logger.info("could not look at a run: %s", error, extra={"run_id": run_id})
            return None
        schedule = by_id.get(tick.schedule_id) if tick is not None else None
        if tick is None or schedule is None:
            return None
        await self._adopt_one(schedule, executor, tick)
        async with self._database.connection() as conn:
            return await remote_runs.owner(conn, schema, executor_name, run_id)

    def _name_there(self, schedule: Schedule) -> str | None:
        definition = self._registry.find(schedule.task)
        return None if definition is None else definition.policy.remote_ids.get(schedule.owner)

    async def _adopt_one(self, schedule: Schedule, executor: Executor, tick: RemoteTick) -> bool:
        definition = self._registry.find(schedule.task)
        job_id = UUID(str(uuid7()))
        values = {
            "executor": executor.name,
            "run_id": tick.run.run_id,
            "job_id": job_id,
            "environment": executor.environment,
            "schedule_id": schedule.id,
            "at": tick.at,
            "task": schedule.task,
            "data": tick.payload,
            "queue": definition.policy.queue.name if definition is not None else "default",
            "user_id": schedule.user_id,
            "persistent": schedule.persistent,
            "extra": {"tick": tick.at.isoformat()},
        }
        async with self._database.connection() as conn:
            if not await hand_overs.adopt(conn, self._database.schema, values):
                return False
        await self._applier.apply(job_id, 1, executor.name, report_of(tick.run, None))
        return True

    def executor(self, name: str) -> Executor:
        """Return an executor.

        Raises:
            UnsupportedError: it is not configured here.
        """
        executor = self._executors.get(name)
        if executor is None:
            raise UnsupportedError(f"Executor {name!r} is not configured here.")
        return executor

    def clock_of(self, name: str) -> RemoteClock:
        """Return the clock of an executor.

        Raises:
            UnsupportedError: it is not configured here, or keeps no schedules.
        """
        executor = self.executor(name)
        if not isinstance(executor, HasClock):
            raise UnsupportedError(f"Executor {name!r} keeps no schedules.")
        return executor.clock


def fields_of(schedule: Schedule) -> dict[str, object]:
    """Return what a line of the log says of a schedule."""
    return {"schedule_id": str(schedule.id), "type": schedule.task, "executor": schedule.owner}
