"""Carrying out bulk actions: one process at a time works on each, and any goes on where another has stopped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.canceling import Canceler
from adapter.core.loops import Poller
from adapter.core.parts import Parts
from adapter.core.planning import Planned, Planner
from adapter.core.replaying import replay_spec
from adapter.core.scheduling import Scheduled, Scheduler, topics_of
from adapter.domain.bulk import BulkAction
from adapter.domain.errors import AdapterError, JobNotFoundError
from adapter.domain.job import JobStatus
from adapter.store import bulk_actions, jobs
from adapter.store.bulk_actions import Work
from adapter.store.steps import run
from adapter.store.wakeup import BULK

#: How long one is held without a sign of life.
LEASE = timedelta(seconds=60)
#: Jobs of one step.
_BATCH = 50


class BulkActions:
    """Works on bulk actions until each is done: first all its jobs are found, then each is acted on."""

    def __init__(self, parts: Parts, planner: Planner, scheduler: Scheduler, canceler: Canceler) -> None:
        self._database = parts.database
        self._notifier = parts.notifier
        self._planner = planner
        self._scheduler = scheduler
        self._canceler = canceler
        self._holder = UUID(str(uuid7()))
        self.loop = Poller("bulk actions", self.run_once, parts.clock, BULK)

    async def run_once(self, bulk_action_id: UUID | None = None) -> int:
        """Do the next step of one that nobody works on, or of this one; returns how much was done."""
        schema = self._database.schema
        async with self._database.connection() as conn:
            work = await bulk_actions.hold(conn, schema, self._holder, LEASE, bulk_action_id)
        if work is None:
            return 0
        done = await self._step(work)
        # What an error has cut short is left alone as long as the lease lasts, and holds the others not up.
        async with self._database.connection() as conn:
            await bulk_actions.release(conn, schema, work.action.id, self._holder)
        return 1 + done

    async def _step(self, work: Work) -> int:
        action, schema = work.action, self._database.schema
        async with self._database.connection() as conn:
            if work.wanted is not None and not action.selected:
                return await bulk_actions.select_more(conn, schema, action.id, self._holder, work.wanted)
            batch = await bulk_actions.next_jobs(conn, schema, action.id, _BATCH)
            if not batch:
                await bulk_actions.complete(conn, schema, action.id)
                return 0
        if action.action == "cancel":
            await self._cancel(action, batch)
        else:
            await self._replay(action, batch)
        return len(batch)

    async def _cancel(self, action: BulkAction, batch: Sequence[UUID]) -> None:
        """Cancel each; a second time does no harm, so nothing is locked while a remote is asked."""
        done: dict[UUID, UUID | None] = {}
        failed: dict[UUID, str] = {}
        reason = f"canceled by bulk action {action.id}"
        for each in batch:
            try:
                job = await self._canceler.cancel(each, reason=reason, actor=action.actor)
            except JobNotFoundError as error:
                failed[each] = str(error)
                continue
            if job.status is JobStatus.CANCELED or (job.cancel_requested and not job.status.is_terminal):
                done[each] = None
            else:
                failed[each] = f"Job {each} had ended: {job.status}."
        async with self._database.connection() as conn:
            await bulk_actions.settle(conn, self._database.schema, action.id, done=done, failed=failed)

    async def _replay(self, action: BulkAction, batch: Sequence[UUID]) -> None:
        """Make the new jobs in the transaction that says so: once, whoever is at it."""
        schema = self._database.schema
        async with self._database.connection() as conn:
            known = await run(conn, schema, jobs.by_ids(list(batch)))
        planned: dict[UUID, Planned] = {}
        failed: dict[UUID, str] = {}
        for each in batch:
            job = known.get(each)
            try:
                if job is None:
                    raise JobNotFoundError(each)
                given = action.overrides or {}
                of_action = {**given, "extra": {**given.get("extra", {}), "bulk_action": str(action.id)}}
                planned[each] = self._planner.plan(replay_spec(job, action.actor, overrides=of_action))
            except AdapterError as error:
                failed[each] = str(error)
        async with self._database.transaction() as conn:
            ours = await bulk_actions.take(conn, schema, action.id, batch)
            mine = {old: each for old, each in planned.items() if old in ours}
            plans = list(mine.values())
            made: list[Scheduled] = await run(conn, schema, self._scheduler.schedule(plans)) if plans else []
            done = {old: job.id for old, job in zip(mine, made, strict=True)}
            await bulk_actions.settle(conn, schema, action.id, done=done, failed=failed)
        self._notifier.poke(*topics_of(plans, made))
