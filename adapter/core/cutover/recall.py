"""Carrying out recalls: one process at a time works on each, and any can go on where another has stopped.

What is about to be done is committed before it is done: the intent on the row before anything is asked, and
that a cancel leaves before it leaves. What a remote answers goes through the one door, `Applier.apply`.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.budget import Budgets
from adapter.core.cutover.job_taker import JobTaker, Next, Spent
from adapter.core.cutover.steering import Steering
from adapter.core.dispatch import Dispatcher
from adapter.core.loops import Poller
from adapter.core.parts import Parts
from adapter.core.reading import Reader
from adapter.domain.errors import ExecutorError, ThrottledError
from adapter.domain.recall import Recall, RecallMode, RecallOutcome, RecallState
from adapter.store import outbox, recalls, taking_back
from adapter.store.flag_changes import Author
from adapter.store.recalls import Wanted
from adapter.store.wakeup import DISPATCH, RECALL

logger = logging.getLogger("adapter.recall")

#: How long a recall is held without a sign of life.
LEASE = timedelta(seconds=60)
_AT_ONCE = 8
_TROUBLED = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(minutes=1)


class Recaller:
    """Works on recalls until each is done."""

    def __init__(
        self, parts: Parts, steering: Steering, dispatcher: Dispatcher, reader: Reader, budgets: Budgets
    ) -> None:
        self._database = parts.database
        self._executors = parts.executors
        self._notifier = parts.notifier
        self._clock = parts.clock
        self._steering = steering
        self._dispatcher = dispatcher
        self._reader = reader
        self._budgets = budgets
        self._taker = JobTaker(parts, reader, budgets)
        self._holder = UUID(str(uuid7()))
        #: Takes up what a dead process has left.
        self.loop = Poller("recall", self.run_once, parts.clock, RECALL)

    async def run_once(self) -> int:
        """Take up one recall that nobody works on and do what is left of it; returns how many there were."""
        async with self._database.connection() as conn:
            found = await recalls.unheld(conn, self._database.schema, self._executors.names)
        if found is None:
            return 0
        await self.work(found)
        return 1

    async def work(self, recall_id: UUID, *, timeout: timedelta | None = None) -> None:
        """Work on a recall until it is done, somebody else holds it, or the time is up. Safe to interrupt."""
        began = self._clock.monotonic()
        spent = Spent(began)
        try:
            while (recall := await self._hold(recall_id, spent)) is not None:
                if not await self._step(recall, spent):
                    return
                late = timeout is not None and self._clock.monotonic() - began > timeout.total_seconds()
                if late and recall.state is not RecallState.PLANNED:
                    return
        finally:
            async with self._database.connection() as conn:
                await recalls.release(
                    conn,
                    self._database.schema,
                    recall_id,
                    self._holder,
                    calls=spent.calls,
                    seconds=self._clock.monotonic() - spent.began,
                )

    async def _hold(self, recall_id: UUID, spent: Spent) -> Recall | None:
        now = self._clock.monotonic()
        async with self._database.connection() as conn:
            held = await recalls.hold(
                conn,
                self._database.schema,
                recall_id,
                self._holder,
                LEASE,
                calls=spent.calls,
                seconds=now - spent.began,
            )
        spent.calls, spent.began = 0, now
        return held

    async def _step(self, recall: Recall, spent: Spent) -> bool:
        """Do a part of it; returns whether anything is left."""
        schema = self._database.schema
        if recall.state is RecallState.PLANNED:
            await self._turn_the_flag(recall)
            return True
        unsent = marked = 0
        async with self._database.connection() as conn:
            if recall.state is RecallState.STOPPING:
                await recalls.leave(conn, schema, recall.id, RecallOutcome.LEFT, unasked=True)
            if recall.state is RecallState.RUNNING:
                pending = recall.mode is RecallMode.PENDING
                move = taking_back.move_pending if pending else taking_back.move_unsent
                moved = await move(conn, schema, recall, recall.batch)
                if moved.count:
                    self._notifier.poke(DISPATCH, *moved.queues)
                unsent = moved.count
                if not pending:
                    marked = (await taking_back.mark(conn, schema, recall, recall.batch)).count
            page = await recalls.due(conn, schema, recall.id, recall.batch)
            places = sorted({each.executor for each in page})
            # The switch keeps new jobs away, so the share of dispatch lies idle, unless other tasks need it.
            idle = [await outbox.next_try(conn, schema, place) is None for place in places]
            spent.spare = "dispatch" if all(idle) else None
        began = self._clock.monotonic()
        await self._rows(recall, page, spent)
        if unsent or marked or page:
            await self._keep_pace(recall, unsent + len(page), began)
            return True
        return await self._wait_or_end(recall, spent)

    async def _keep_pace(self, recall: Recall, done: int, began: float) -> None:
        if recall.per_second:
            rest = done / recall.per_second - (self._clock.monotonic() - began)
            if rest > 0:
                await self._clock.sleep(rest)

    async def _wait_or_end(self, recall: Recall, spent: Spent) -> bool:
        schema = self._database.schema
        async with self._database.connection() as conn:
            soonest = await recalls.soonest(conn, schema, recall.id)
        if soonest is not None:
            await self._clock.sleep(min(max(soonest, 0.0), 1.0))
            return True
        stopping = recall.state is RecallState.STOPPING
        to = RecallState.STOPPED if stopping else RecallState.DONE
        async with self._database.connection() as conn:
            ended = await recalls.turn(conn, schema, recall.id, to, recall.state)
        if ended is None:
            return True
        logger.info("recall %s of %s is %s", recall.id, recall.task, to, extra={"recall": str(recall.id)})
        await self._tidy(recall, spent)
        return False

    async def _turn_the_flag(self, recall: Recall) -> None:
        """Keep new jobs away before anything is taken back; once only: later it is a person's again."""
        if recall.mode is not RecallMode.PENDING:
            await self._steering.kill(
                recall.task, recall.target, Author(recall.reason, recall.actor, "rollback")
            )
        async with self._database.connection() as conn:
            schema = self._database.schema
            await recalls.turn(conn, schema, recall.id, RecallState.RUNNING, RecallState.PLANNED)

    # ---- jobs ------------------------------------------------------------------------------------

    async def _rows(self, recall: Recall, page: list[Wanted], spent: Spent) -> None:
        uncertain: list[UUID] = []
        for start in range(0, len(page), _AT_ONCE):
            part = page[start : start + _AT_ONCE]
            async with asyncio.TaskGroup() as group:
                looks = [group.create_task(self._guarded(recall, each, spent)) for each in part]
            uncertain += [job_id for look in looks if (job_id := look.result()) is not None]
            # Rows that answer slowly must not cost us the recall.
            if start % (_AT_ONCE * 4) == 0 and await self._hold(recall.id, spent) is None:
                return
        if uncertain:
            # The dispatcher looks them up, or proves by a tombstone that there is nothing to be found.
            await self._dispatcher.run_once(uncertain)

    async def _guarded(self, recall: Recall, wanted: Wanted, spent: Spent) -> UUID | None:
        """Go a step, and put a job off that cannot be settled; returns its id when it is to be looked up."""
        try:
            after = await self._taker.step(recall, wanted, spent)
        except ThrottledError as error:
            delay = _TROUBLED
            if error.retry_at is not None:
                delay = min(max(error.retry_at - self._clock.now(), timedelta(0)), _LONGEST_PAUSE)
            after = Next(delay)
            executor = self._executors.get(wanted.executor)
            if executor is not None:
                await self._budgets.pause(executor, delay)
        except ExecutorError as error:
            logger.info(
                "%s cannot be asked: %s", wanted.executor, error, extra={"job_id": str(wanted.job_id)}
            )
            after = Next(_TROUBLED)
        if after is None:
            return None
        async with self._database.connection() as conn:
            await recalls.later(conn, self._database.schema, recall.id, wanted.job_id, after.delay)
        return wanted.job_id if after.uncertain else None

    async def _tidy(self, recall: Recall, spent: Spent) -> None:
        """Cancel the runs that a fence refuses, as far as that goes; reconciliation does the rest."""
        seen: list[str] = []
        while True:
            async with self._database.connection() as conn:
                rows = await recalls.unwanted(conn, self._database.schema, recall.id, seen, _AT_ONCE)
            if not rows:
                return
            seen += [run_id for _, run_id, _, _ in rows]
            done = await asyncio.gather(*(self._cancel(*row, spent) for row in rows))
            if not all(done):
                return

    async def _cancel(self, name: str, run_id: str, job_id: UUID, epoch: int, spent: Spent) -> bool:
        """Cancel a run that was left behind; False when its remote cannot be asked now."""
        executor = self._executors.get(name)
        if executor is None:
            return True
        try:
            await self._budgets.take(executor, "cancel", spare=spent.spare)
            spent.calls += 2
            await executor.cancel(run_id)
            await self._reader.read(executor, job_id, epoch, run_id, spare=spent.spare)
        except ExecutorError as error:
            logger.info("runs left behind at %s stay for now: %s", name, error)
            return False
        return True
