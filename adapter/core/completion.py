"""How the outcomes of local tries reach the store: in batches, fenced, again until it took them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never

from adapter.core.parts import Parts
from adapter.core.registry import Registry
from adapter.domain.errors import DatabaseUnavailableError, ProcessDiedError
from adapter.domain.job import Job, JobStatus
from adapter.domain.outcome import (
    Errored,
    Lease,
    Returned,
    Snoozed,
    Stopped,
    Succeeded,
    TimedOut,
    TryOutcome,
)
from adapter.domain.task import RetryPolicy
from adapter.store.claims import Claimed
from adapter.store.database import TOO_LARGE, Connection
from adapter.store.endings import (
    Completion,
    Ending,
    GivingBack,
    complete,
    finish,
    finish_unseen,
    give_back,
)
from adapter.store.job_metadata import MetadataPatch, write_metadata
from adapter.store.own_connection import OwnConnection
from adapter.store.wakeup import FINISHED

logger = logging.getLogger("adapter.worker")

#: Rows one statement ends at most, and how many outcomes may wait before handlers are held back.
_BATCH = 1000
_MOST_WAITING = 10_000


@dataclass(slots=True)
class Done:
    """A try that came to an end."""

    job: Job | Claimed
    lease: Lease
    outcome: TryOutcome
    #: What its handler said last, to be written before the outcome.
    metadata: MetadataPatch | None = None


def plan_write(  # noqa: PLR0911 - one return per way a try can end
    done: Done, registry: Registry
) -> Ending | GivingBack:
    """Return what an outcome means for the row."""
    job, lease, outcome = done.job, done.lease, done.outcome
    match outcome:
        case Succeeded(result):
            return Ending(
                job_id=job.id, epoch=job.epoch, lease=lease, status=JobStatus.COMPLETED, result=result
            )
        case Errored(error, retryable, retry_after, retry_at):
            delay = retry_policy(job, registry).delay_after(job.attempt) if retryable else None
            if retryable and delay is not None:
                wait = delay if retry_after is None else max(retry_after, timedelta(0))
                return GivingBack(
                    job_id=job.id,
                    epoch=job.epoch,
                    lease=lease,
                    kind="retry",
                    error=error,
                    delay=None if retry_at else wait,
                    at=retry_at,
                )
            # Its last word is not that of the handler, whose process it was.
            status = JobStatus.CRASHED if isinstance(outcome.raised, ProcessDiedError) else JobStatus.FAILED
            return Ending(job_id=job.id, epoch=job.epoch, lease=lease, status=status, error=error)
        case TimedOut(error):
            return Ending(
                job_id=job.id, epoch=job.epoch, lease=lease, status=JobStatus.TIMED_OUT, error=error
            )
        case Stopped(reason):
            error = {"name": "Canceled", "message": reason}
            return Ending(job_id=job.id, epoch=job.epoch, lease=lease, status=JobStatus.CANCELED, error=error)
        case Returned(reason, runnable, delay=pause, unbegun=unbegun):
            return GivingBack(
                job_id=job.id,
                epoch=job.epoch,
                lease=lease,
                kind="returned",
                delay=pause,
                reason=reason if pause or unbegun else None,
                unspent=True,
                waits_for_executor=not runnable,
                unbegun=unbegun or not runnable,
            )
        case Snoozed(delay, reason):
            return _snooze(done, delay, reason, registry)
        case _:
            assert_never(outcome)


def _snooze(done: Done, delay: timedelta, reason: str, registry: Registry) -> Ending | GivingBack:
    job, most = done.job, most_snoozes(done.job, registry)
    if most is not None and snoozes(job) >= most:
        message = f"It was snoozed {most} times, which is the max_snoozes of its task."
        error = {"name": "SnoozeLimit", "message": message}
        return Ending(job_id=job.id, epoch=job.epoch, lease=done.lease, status=JobStatus.FAILED, error=error)
    return GivingBack(
        job_id=job.id,
        epoch=job.epoch,
        lease=done.lease,
        kind="snoozed",
        delay=delay,
        reason=reason or None,
        unspent=True,
    )


def snoozes(job: Job | Claimed) -> int:
    """Return how often the job was snoozed so far."""
    return int(job.extra.get("snoozes", 0))


def most_snoozes(job: Job | Claimed, registry: Registry) -> int | None:
    """Return how often a job may be snoozed; None: as often as it likes."""
    definition = registry.find(job.type)
    return definition.policy.max_snoozes if definition else None


def retry_policy(job: Job | Claimed, registry: Registry) -> RetryPolicy:
    """Return how this job is retried: by its own policy, or its task's, with its own number of attempts."""
    definition = registry.find(job.type)
    if job.retry is not None:
        policy = RetryPolicy.model_validate(job.retry)
    else:
        policy = definition.policy.retry if definition else RetryPolicy()
    return policy.model_copy(update={"max_attempts": job.max_attempts})


class Completer:
    """Collects outcomes and writes them. While one batch is being written the next one gathers."""

    def __init__(self, parts: Parts, on_written: Callable[[], object] = lambda: None) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._notifier = parts.notifier
        self._observers = parts.observers
        self._clock = parts.clock
        self._on_written = on_written
        #: Where writes go; its owner may `hold` it.
        self.connection = OwnConnection(parts.database, "finish")
        self._waiting: list[Done] = []
        self._writer: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()

    @property
    def unwritten(self) -> list[str]:
        """The ids of the jobs whose outcomes are not written yet."""
        return [str(done.job.id) for done in self._waiting]

    def take(self, done: Done) -> bool:
        """Take an outcome; False asks to wait for `has_room` before the next."""
        self._waiting.append(done)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write(), name="adapter-complete")
        if len(self._waiting) < _MOST_WAITING:
            return True
        self._room.clear()
        return False

    async def has_room(self) -> None:
        """Wait while too many outcomes are unwritten."""
        await self._room.wait()

    async def flush(self) -> None:
        """Wait until everything taken is written."""
        while self._writer is not None and not self._writer.done():
            await asyncio.shield(self._writer)

    async def _write(self) -> None:
        wait = 0.05
        while self._waiting:
            batch = self._waiting[:_BATCH]
            try:
                await self._write_or_split(batch)
            except DatabaseUnavailableError as error:
                # Fenced by the lease, so writing it again is safe whatever became of the first try.
                logger.warning("outcomes could not be written, trying again: %s", type(error).__name__)
                await self._clock.sleep(wait)
                wait = min(wait * 2, 2.0)
                continue
            wait = 0.05
            self._room.set()
            self._on_written()

    async def _write_or_split(self, batch: Sequence[Done]) -> None:
        """Write a batch; if it is refused, row by row: a bad one must not cost the others their outcome."""
        if await self._written(batch):
            del self._waiting[: len(batch)]
            return
        for done in batch:
            if not await self._written([done]):
                said = {"name": "ResultError", "message": "PostgreSQL cannot keep this result."}
                refused = Done(done.job, done.lease, Errored(said, retryable=False))
                if not await self._written([refused]):
                    logger.error("an outcome could not be written at all", extra={"job_id": str(done.job.id)})
            del self._waiting[0]

    async def _written(self, batch: Sequence[Done]) -> bool:
        """Write; False when it was refused. What may succeed later is raised."""
        try:
            await self.write(batch)
        except Exception as error:
            if _is_transient(error):
                raise
            logger.exception("%d outcomes were refused", len(batch))
            return False
        return True

    async def write(self, batch: Sequence[Done]) -> None:
        """Write outcomes now. Those of jobs that were lost meanwhile change nothing and are counted."""
        completions: list[Completion] = []
        plans: list[Ending | GivingBack] = []
        seen = self._observers.watch_ends
        for done in batch:
            if not seen and type(done.outcome) is Succeeded:
                completions.append(_completion(done, done.outcome))
            else:
                plans.append(plan_write(done, self._registry))
        patches = [done.metadata for done in batch if done.metadata is not None]
        ended, stale = 0, 0
        async with self.connection.lend() as conn, _together(conn, len(patches)):
            if patches:
                # An older patch on its way cannot come in between.
                await write_metadata(conn, self._database.schema, patches, [done.job.id for done in batch])
            if completions:
                ended = await complete(conn, self._database.schema, batch[0].lease.worker_id, completions)
                stale = len(completions) - ended
            if plans:
                more, late = await self._write_plans(conn, plans)
                ended, stale = ended + more, stale + late
        if stale:
            self._observers.counts["stale_write"] += stale
            logger.warning("%d outcomes came too late: their jobs are in other hands", stale)
        if ended:
            self._notifier.poke(FINISHED)

    async def _write_plans(self, conn: Connection, plans: Sequence[Ending | GivingBack]) -> tuple[int, int]:
        """Write what is not simply completed; returns how many ended, and how many came too late."""
        endings = [plan for plan in plans if isinstance(plan, Ending)]
        returns = [plan for plan in plans if isinstance(plan, GivingBack)]
        ended = await self._end(conn, endings)
        stale = len(endings) - ended
        if returns:
            back = await give_back(conn, self._database.schema, returns)
            self._notifier.poke(*(set(back.values())))
            # A spent try of a job somebody wants canceled is not tried again.
            left = [_canceled(each) for each in returns if each.job_id not in back]
            canceled = await self._end(conn, left)
            ended += canceled
            stale += len(left) - canceled
        return ended, stale

    async def _end(self, conn: Connection, endings: Sequence[Ending]) -> int:
        """End jobs; returns how many of them were still ours. Rows are read only for those who watch."""
        if not endings:
            return 0
        if not self._observers.watch_ends:
            return await finish_unseen(conn, self._database.schema, endings)
        finished = await finish(conn, self._database.schema, endings)
        self._observers.finished(finished)
        return len(finished)


def _together(conn: Connection, patches: int) -> AbstractAsyncContextManager[object]:
    """What is said of running jobs is written in one transaction with how they ended."""
    return conn.transaction() if patches else nullcontext()


def _completion(done: Done, outcome: Succeeded) -> Completion:
    job, result = done.job, outcome.result
    key = job.key if type(job) is Claimed else str(job.id)
    text = None if result is None else json.dumps(result, allow_nan=False, separators=(",", ":"))
    return Completion(key, job.epoch, done.lease.claim_number, text)


def _is_transient(error: Exception) -> bool:
    """Whether the same write may succeed later. A value that is too large for PostgreSQL stays so."""
    return isinstance(error, DatabaseUnavailableError) and not isinstance(error.__cause__, TOO_LARGE)


def _canceled(given: GivingBack) -> Ending:
    error = {"name": "Canceled", "message": "It was canceled; this try was not repeated."}
    return Ending(
        job_id=given.job_id, epoch=given.epoch, lease=given.lease, status=JobStatus.CANCELED, error=error
    )
