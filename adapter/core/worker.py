"""A worker process: runs what its claimer takes, hands the outcomes to the completer, beats and is fenced."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.bell import Bell
from adapter.core.claiming import Claimer
from adapter.core.completion import Completer
from adapter.core.context import JobContext
from adapter.core.heartbeat import FENCE_AT, Heartbeat
from adapter.core.metadata_writer import MetadataWriter
from adapter.core.parts import Parts
from adapter.core.scheduling import Scheduler
from adapter.core.tries import Tries
from adapter.core.worker_options import WorkerOptions
from adapter.domain.errors import DatabaseUnavailableError
from adapter.domain.job import Job
from adapter.domain.outcome import Lease
from adapter.store import processes
from adapter.store.claims import Claimed
from adapter.store.wakeup import CANCEL, NOT_QUEUES

logger = logging.getLogger("adapter.worker")

#: How long one who runs until nothing is left waits for those in hand that wait for others, before it claims again.
_STIRS_S = 1.0


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
        self._completer = Completer(parts, self._written)
        self._metadata = MetadataWriter(parts)
        self._tries = Tries(
            parts,
            options,
            scheduler,
            self._completer,
            make_context=self._context,
            on_room=self._on_room,
        )
        self._families = self._tries.families
        self._claimer = Claimer(
            parts, self.id, options, self._tries, completer=self._completer, begin=self._begin
        )
        self._wake = Bell()
        self._stopping = asyncio.Event()
        self._heartbeat: Heartbeat | None = None
        self._fenced = False

    @property
    def problem(self) -> str | None:
        """What keeps this worker from taking every job, None when nothing does."""
        return self._tries.caller.problem

    @property
    def running(self) -> int:
        """How many tries are in our hands."""
        return len(self._tries.running)

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
        self._claimer.listens()
        if CANCEL in topics and self._heartbeat is not None:
            self._heartbeat.hurry()
        if queues := topics - NOT_QUEUES:
            self._claimer.heard(queues)
            self._wake.ring()

    async def start(self) -> None:
        """Make the worker known and begin to beat."""
        self._families.begin()
        if self._heartbeat is not None:
            # It fell and starts again; its threads ended with it.
            self._tries.caller = self._tries.make_caller()
        self._claimer.connection.hold()
        self._completer.connection.hold()
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
        self._metadata.begin()
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
                self._wake.still()
                try:
                    full = await self._fill(self._claimer.measure())
                    wait = 0.1
                except DatabaseUnavailableError as error:
                    logger.warning("cannot claim, trying again: %s", type(error).__name__)
                    await self._wake.heard(wait)
                    wait = min(wait * 2, 5.0)
                    continue
                if not full or not self._claimer.has_room:
                    await self._wake.heard(self._claimer.patience)
                    self._tries.give_back_waiting(self.options.prefetch_age.total_seconds())
        finally:
            await self._finish()

    async def run_once(self) -> int:
        """Claim once, run what was claimed to its end, write it. Returns how many jobs that were."""
        if self._heartbeat is None:
            await self._register()
        before = self._tries.taken
        await self._fill(0)
        await self._families.settled()
        await self._completer.flush()
        return self._tries.taken - before

    async def run_until_idle(self) -> int:
        """Run what is ready, heart beating, until nothing is or `stop`; returns how many jobs that were."""
        await self.start()
        done = 0
        try:
            # Who waits for what cannot run here is let go, and goes on when that is done.
            while (claimed := await self.run_once()) or await self._families.stirs(_STIRS_S):
                done += claimed
        finally:
            await self._finish()
        return done

    @property
    def _is_held(self) -> bool:
        """Whether nothing new may begin: others may take, or have taken, our jobs for a dead worker's."""
        return self._fenced or (self._heartbeat is not None and not self._heartbeat.may_start)

    def _on_room(self) -> None:
        """Claim more, if it is time."""
        if self._claimer.wants_more():
            self._wake.ring()

    def _written(self) -> None:
        """Outcomes are written: a limit may have room again."""
        if self._claimer.at_limit:
            self._wake.ring()

    async def _fill(self, ahead: int) -> bool:
        """Claim what there is room for and start it; whether there may be more to claim at once."""
        await self._recover()
        if self._claimer.is_lost:
            await self._claimer.look()
        may_be_more = False
        if not self._stopping.is_set() and not self._is_held:
            may_be_more = await self._claimer.claim(ahead)
        # A job that has just come does not wait for this.
        return (self._claimer.is_outdated and await self._claimer.look()) or may_be_more

    def look_again(self) -> None:
        """Read the queues anew at the next claim."""
        self._claimer.forget()
        self._wake.ring()

    def _begin(self, claimed: Sequence[Claimed]) -> None:
        self._tries.take(claimed)
        if claimed:
            # After they have begun.
            asyncio.get_running_loop().call_soon(self._notifier.changed)
        if self._is_held:
            # We lost touch while we claimed: others may take the jobs before we notice.
            self._drop_all("the worker lost its lease")

    def _context(self, job: Job, lease: Lease) -> JobContext:
        make_metadata = functools.partial(self._metadata.of, lease)
        make_family = functools.partial(self._families.of, lease)
        return JobContext(job, self._schedule, make_metadata, make_family)

    def cancel_tries(self, job_ids: Sequence[UUID]) -> None:
        """Stop these jobs: somebody canceled them. Said with every beat, it interrupts once per grace."""
        self._tries.cancel(job_ids, self._clock.monotonic(), self.options.grace.total_seconds())

    def _fence(self) -> None:
        """Let go of everything: others may take our jobs any moment now."""
        self._fenced = True
        self._observers.counts["lease_lost"] += 1
        logger.error("the worker lost its lease and stops %d tries", self.running)
        self._drop_all("the worker lost its lease")

    def _drop_all(self, why: str) -> None:
        self._tries.drop_all(why)

    async def _recover(self) -> None:
        """Come back after a fence, once a heartbeat gets through again, as the same process."""
        if not self._fenced or self._heartbeat is None:
            return
        await self._register()
        self._heartbeat.hurry()
        if self._heartbeat.age < self.options.lease.total_seconds() * FENCE_AT and not self._tries.keys:
            self._fenced = False

    def stop(self) -> None:
        """Take no more jobs; `run` returns when those in hand are done or given back."""
        self._stopping.set()
        self._wake.ring()

    def force(self) -> None:
        """Give everything back at once."""
        self.stop()
        self._drop_all("the worker was stopped")

    async def _finish(self) -> None:
        """Let tries end within the grace, give the rest back unspent, and be forgotten."""
        self._tries.give_back_waiting()
        self._families.let_go()
        if tasks := self._tries.tasks:
            _, late = await asyncio.wait(tasks, timeout=self.options.grace.total_seconds())
            if late:
                self._drop_all("the worker was stopped")
                await self._tries.patience.wait(late)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self._completer.flush()
        if self._heartbeat is not None:
            await asyncio.to_thread(self._heartbeat.stop)
        with contextlib.suppress(DatabaseUnavailableError):
            async with self._claimer.connection.lend() as conn:
                # Without its row a worker counts as dead at once.
                if not self._tries.keys and not self._completer.unwritten:
                    await processes.retire(conn, self._database.schema, self.id)
        await self._claimer.connection.close()
        await self._completer.connection.close()
        await self._tries.caller.close()
        logger.info("worker stopped", extra={"worker": str(self.id)})
