"""The dispatcher: hands remote jobs to their executors, one try at a time, each with a known end.

It is safe to run in any number of processes and to be killed at any point: what it is about to do is
committed before it does it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.applying import Applier
from adapter.core.budget import Budgets
from adapter.core.canceling import Canceler
from adapter.core.cutover.rerouting import Rerouter
from adapter.core.flags import FlagSource
from adapter.core.loops import Poller
from adapter.core.parts import Parts
from adapter.core.reading import Reader
from adapter.core.submissions import submission_of
from adapter.core.tombstones import Tombstones
from adapter.domain.errors import (
    DatabaseUnavailableError,
    ExecutorError,
    NotSentError,
    RejectedError,
    ThrottledError,
)
from adapter.domain.job import LOCAL, Job, SubmitState
from adapter.domain.json import keepable
from adapter.domain.routing import Flags
from adapter.domain.task import TaskPolicy
from adapter.executors.base import Executor
from adapter.store import outbox, settling
from adapter.store.jobs import by_ids
from adapter.store.outbox import Outgoing
from adapter.store.steps import run
from adapter.store.wakeup import DISPATCH, FINISHED

logger = logging.getLogger("adapter.dispatch")

#: How long a dispatcher may hold a row: longer than a call can last, or it is repeated under the same keys.
LEASE = timedelta(seconds=60)
#: No submit starts later than this after the epoch's first try: the remote answers repeats for 24 h.
RESUBMIT_WITHIN = timedelta(hours=20)
#: Answers that say something of our key or address, not of the job: it waits instead of failing.
_OUR_FAULT = {401, 403, 404, 405}
_AT_ONCE = 16
_LOOK_AGAIN_S = 0.02


def backoff(tries: int, *, longest: float = 60.0) -> timedelta:
    """Return the wait before the next try."""
    return timedelta(seconds=min(longest, 0.5 * 2 ** min(max(tries - 1, 0), 10)))


class Dispatcher:
    """Works the outbox of every configured executor."""

    def __init__(
        self,
        parts: Parts,
        flags: FlagSource,
        applier: Applier,
        reader: Reader,
        budgets: Budgets,
        *,
        canceler: Canceler,
        lease: timedelta = LEASE,
    ) -> None:
        self._database = parts.database
        self._flags = flags
        self._executors = parts.executors
        self._applier = applier
        self._reader = reader
        self._budgets = budgets
        self._canceler = canceler
        self._tombstones = Tombstones(parts, reader, budgets)
        self._lease = lease
        self._notifier = parts.notifier
        self._observers = parts.observers
        self._tally = parts.tally
        self._clock = parts.clock
        #: Runs `run_once` again and again.
        self.loop = Poller("dispatch", self.run_once, self._clock, DISPATCH)
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._tries: set[asyncio.Task[None]] = set()
        self._rerouter = Rerouter(parts)

    async def try_now(self, jobs: Sequence[UUID], wait: timedelta) -> dict[UUID, Job]:
        """Try these jobs at once, wait for it no longer than ``wait``, and return them as they then are.

        A try that takes longer goes on behind the caller's back: cutting it off would leave it unknown.
        """
        attempt = asyncio.get_running_loop().create_task(self._try_quietly(jobs), name="adapter-try-now")
        self._tries.add(attempt)
        attempt.add_done_callback(self._tries.discard)
        deadline = self._clock.monotonic() + wait.total_seconds()
        await asyncio.wait({attempt}, timeout=wait.total_seconds())
        while True:
            async with self._database.connection() as conn:
                now = await run(conn, self._database.schema, by_ids(jobs))
            elsewhere = any(job.submit_state is SubmitState.TRYING for job in now.values())
            if not elsewhere or self._clock.monotonic() >= deadline:
                return now
            # Another dispatcher was faster; its answer is as good as ours.
            await self._clock.sleep(_LOOK_AGAIN_S)

    async def _try_quietly(self, jobs: Sequence[UUID]) -> None:
        try:
            await self.run_once(jobs)
        except DatabaseUnavailableError as error:
            # The rows are committed: a dispatcher finds them.
            logger.warning("jobs could not be tried at once: %s", type(error).__name__)

    async def drain(self) -> None:
        """Wait for the tries that `try_now` left behind."""
        if self._tries:
            await asyncio.wait(self._tries)

    async def run_once(self, only: Sequence[UUID] | None = None, limit: int = 100) -> int:
        """Try what is ready to be tried, or of that only some jobs; returns how many tries were made."""
        flags = await self._current_flags()
        held = await self._rerouter.run_once(flags, stranded_too=only is None)
        tried = 0
        for name in self._executors.names:
            executor = self._executors.by_name[name]
            lease = UUID(str(uuid7()))
            began = self._clock.monotonic()
            async with self._database.connection() as conn:
                rows = await outbox.claim(
                    conn,
                    self._database.schema,
                    executor=name,
                    environment=executor.environment,
                    lease=lease,
                    lease_for=self._lease,
                    limit=limit,
                    held=held.get(name, []),
                    flags_version=flags.version,
                    only=only,
                    types=self._rerouter.named_at(name),
                )
            async with asyncio.TaskGroup() as group:
                for row in rows:
                    group.create_task(self._guarded(executor, row, began))
            tried += len(rows)
        return tried

    async def _current_flags(self) -> Flags:
        fresh = self._flags.fresh
        if fresh is not None:
            return fresh
        async with self._database.connection() as conn:
            return await run(conn, self._database.schema, self._flags.reading())

    async def _guarded(self, executor: Executor, row: Outgoing, began: float) -> None:
        async with self._gate:
            try:
                await self._try(executor, row, began)
            except DatabaseUnavailableError as error:
                # The lease lapses and the row becomes `unknown`: whoever comes next looks it up.
                logger.warning(
                    "a dispatch could not be recorded: %s", type(error).__name__, extra=_fields(row.job)
                )
            except Exception:
                # As above; the tries beside this one go on.
                logger.exception("a dispatch fell", extra=_fields(row.job))

    async def _try(self, executor: Executor, row: Outgoing, began: float) -> None:
        policy = self._rerouter.policy(row.job.type)
        if row.first and row.job.cancel_requested:
            await self._canceled(row)
            return
        too_late = row.age > RESUBMIT_WITHIN and not policy.idempotent
        if not row.first and (row.job.cancel_requested or row.recalled or too_late):
            await self._look_up(executor, row)
            return
        if not await self._budgets.take(executor, "dispatch", longest=self._lease / 4):
            await self._not_sent(row, timedelta(seconds=1))
            return
        if self._clock.monotonic() - began > self._lease.total_seconds() / 2:
            # It waited for its turn for so long that its lease could lapse during the call.
            await self._not_sent(row, timedelta(0))
            return
        if row.first and self._rerouter.is_held(executor.name, row.job.type, await self._current_flags()):
            # A switch was turned while it waited for its turn.
            await self._not_sent(row, timedelta(0))
            return
        try:
            accepted = await executor.submit(submission_of(row, policy, executor))
        except NotSentError as error:
            self._observers.counts["dispatch_not_sent"] += 1
            self._tally.tried(executor.name, row.job, arrived=False)
            logger.info("not sent: %s", error, extra=_fields(row.job))
            await self._not_sent(row, backoff(row.tries))
        except ThrottledError as error:
            self._observers.counts["dispatch_throttled"] += 1
            self._tally.tried(executor.name, row.job, arrived=True)
            pause = self._pause(error)
            await self._budgets.pause(executor, pause)
            await self._not_sent(row, pause)
        except RejectedError as error:
            self._observers.counts["dispatch_rejected"] += 1
            self._tally.tried(executor.name, row.job, arrived=True)
            await self._rejected(executor, row, policy, error)
        except Exception as error:  # noqa: BLE001 - whatever else an executor raises, it may have been taken
            self._observers.counts["dispatch_unknown"] += 1
            self._tally.tried(executor.name, row.job, arrived=False)
            logger.warning("unknown outcome: %s", error, extra=_fields(row.job))
            await self._unknown(row, str(error) or type(error).__name__)
        else:
            self._observers.counts["dispatch_accepted"] += 1
            self._tally.tried(executor.name, row.job, arrived=True)
            bound = await self._applier.accepted(
                row.job.id, row.job.epoch, executor.name, accepted.run_id, executor.environment
            )
            await self._cancel_if_wanted(bound)
            if not row.first and bound is not None:
                await self._reader.catch_up(executor, bound, accepted.run_id)

    async def _cancel_if_wanted(self, job: Job | None) -> None:
        """Cancel a run at once that somebody wanted canceled before its id was known."""
        if job is not None and job.cancel_requested and not job.status.is_terminal:
            await self._canceler.cancel_there(job)

    async def _canceled(self, row: Outgoing, *, proven: bool = False) -> None:
        async with self._database.connection() as conn:
            ended = await outbox.canceled(conn, self._database.schema, row, proven=proven)
        if ended is not None:
            self._applier.told(ended)

    async def _proven_absent(self, row: Outgoing) -> None:
        """Nothing arrived: a user's cancel ends the job, a recall has it back."""
        await self._canceled(row, proven=True)
        async with self._database.connection() as conn:
            moved = await settling.proven_absent(
                conn, self._database.schema, row.job.id, row.job.epoch, row.lease
            )
        if moved is not None:
            self._notifier.poke(DISPATCH, moved.queue)

    def _pause(self, error: ThrottledError) -> timedelta:
        """Return how long the remote wants to be left alone: rows and budgets go by the database's clock."""
        if error.retry_at is None:
            return timedelta(seconds=5)
        return max(error.retry_at - self._clock.now(), timedelta(0))

    async def _not_sent(self, row: Outgoing, delay: timedelta) -> None:
        async with self._database.connection() as conn:
            await outbox.not_sent(conn, self._database.schema, row, delay=delay)

    async def _unknown(self, row: Outgoing, why: str) -> None:
        async with self._database.connection() as conn:
            delay = backoff(row.tries + 1, longest=300.0)
            await outbox.unknown(conn, self._database.schema, row, why=keepable(why[:500]), delay=delay)

    async def _rejected(
        self, executor: Executor, row: Outgoing, policy: TaskPolicy, error: RejectedError
    ) -> None:
        if error.status in _OUR_FAULT:
            logger.error(
                "%s refuses us (HTTP %d): %s", executor.name, error.status, error, extra=_fields(row.job)
            )
            await self._not_sent(row, timedelta(seconds=30))
            return
        if not row.first:
            # An earlier try of this epoch may have got through: refusing this one proves nothing.
            await self._unknown(row, f"refused after an unknown try: {error}")
            return
        async with self._database.connection() as conn:
            schema = self._database.schema
            if policy.on_rejected is not None and policy.on_rejected != executor.name:
                queues = await outbox.reroute(
                    conn,
                    schema,
                    executor=executor.name,
                    to=policy.on_rejected,
                    reason=f"rejected by {executor.name}",
                    runnable=policy.runs_at(policy.on_rejected),
                    row=row,
                )
                if queues:
                    self._notifier.poke(*queues, DISPATCH)
                    return
                # Somebody wants it canceled: it goes nowhere any more.
            ended = await outbox.rejected(conn, schema, row, why=keepable(str(error)[:2000]))
        if ended is None:
            # A recall wants it, which takes it as it is: a known no is no run.
            await self._not_sent(row, timedelta(0))
        else:
            logger.warning("rejected: %s", error, extra=_fields(row.job))
            self._observers.finished([ended])
            self._notifier.poke(FINISHED)

    async def _look_up(self, executor: Executor, row: Outgoing) -> None:
        """Ask for the epoch's run by its tag. Not finding it proves nothing; for a cancel or recall a tombstone does."""
        try:
            found = await self._reader.find(executor, row.job)
            await self._reader.adopt(executor, row.job, found)
            if not found and (row.job.cancel_requested or row.recalled) and row.age <= RESUBMIT_WITHIN:
                submission = submission_of(row, self._rerouter.policy(row.job.type), executor)
                if await self._tombstones.never_arrived(executor, row.job, submission):
                    await self._proven_absent(row)
                    return
        except ExecutorError as error:
            await self._unknown(row, f"could not be looked up: {error}")
            return
        if not found:
            await self._unknown(row, "it may be too late to submit it again, and it is in no list")
        async with self._database.connection() as conn:
            now = await run(conn, self._database.schema, by_ids([row.job.id]))
        await self._cancel_if_wanted(now.get(row.job.id))


def _fields(job: Job) -> dict[str, object]:
    return {
        "job_id": str(job.id),
        "type": job.type,
        "executor": job.executor or LOCAL,
        "run_id": job.remote_run_id,
        "attempt": job.attempt,
    }
