"""Applying webhooks that were taken in, and confirming what hooks said by a retrieve."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

from adapter.core.applying import Applier
from adapter.core.cron.remote_ticks import RemoteTicks
from adapter.core.loops import Poller
from adapter.core.parts import Parts
from adapter.core.reading import Reader
from adapter.core.remote_events import RemoteEvent, parse_event
from adapter.domain.errors import DatabaseUnavailableError, ExecutorError, MalformedEventError
from adapter.domain.job import Job
from adapter.domain.outcome import Applied
from adapter.store import inbox, remote_runs
from adapter.store.inbox import Delivery, Settled
from adapter.store.wakeup import INBOX

logger = logging.getLogger("adapter.webhooks")

#: How long an event may wait for its job: it can overtake our own commit, not by more than this.
PATIENCE = timedelta(minutes=15)


class Inbox:
    """Takes webhooks in, and works them off."""

    def __init__(self, parts: Parts, applier: Applier, reader: Reader, ticks: RemoteTicks) -> None:
        self._database = parts.database
        self._executors = parts.executors
        self._applier = applier
        self._reader = reader
        self._ticks = ticks
        self._notifier = parts.notifier
        self._clock = parts.clock
        #: Runs `work_once` again and again.
        self.loop = Poller("inbox", self.work_once, parts.clock, INBOX)

    async def take_in(self, source: str, delivery_id: str, secret_id: str, body: dict[str, Any]) -> bool:
        """Store a verified webhook; False when this delivery was stored before. Applied right after."""
        async with self._database.connection() as conn:
            entry = await inbox.take_in(
                conn,
                self._database.schema,
                source=source,
                delivery_id=delivery_id,
                secret_id=secret_id,
                body=body,
            )
        if entry is not None and self.loop.is_running:
            # Nobody else needs to be told: this process applies it itself.
            self.loop.heard({INBOX})
        elif entry is not None:
            self._notifier.poke(INBOX)
        return entry is not None

    async def work_once(self) -> int:
        """Apply what has come in, and confirm what hooks have said."""
        return await self.run_once() + await self.confirm_once()

    async def run_once(self, limit: int = 100) -> int:
        """Apply waiting webhooks, each on its own: a bad one does not stop the others."""
        async with self._database.connection() as conn:
            deliveries = await inbox.pending(conn, self._database.schema, limit)
        settled: list[Settled] = []
        try:
            for delivery in deliveries:
                settled += await self._try(delivery)
        finally:
            if settled:
                # Lost with a crash, this only means that they are applied once more, to no effect.
                async with self._database.connection() as conn:
                    await inbox.applied(conn, self._database.schema, settled)
        return len(deliveries)

    async def _try(self, delivery: Delivery) -> list[Settled]:
        """Apply one delivery; returns it as settled, or nothing when it was put off or is a dead letter."""
        try:
            return await self._apply(delivery)
        except DatabaseUnavailableError:
            raise
        except Exception as error:
            logger.exception("a webhook could not be applied", extra={"delivery": delivery.delivery_id})
            await self._put_off(delivery, f"it could not be applied: {type(error).__name__}")
            return []

    async def _apply(self, delivery: Delivery) -> list[Settled]:
        try:
            event = parse_event(delivery.body)
        except MalformedEventError as error:
            async with self._database.connection() as conn:
                await inbox.dead(conn, self._database.schema, delivery.id, error=str(error))
            return []
        if event is None:
            return [Settled(delivery.id, "ignored")]
        executor = delivery.source.partition(":")[0]
        owner = event.job or await self._owner(executor, event)
        if owner is not None:
            applied = await self._applier.apply(*owner, executor, event.report)
            if applied is not Applied.UNKNOWN_JOB:
                return [Settled(delivery.id, applied.value, owner[0])]
        await self._put_off(delivery, "no job of ours belongs to this run")
        return []

    async def _put_off(self, delivery: Delivery, why: str) -> None:
        """Try again later; a dead letter once it has waited long enough."""
        schema = self._database.schema
        async with self._database.connection() as conn:
            if delivery.age > PATIENCE:
                await inbox.dead(conn, schema, delivery.id, error=why)
            else:
                delay = timedelta(seconds=min(60, 2**delivery.attempts))
                await inbox.later(conn, schema, delivery.id, error=why, delay=delay)

    async def _owner(self, executor: str, event: RemoteEvent) -> tuple[UUID, int] | None:
        run_id = event.report.run_id
        async with self._database.connection() as conn:
            owner = await remote_runs.owner(conn, self._database.schema, executor, run_id)
        return owner or await self._ticks.named(executor, run_id, event.task)

    async def confirm_once(self, limit: int = 20) -> int:
        """Retrieve the runs whose end only a hook has told, within the read share of the rate limit."""
        async with self._database.connection() as conn:
            waiting = await remote_runs.to_confirm(conn, self._database.schema, limit)
        for job in waiting:
            await self.confirm(job)
        return len(waiting)

    async def confirm(self, job: Job) -> Applied | None:
        """Ask the remote for this job's run and apply what it says; None when that was not possible."""
        executor = self._executors.get(job.executor or "")
        if executor is None or job.remote_run_id is None or executor.environment != job.remote_environment:
            return None
        try:
            return (await self._reader.read(executor, job.id, job.epoch, job.remote_run_id)).applied
        except ExecutorError as error:
            fields = {"job_id": str(job.id), "executor": job.executor, "run_id": job.remote_run_id}
            logger.info("could not confirm: %s", error, extra=fields)
            return None
