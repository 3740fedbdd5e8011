"""Canceling: at once where nobody has the job, else by asking and confirming."""

from __future__ import annotations

import contextlib
import logging
from datetime import timedelta
from uuid import UUID

from adapter.core.budget import Budgets
from adapter.core.parts import Parts
from adapter.core.reading import Reader
from adapter.domain.errors import ExecutorError, JobNotFoundError
from adapter.domain.job import LOCAL, Job, JobStatus
from adapter.store import families, jobs
from adapter.store.wakeup import CANCEL, FINISHED

logger = logging.getLogger("adapter.cancel")

_AT_ONCE = timedelta(seconds=5)
#: How many children one look finds, and one call cancels.
_BELOW, _MOST_BELOW = 100, 1000


class Canceler:
    """Carries out what somebody wants canceled."""

    def __init__(self, parts: Parts, reader: Reader, budgets: Budgets) -> None:
        self._database = parts.database
        self._executors = parts.executors
        self._reader = reader
        self._budgets = budgets
        self._notifier = parts.notifier
        self._observers = parts.observers
        self._clock = parts.clock

    async def cancel(self, job_id: UUID, *, reason: str, actor: str) -> Job:
        """Cancel a job and return it as it then is: CANCELED, or open with ``cancel_requested``.

        Its children are canceled too, as many as can be at once; upkeep goes on with the rest.

        Raises:
            JobNotFoundError: there is no such job.
        """
        job = await self._cancel(job_id, reason=reason, actor=actor)
        if job.started is not None and (not job.status.is_terminal or job.status is JobStatus.CANCELED):
            await self.go_down()
        return job

    async def go_down(self) -> int:
        """Cancel children of canceled parents, and their children; returns how many that were."""
        done = 0
        schema = self._database.schema
        while done < _MOST_BELOW:
            async with self._database.connection() as conn:
                below = await families.next_below(conn, schema, _BELOW)
                if not below:
                    await families.forget_below(conn, schema)
            if not below:
                break
            for each in below:
                with contextlib.suppress(JobNotFoundError):
                    await self._cancel(each.job_id, reason=each.reason, actor=each.actor)
            done += len(below)
        return done

    async def _cancel(self, job_id: UUID, *, reason: str, actor: str) -> Job:
        async with self._database.connection() as conn:
            job = await jobs.cancel(conn, self._database.schema, job_id, reason=reason, actor=actor)
        if job is None:
            raise JobNotFoundError(job_id)
        if job.status is JobStatus.CANCELED:
            self._observers.finished([job])
            self._notifier.poke(FINISHED)
            return job
        if job.status.is_terminal:
            return job
        if job.executor == LOCAL:
            self._notifier.poke(CANCEL)
            return job
        await self.cancel_there(job)
        async with self._database.connection() as conn:
            return await jobs.get(conn, self._database.schema, job_id) or job

    async def cancel_there(self, job: Job) -> None:
        """Ask the remote to cancel the job's run, and see what came of it; reconciliation does the rest."""
        executor = self._executors.get(job.executor or "")
        run_id = job.remote_run_id
        if executor is None or run_id is None or executor.environment != job.remote_environment:
            return
        if not await self._budgets.take(executor, "cancel", longest=_AT_ONCE):
            return
        try:
            await executor.cancel(run_id)
            await self._reader.read(executor, job.id, job.epoch, run_id)
        except ExecutorError as error:
            fields = {"job_id": str(job.id), "executor": job.executor, "run_id": run_id}
            logger.warning("a cancel is not confirmed yet: %s", error, extra=fields)
