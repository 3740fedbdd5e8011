"""Firing schedules whose clock is ours: each tick becomes one job, however many processes look.

A schedule is locked, its ticks taken, their jobs inserted and its next time set in one transaction. What
cannot be scheduled is written on its schedule and keeps no other from firing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import psycopg

from adapter.core.cron.declared import declare_schedules
from adapter.core.cron.ticks import spec_of
from adapter.core.loops import Poller
from adapter.core.parts import Parts
from adapter.core.planning import Planned, Planner
from adapter.core.scheduling import Scheduler, topics_of
from adapter.domain.cron import due
from adapter.domain.errors import AdapterError, DatabaseUnavailableError
from adapter.store import schedules
from adapter.store.database import Connection
from adapter.store.remote_runs import database_now
from adapter.store.schedules import Advance, Schedule
from adapter.store.steps import run
from adapter.store.wakeup import CRON

logger = logging.getLogger("adapter.cron")

#: Schedules fired in one transaction.
_BATCH = 100
_LONGEST_SLEEP_S = 1.0
#: How long a schedule whose tick was refused is left alone.
_ASIDE = timedelta(seconds=15)


@dataclass(slots=True)
class _Plan:
    """What a batch of schedules comes to: ticks with their jobs, and where each schedule goes on."""

    ticks: list[tuple[UUID, datetime, Planned]] = field(default_factory=list[tuple[UUID, datetime, Planned]])
    advances: list[Advance] = field(default_factory=list[Advance])


class Firing:
    """Fires what is due, for the tasks this process knows. Any number of processes may."""

    def __init__(self, parts: Parts, planner: Planner, scheduler: Scheduler, timezone: str) -> None:
        self._database = parts.database
        self._notifier = parts.notifier
        self._registry = parts.registry
        self._planner = planner
        self._scheduler = scheduler
        #: The zone of schedules that name none.
        self.timezone = timezone
        self._tasks = [each.id for each in parts.registry]
        self._declared = False
        self._sleep_s = _LONGEST_SLEEP_S
        #: Runs `run_once` again and again; ticks are a few milliseconds late at most.
        self.loop = Poller("cron", self.run_once, parts.clock, CRON, lambda: self._sleep_s)

    async def run_once(self) -> int:
        """Fire every tick that is due; returns how many jobs were made."""
        if not self._declared:
            await declare_schedules(self._database, self._registry, self.timezone)
            self._declared = True
        made, fired = 0, _BATCH
        while (soonest := await self._soonest()) is not None and soonest <= 0 and fired == _BATCH:
            fired, jobs = await self._batch()
            made += jobs
        self._sleep_s = _LONGEST_SLEEP_S if soonest is None else min(_LONGEST_SLEEP_S, max(0.005, soonest))
        return made

    async def _soonest(self) -> float | None:
        async with self._database.connection() as conn:
            return await schedules.soonest(conn, self._database.schema, self._tasks)

    async def _batch(self) -> tuple[int, int]:
        """Fire one batch; returns how many schedules and jobs it had."""
        due_ids: list[UUID] = []
        try:
            return await self._fire(None, _BATCH, due_ids)
        except DatabaseUnavailableError:
            raise
        except Exception as error:
            if not due_ids:
                raise
            logger.warning("schedules are fired one by one: together it failed (%s)", type(error).__name__)
        jobs = 0
        for each in due_ids:
            try:
                jobs += (await self._fire([each], 1, []))[1]
            except DatabaseUnavailableError:
                raise
            except psycopg.Error as error:
                # The rest of its words shows the row, and with it the payload.
                words = error.diag.message_primary or type(error).__name__
                logger.error("a schedule could not be fired: %s", words, extra={"schedule_id": str(each)})  # noqa: TRY400
                await self._put_aside(each, words)
            except Exception:
                logger.exception("a schedule could not be fired", extra={"schedule_id": str(each)})
                await self._put_aside(each, "see the log")
        return len(due_ids), jobs

    async def _put_aside(self, schedule_id: UUID, words: str) -> None:
        """Leave a schedule alone for a while, so that it stops no other; its tick stays due."""
        async with self._database.connection() as conn:
            problem = f"Its tick was refused, and is tried again: {words}"
            await schedules.put_aside(conn, self._database.schema, schedule_id, problem, _ASIDE)

    async def _fire(self, only: Sequence[UUID] | None, limit: int, seen: list[UUID]) -> tuple[int, int]:
        schema = self._database.schema
        topics = set[str]()
        async with self._database.transaction() as conn:
            found = await schedules.due(conn, schema, self._tasks, limit=limit, only=only)
            if not found:
                return 0, 0
            seen += [each.id for each in found]
            plan = self._plan(found, await database_now(conn, schema))
            taken = await self._taken(conn, plan)
            mine = [each for each in plan.ticks if (each[0], each[1]) in taken]
            planned = [each[2] for each in mine]
            jobs = await run(conn, schema, self._scheduler.schedule(planned)) if planned else []
            others = [
                (schedule_id, at, job.id)
                for (schedule_id, at, each), job in zip(mine, jobs, strict=True)
                if job.id != each.job.id
            ]
            if others:
                # Their tag is held by a job that has not started: that one is the tick's.
                await schedules.note_jobs(conn, schema, others)
            await schedules.advance(conn, schema, plan.advances)
            topics = topics_of(planned, jobs)
        self._notifier.poke(*topics)
        return len(found), len(mine)

    async def _taken(self, conn: Connection, plan: _Plan) -> set[tuple[UUID, datetime]]:
        if not plan.ticks:
            return set()
        ticks = [(schedule_id, at, UUID(str(each.job.id))) for schedule_id, at, each in plan.ticks]
        return await schedules.take(conn, self._database.schema, ticks)

    def _plan(self, found: Sequence[Schedule], now: datetime) -> _Plan:
        plan = _Plan()
        for each in found:
            assert each.next_at is not None
            ticks, next_at = due(each.times, each.next_at, now, each.missed)
            problem, planned = None, list[tuple[UUID, datetime, Planned]]()
            try:
                before = [each.last_at, *ticks]
                planned = [
                    (each.id, at, self._planner.plan(spec_of(each, at, last)))
                    for at, last in zip(ticks, before, strict=False)
                ]
            except AdapterError as error:
                # A disabled task, a payload that does not fit any more: it rests, and says why.
                problem = str(error)
                if each.problem != problem:
                    logger.warning("a schedule of %s makes no jobs: %s", each.task, problem)
            plan.ticks += planned
            plan.advances.append(Advance(each.id, next_at, ticks[-1] if planned else None, problem))
        return plan
