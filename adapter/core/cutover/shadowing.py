"""Shadows: copies of jobs that have ended, made, watched to their end, and compared.

Nobody's scheduling call knows of them: a loop looks at what has ended, so a copy can cost its job nothing.
What goes wrong with a copy is its own, and is told by the parity report alone.
"""

from __future__ import annotations

import contextlib
import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

from adapter.core.canceling import Canceler
from adapter.core.flags import FlagSource
from adapter.core.loops import Poller
from adapter.core.parts import Parts
from adapter.core.planning import JobSpec, Planned, Planner, ScheduleOptions
from adapter.core.scheduling import Scheduler
from adapter.domain.comparison import Comparison, Outcome, compare
from adapter.domain.errors import JobNotFoundError
from adapter.domain.job import LOCAL, JobStatus
from adapter.domain.routing import EVERY_TASK, Flags, bucket, can_run, kill_switch, threshold
from adapter.domain.shadow import SHADOW_MODE, SHADOW_OF, SHADOW_QUEUE, ShadowMode
from adapter.store import shadows
from adapter.store.database import Connection
from adapter.store.inserting import insert
from adapter.store.shadows import EndedCopy, Judgement, Original, Shadow
from adapter.store.steps import run
from adapter.store.wakeup import DISPATCH

logger = logging.getLogger("adapter.shadows")

#: So long ago a job has to have ended: no transaction that ends jobs takes longer.
_SETTLED = timedelta(seconds=1)
_KEPT, _STARTS_WITHIN = timedelta(days=1), timedelta(hours=1)
_MOST_SEEN, _MOST_JUDGED = 1000, 50
#: Ends that say something of the handler.
_COMPARABLE = {JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.TIMED_OUT, JobStatus.CRASHED}


class Shadows:
    """Makes the copies that the switches ask for, and says what those came to that have ended.

    Any number of processes may run it; each shadow is in the hands of one at a time.
    """

    def __init__(
        self, parts: Parts, flags: FlagSource, planner: Planner, scheduler: Scheduler, canceler: Canceler
    ) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._notifier = parts.notifier
        self._flags = flags
        self._planner = planner
        self._scheduler = scheduler
        self._canceler = canceler
        #: Runs `run_once` again and again.
        self.loop = Poller("shadows", self.run_once, parts.clock, "*")

    async def run_once(self, settled: timedelta = _SETTLED) -> int:
        """Judge what has ended, then make copies of jobs that ended ``settled`` ago; returns how many of both."""
        async with self._database.connection() as conn:
            if not await shadows.are_any(conn, self._database.schema):
                return 0
        judged = await self._judge()
        async with self._database.connection() as conn:
            found = await shadows.switches(conn, self._database.schema)
        known = [each for each in found if self._registry.find(each.task) is not None]
        return judged + sum([await self._make(each, settled) for each in known])

    async def _make(self, shadow: Shadow, settled: timedelta) -> int:
        schema = self._database.schema
        async with self._database.transaction() as conn:
            progress = await shadows.hold(conn, schema, shadow, settled)
            if progress is None:
                return 0
            ended = await shadows.ended_since(conn, schema, shadow, progress, _MOST_SEEN)
            below = threshold(shadow.percent)
            sampled = [job_id for job_id, _ in ended if bucket(shadow.salt, str(job_id)) < below]
            chosen = sampled[: max(0, shadow.most_open - progress.open)]
            copied = await self._copy(conn, shadow, chosen)
            to = ended[-1] if len(ended) == _MOST_SEEN else progress.horizon
            await shadows.move_on(conn, schema, shadow, to, len(sampled) - copied)
        if copied:
            self._notifier.poke(SHADOW_QUEUE if shadow.executor == LOCAL else DISPATCH)
        return copied or len(ended) == _MOST_SEEN

    async def _copy(self, conn: Connection, shadow: Shadow, jobs: list[UUID]) -> int:
        """Insert copies; returns how many. None where the executor must not get any now."""
        if not jobs:
            return 0
        schema = self._database.schema
        flags = await run(conn, schema, self._flags.reading())
        if not self._may_go_there(shadow, flags):
            return 0
        taken = await shadows.originals(conn, schema, shadow.task, jobs)
        planned = [self._plan(shadow, each) for each in taken]
        if shadow.executor == LOCAL:
            await run(conn, schema, self._scheduler.declare_queues([SHADOW_QUEUE]))
        inserted = await run(conn, schema, insert([each.job for each in planned], flags.version))
        made = {
            each.id: copy.job.id
            for each, copy in zip(taken, planned, strict=True)
            if copy.job.id in inserted.jobs
        }
        await shadows.add(conn, schema, shadow, made)
        return len(made)

    def _may_go_there(self, shadow: Shadow, flags: Flags) -> bool:
        kill = kill_switch(flags, shadow.task)
        is_open = any((scope, shadow.executor) in flags.open_circuits for scope in (shadow.task, EVERY_TASK))
        if is_open or (kill is not None and kill[0] != shadow.executor):
            return False
        policy = self._registry.get(shadow.task).policy
        # What was pure when somebody switched it on may not be so any more.
        return can_run(policy, shadow.executor, flags) and (policy.pure or shadow.mode is ShadowMode.ENQUEUE)

    def _plan(self, shadow: Shadow, original: Original) -> Planned:
        options = ScheduleOptions(
            executor=shadow.executor,
            strict=True,
            ttl=_STARTS_WITHIN,
            keep_for=_KEPT,
            persistent=False,
            max_duration=original.max_duration,
            retry=original.retry,
            max_attempts=original.max_attempts,
            user_id=original.user_id,
            tags=["shadow"],
            extra={SHADOW_OF: str(original.id), SHADOW_MODE: shadow.mode.value},
        )
        if shadow.executor == LOCAL:
            options["queue"] = SHADOW_QUEUE
        planned = self._planner.plan_unchecked(JobSpec(shadow.task, None, options))
        job = planned.job
        job.payload = original.payload or "null"
        job.executor, job.route_reason = shadow.executor, "shadow"
        job.status = JobStatus.QUEUED if shadow.executor == LOCAL else JobStatus.PENDING
        return planned

    async def _judge(self) -> int:
        schema = self._database.schema
        tasks = [each.id for each in self._registry]
        judged = 0
        async with self._database.connection() as conn:
            late = await shadows.give_up(conn, schema)
            for copy in await shadows.ended_copies(conn, schema, tasks, _MOST_JUDGED):
                rules = self._registry.get(copy.task).policy.compare
                judged += await shadows.judge(conn, schema, copy, judgement_of(copy, rules))
        for each in late:
            with contextlib.suppress(JobNotFoundError):
                await self._canceler.cancel(each, reason="a shadow that did not end in time", actor="adapter")
        return judged


def judgement_of(copy: EndedCopy, rules: Comparison) -> Judgement:
    """Return what a copy that has ended came to. A comparison that fails says nothing of it."""
    if not copy.stayed:
        return _void("it was moved to another executor")
    if copy.mode is ShadowMode.ENQUEUE:
        taken = copy.shadow.status == JobStatus.COMPLETED
        return Judgement(
            verdict="taken" if taken else "refused", detail=None if taken else _said(copy.shadow)
        )
    if copy.record is None:
        return _void("its job is not kept any more")
    if copy.shadow.status not in _COMPARABLE:
        return _void(f"it ended {copy.shadow.status}")
    try:
        found = compare(copy.record, copy.shadow, rules, copy.at.date())
    except Exception as error:  # noqa: BLE001 - the application's own function may be part of it
        logger.warning("a shadow of %s could not be compared: %s", copy.task, type(error).__name__)
        return _void(f"it could not be compared: {type(error).__name__}")
    detail: dict[str, Any] | None = None
    if found.paths:
        detail = {"record": _said(copy.record), "shadow": _said(copy.shadow)}
        if rules.keep_values:
            detail["values"] = {"record": copy.record.result, "shadow": copy.shadow.result}
    verdict = "different" if found.paths else "equal"
    return Judgement(verdict=verdict, paths=found.paths, hashes=found.hashes, detail=detail)


def _said(outcome: Outcome) -> dict[str, Any]:
    return {"status": outcome.status, "error": outcome.error}


def _void(why: str) -> Judgement:
    return Judgement(verdict="void", detail={"why": why})
