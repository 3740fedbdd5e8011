"""Routing what SQL producers wrote with ``schedule_job(…)``: by the first process that knows the task."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from adapter.core.flags import FlagSource
from adapter.core.loops import Poller
from adapter.core.parts import Parts
from adapter.core.planning import JobSpec, Planner, ScheduleOptions
from adapter.core.scheduling import Scheduler
from adapter.domain.errors import AdapterError
from adapter.domain.job import LOCAL, Job, JobStatus
from adapter.domain.routing import Flags
from adapter.store import unrouted
from adapter.store.database import Connection
from adapter.store.inserting import route
from adapter.store.steps import run
from adapter.store.wakeup import DISPATCH, FINISHED, ROUTE

logger = logging.getLogger("adapter.routing")

#: A task that no process has heard of may come with a deploy that is under way.
_GRACE = timedelta(minutes=1)


class Router:
    """Any number of processes may run it; each row is routed once, in epoch 1."""

    def __init__(self, parts: Parts, flags: FlagSource, planner: Planner, scheduler: Scheduler) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._notifier = parts.notifier
        self._observers = parts.observers
        self._flags = flags
        self._planner = planner
        self._scheduler = scheduler
        self.loop = Poller("routing", self.run_once, parts.clock, ROUTE)

    async def run_once(self) -> int:
        """Route a batch; returns how many rows were looked at."""
        schema = self._database.schema
        async with self._database.connection() as conn:
            if not await unrouted.are_any(conn, schema):
                return 0
        known = [each.id for each in self._registry if each.policy.enabled]
        disabled = [each.id for each in self._registry if not each.policy.enabled]
        topics: set[str] = set()
        ended: list[Job] = []
        async with self._database.transaction() as conn:
            flags = self._flags.fresh or await run(conn, schema, self._flags.reading())
            jobs = await unrouted.unrouted(
                conn, schema, known=known, elsewhere={*disabled, *flags.advertised} - set(known), grace=_GRACE
            )
            for job in jobs:
                made = await self._route(conn, job, flags)
                if made is None:
                    # The flags have moved on, and so will the row, with the next look.
                    self._flags.forget()
                elif made.status.is_terminal:
                    ended.append(made)
                elif made.status is JobStatus.PENDING:
                    topics.add(DISPATCH)
                elif made.executor == LOCAL and made.status is JobStatus.QUEUED:
                    topics.add(made.queue)
        if ended:
            topics.add(FINISHED)
            self._observers.finished(ended)
        if topics:
            self._notifier.poke(*topics)
        return len(jobs)

    async def _route(self, conn: Connection, job: Job, flags: Flags) -> Job | None:
        schema = self._database.schema
        try:
            planned = self._planner.plan(JobSpec(job.type, job.data, _options_of(job)))
        except AdapterError as error:
            return await unrouted.refuse(
                conn, schema, job.id, {"name": type(error).__name__, "message": str(error)}
            )
        except Exception as error:
            # One row that nobody can read must not stop the others.
            logger.exception("an unrouted job cannot be read", extra={"job_id": str(job.id)})
            said = {"name": type(error).__name__, "message": "The job could not be read; the log says more."}
            return await unrouted.refuse(conn, schema, job.id, said)
        planned.job.id = job.id
        new = self._scheduler.routed(planned, flags)
        await run(conn, schema, self._scheduler.declare_queues([new.terms.queue]))
        return await run(conn, schema, route(job.id, new, flags.version))


def _options_of(job: Job) -> ScheduleOptions:
    """Return what the producer asked for; what it left open is the task's to say."""
    asked: dict[str, Any] = dict(job.extra.get("asked") or {})
    for name in ("ttl", "max_duration"):
        if name in asked:
            asked[name] = timedelta(seconds=float(asked[name]))
    return ScheduleOptions(
        tag=job.tag,
        idempotency_key=job.idempotency_key,
        due=job.due,
        user_id=job.user_id,
        concurrency_key=job.concurrency_key,
        metadata=job.metadata,
        tags=job.tags,
        remove_at=job.remove_at,
        **asked,
    )
