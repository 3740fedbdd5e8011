"""A worker process: claims ready jobs, runs them, hands their outcomes to the completer."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.calling import Caller
from adapter.core.completion import Completer, Done
from adapter.core.context import JobContext
from adapter.core.ending import end_try
from adapter.core.families import Families
from adapter.core.heartbeat import FENCE_AT, Heartbeat
from adapter.core.metadata_writer import MetadataWriter
from adapter.core.parts import Parts
from adapter.core.patience import Patience
from adapter.core.registry import TaskDefinition
from adapter.core.runner import Interruption, run_try
from adapter.core.scheduling import Scheduler
from adapter.core.worker_options import WorkerOptions
from adapter.domain.errors import DatabaseUnavailableError
from adapter.domain.job import Job
from adapter.domain.outcome import Lease, Returned, Stopped, TryOutcome
from adapter.store import processes, upkeep
from adapter.store.claims import claim, return_unknown
from adapter.store.limited_claims import claim_limited
from adapter.store.wakeup import CANCEL, DISPATCH, FINISHED, FLAGS, INBOX

logger = logging.getLogger("adapter.worker")

_POLL_S = 1.0
_QUEUES_S = 5.0
_ADVERTISE_S = 60.0
_NOT_QUEUES = {DISPATCH, FINISHED, FLAGS, CANCEL, INBOX}


@dataclass(slots=True)
class Try:
    """A job in our hands."""

    job: Job
    lease: Lease
    context: JobContext
    interruption: Interruption = field(default_factory=Interruption)
    task: asyncio.Task[None] | None = None
    #: Whether the task has run at all: canceled before, it would end without an outcome.
    has_begun: bool = False
    stopped_at: float | None = None
    #: What it came to, while the hooks of its end still run.
    end: TryOutcome | None = None

    def stop(self, outcome: Stopped | Returned) -> None:
        """Ask the handler to end; ``outcome`` is what it then counts as."""
        if self.end is not None and isinstance(outcome, Stopped):
            # Too late to cancel it: what it came to is known.
            return
        self.interruption.set(outcome)
        self.context.cancel()
        if self.task is not None and self.has_begun:
            self.task.cancel()


class Worker:
    """Runs the jobs of the local executor that this process has handlers for."""

    def __init__(
        self,
        parts: Parts,
        options: WorkerOptions,
        schedule: Callable[..., Awaitable[Any]],
        scheduler: Scheduler,
    ) -> None:
        self.options = options
        #: Made per process start, never reused: with a claim's number it is the lease.
        self.id = UUID(str(uuid7()))
        self._database = parts.database
        self._registry = parts.registry
        self._notifier = parts.notifier
        self._observers = parts.observers
        self._clock = parts.clock
        self._schedule = schedule
        self._wake = asyncio.Event()
        self._tries: dict[UUID, Try] = {}
        self._completer = Completer(parts)
        self._metadata = MetadataWriter(parts)
        self._patience = Patience(options.cancel_grace, parts.observers.counts, self._abandon)
        self._families = Families(parts, scheduler, self._tries, self._patience.stop, self._wake.set)
        self._caller = self._make_caller()
        self._stopping = asyncio.Event()
        self._claims = 0
        self._free: list[str] = []
        self._limited: list[str] = []
        self._queues_read_at = -_QUEUES_S
        self._advertised_at = -_ADVERTISE_S
        self._heartbeat: Heartbeat | None = None
        self._fenced = False

    def _make_caller(self) -> Caller:
        given = self.options
        return Caller(given.threads, given.cancel_grace, given.hook_timeout, self._observers.counts)

    @property
    def problem(self) -> str | None:
        """What keeps this worker from taking every job, None when nothing does."""
        return self._caller.problem

    @property
    def running(self) -> int:
        """How many tries are in our hands."""
        return len(self._tries)

    @property
    def state(self) -> str:
        """``starting`` until the database knows us, then ``working``; ``fenced`` without a lease; ``stopping``."""
        if self._stopping.is_set():
            return "stopping"
        if self._heartbeat is None:
            return "starting"
        return "fenced" if self._fenced else "working"

    def heard(self, topics: set[str]) -> None:
        """Look again: something was scheduled, or canceled. Called by the listener."""
        self._families.heard(topics)
        if CANCEL in topics and self._heartbeat is not None:
            self._heartbeat.hurry()
        if queues := topics - _NOT_QUEUES:
            if not queues <= {*self._free, *self._limited}:
                self._queues_read_at = -_QUEUES_S
            self._wake.set()

    async def start(self) -> None:
        """Make the worker known and begin to beat."""
        self._families.begin()
        if self._heartbeat is not None:
            # It fell and starts again; its threads ended with it.
            self._caller = self._make_caller()
        await self._register()
        loop = asyncio.get_running_loop()
        self._heartbeat = Heartbeat(
            self._database,
            self.id,
            self.options.lease,
            self._clock,
            on_canceled=functools.partial(loop.call_soon_threadsafe, self.cancel_tries),
            on_lost=functools.partial(loop.call_soon_threadsafe, self._fence),
        )
        self._heartbeat.start()

    async def _register(self) -> None:
        async with self._database.connection() as conn:
            schema = self._database.schema
            await processes.register(
                conn,
                schema,
                worker_id=self.id,
                name=self.options.name,
                host=socket.gethostname(),
                pid=os.getpid(),
                lease=self.options.lease,
            )
            await processes.declare_queues(conn, schema, self._registry.queue_limits)

    async def run(self) -> None:
        """Work until `stop`. Errors of the database are waited out."""
        await self.start()
        logger.info("worker started", extra={"worker": str(self.id), "concurrency": self.options.concurrency})
        wait = 0.1
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                try:
                    claimed = await self._fill()
                    wait = 0.1
                except DatabaseUnavailableError as error:
                    logger.warning("cannot claim, trying again: %s", type(error).__name__)
                    await self._pause(wait)
                    wait = min(wait * 2, 5.0)
                    continue
                if not claimed or self._room() == 0:
                    await self._pause(_POLL_S)
        finally:
            await self._finish()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def run_once(self) -> int:
        """Claim once, run what was claimed to its end, write it. Returns how many jobs that were."""
        if self._heartbeat is None:
            await self._register()
        claimed = await self._fill()
        await self._families.settled()
        await self._completer.flush()
        return claimed

    async def run_until_idle(self) -> int:
        """Run what is ready, heart beating, until nothing is or `stop`; returns how many jobs that were."""
        await self.start()
        done = 0
        try:
            # Who waits for what cannot run here is let go, and goes on when that is done.
            while (claimed := await self.run_once()) or await self._families.stirs(_POLL_S):
                done += claimed
        finally:
            await self._finish()
        return done

    def _room(self) -> int:
        busy = len(self._tries) - len(self._families.suspended)
        return 0 if self._is_held else self.options.concurrency - busy

    @property
    def _is_held(self) -> bool:
        """Whether nothing new may begin: others may take, or have taken, our jobs for a dead worker's."""
        return self._fenced or (self._heartbeat is not None and not self._heartbeat.may_start)

    async def _fill(self) -> int:
        """Claim what there is room for and start it."""
        await self._recover()
        await self._look_around()
        room = self._room()
        if room <= 0 or self._stopping.is_set():
            return 0
        try:
            return await self._claim(room)
        except DatabaseUnavailableError:
            # It may have been committed all the same: look for what we hold without knowing.
            self._queues_read_at = -_QUEUES_S
            raise

    async def _claim(self, room: int) -> int:
        self._claims += 1
        lease, schema = Lease(self.id, self._claims), self._database.schema
        begun = 0
        async with self._database.connection() as conn:
            if self._free:
                # A different queue is first each time, so that a busy one cannot starve the others.
                turn = self._claims % len(self._free)
                order = self._free[turn:] + self._free[:turn]
                begun += self._begin(await claim(conn, schema, lease, order, room), lease)
            if self._limited and begun < room:
                claimed = await claim_limited(conn, schema, lease, self._limited, room - begun)
                begun += self._begin(claimed, lease)
        return begun

    async def _look_around(self) -> None:
        """Refresh, now and then, which queues there are and what we say we can run."""
        now = self._clock.monotonic()
        if now - self._queues_read_at < _QUEUES_S and self._free + self._limited:
            return
        async with self._database.connection() as conn:
            schema = self._database.schema
            if now - self._advertised_at >= _ADVERTISE_S:
                runnable = self._registry.runnable
                await processes.advertise(conn, schema, self.id, runnable)
                await upkeep.admit(conn, schema, list(runnable))
                self._advertised_at = now
            known = [*self._tries, *self._completer.unwritten]
            if returned := await return_unknown(conn, schema, self.id, known):
                logger.warning("%d jobs were ours without our knowing: given back", returned)
            found = await processes.queues(conn, schema)
        mine = [each for each in found if not self.options.queues or each.name in self.options.queues]
        self._free = [each.name for each in mine if not each.paused and not each.limited]
        self._limited = [each.name for each in mine if not each.paused and each.limited]
        self._queues_read_at = now

    def look_again(self) -> None:
        """Read the queues anew at the next claim."""
        self._queues_read_at = -_QUEUES_S
        self._wake.set()

    def _begin(self, jobs: Sequence[Job], lease: Lease) -> int:
        make_metadata = functools.partial(self._metadata.of, lease)
        make_family = functools.partial(self._families.of, lease)
        for job in jobs:
            current = Try(job, lease, JobContext(job, self._schedule, make_metadata, make_family))
            self._tries[job.id] = current
            if self._is_held:
                # We lost touch while we claimed: others may take the job before we notice.
                current.stop(Returned("the worker lost its lease"))
            current.task = asyncio.get_running_loop().create_task(
                self._run(current, self._registry.find(job.type)), name=f"job {job.id}"
            )
        return len(jobs)

    async def _run(self, current: Try, definition: TaskDefinition[Any, Any] | None) -> None:
        current.has_begun = True
        try:
            if current.interruption.outcome is not None:
                outcome = current.interruption.outcome
            elif definition is None or definition.handler is None:
                outcome = Returned("this worker has no handler for it", runnable=False)
            elif current.job.cancel_requested:
                outcome = Stopped("canceled")
            else:
                self._observers.started(current.job)
                if current.job.max_duration is not None:
                    current.context.countdown = self._patience.limit(current, current.job.max_duration)
                outcome = await run_try(definition, current.context, current.interruption, self._caller)
                if definition.hooks is not None and definition.hooks.watches_ends:
                    current.end = outcome
                    done = Done(current.job, current.lease, outcome)
                    await end_try(done, definition, current.context, self._registry, self._caller)
        except asyncio.CancelledError:
            # Stopped before its handler was reached.
            outcome = current.interruption.outcome or Returned("the worker was stopped")
        finally:
            is_abandoned = self._tries.get(current.job.id) is not current
            if not is_abandoned:
                del self._tries[current.job.id]
            self._families.ended()
            if self._room() * 2 >= self.options.concurrency or not self._tries:
                self._wake.set()
        if not is_abandoned:
            await self._completer.put(Done(current.job, current.lease, outcome, current.context.close()))

    def _abandon(self, current: Try, outcome: TryOutcome) -> bool:
        """Let go of a try that does not end: its slot is free, and nothing it does counts. False: it has ended."""
        if self._tries.get(current.job.id) is not current:
            return False
        del self._tries[current.job.id]
        self._completer.take(Done(current.job, current.lease, outcome, current.context.close()))
        self._families.ended()
        self._wake.set()
        return True

    def cancel_tries(self, job_ids: Sequence[UUID]) -> None:
        """Stop these jobs: somebody canceled them. Said with every beat, it interrupts once per grace."""
        now, grace = self._clock.monotonic(), self.options.grace.total_seconds()
        for job_id in job_ids:
            current = self._tries.get(job_id)
            if current is not None and (current.stopped_at is None or now - current.stopped_at >= grace):
                current.stopped_at = now
                self._patience.stop(current, Stopped("canceled"))

    def _fence(self) -> None:
        """Let go of everything: others may take our jobs any moment now."""
        self._fenced = True
        self._observers.counts["lease_lost"] += 1
        logger.error("the worker lost its lease and stops %d tries", len(self._tries))
        self._drop_all("the worker lost its lease")

    def _drop_all(self, why: str) -> None:
        for current in list(self._tries.values()):
            self._patience.stop(current, Returned(why))

    async def _recover(self) -> None:
        """Come back after a fence, once a heartbeat gets through again, as the same process."""
        if not self._fenced or self._heartbeat is None:
            return
        await self._register()
        self._heartbeat.hurry()
        if self._heartbeat.age < self.options.lease.total_seconds() * FENCE_AT and not self._tries:
            self._fenced = False

    def stop(self) -> None:
        """Take no more jobs; `run` returns when those in hand are done or given back."""
        self._stopping.set()
        self._wake.set()

    def force(self) -> None:
        """Give everything back at once."""
        self.stop()
        self._drop_all("the worker was stopped")

    async def _finish(self) -> None:
        """Let tries end within the grace, give the rest back unspent, and be forgotten."""
        self._families.let_go()
        tasks = [each.task for each in self._tries.values() if each.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self.options.grace.total_seconds())
            if late:
                self._drop_all("the worker was stopped")
                await self._patience.wait(late)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self._completer.flush()
        if self._heartbeat is not None:
            await asyncio.to_thread(self._heartbeat.stop)
        with contextlib.suppress(DatabaseUnavailableError):
            async with self._database.connection() as conn:
                # Without its row a worker counts as dead at once.
                if not self._tries and not self._completer.unwritten:
                    await processes.retire(conn, self._database.schema, self.id)
        self._caller.shutdown()
        logger.info("worker stopped", extra={"worker": str(self.id)})
