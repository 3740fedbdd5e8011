"""Asking a remote for one run and applying what it shows."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from adapter.core.applying import Applier, report_of
from adapter.core.budget import Budgets
from adapter.core.parts import Parts
from adapter.domain.errors import ExecutorError
from adapter.domain.identity import epoch_tag
from adapter.domain.job import Job
from adapter.domain.outcome import Applied
from adapter.executors.base import Executor, RemoteRun, RunFilter
from adapter.store import remote_runs

logger = logging.getLogger("adapter.sync")

#: How long an end without its output is put off, in the hope that the output can be fetched.
OUTPUT_PATIENCE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a retrieve came to. ``run`` None: the remote does not know it. ``applied`` None: put off."""

    run: RemoteRun | None
    applied: Applied | None = None


class Reader:
    """Retrieves within the read share of the remote's rate limit."""

    def __init__(self, parts: Parts, applier: Applier, budgets: Budgets) -> None:
        self._database = parts.database
        self._clock = parts.clock
        self._applier = applier
        self._budgets = budgets

    async def read(
        self, executor: Executor, job_id: UUID, epoch: int, run_id: str, *, spare: str | None = None
    ) -> Seen:
        """Retrieve a run of a job's epoch and apply it; a run that has ended is remembered as ended.

        ``spare``: see `Budgets.take`.

        Raises:
            ExecutorError: the remote could not be asked.
        """
        await self._budgets.take(executor, "reads", spare=spare)
        async with self._database.connection() as conn:
            began = await remote_runs.database_now(conn, self._database.schema)
        run = await executor.retrieve(run_id)
        if run is None or self._lacks_output(run):
            return Seen(run)
        applied = await self._applier.apply(job_id, epoch, executor.name, report_of(run, began))
        if run.status.is_terminal:
            async with self._database.connection() as conn:
                await remote_runs.ended(conn, self._database.schema, executor.name, run_id, run.status.value)
        return Seen(run, applied)

    async def catch_up(self, executor: Executor, job: Job, run_id: str) -> None:
        """Look at a run that an earlier try may have begun long ago: what it told then may have found nobody."""
        try:
            await self.read(executor, job.id, job.epoch, run_id)
        except ExecutorError as error:
            fields = {"job_id": str(job.id), "executor": executor.name, "run_id": run_id}
            logger.info("could not look at a run: %s", error, extra=fields)

    def _lacks_output(self, run: RemoteRun) -> bool:
        if not run.status.is_terminal or run.complete:
            return False
        ended = run.finished_at or run.updated_at
        # The end itself must not wait forever for an output that is gone.
        return ended is not None and self._clock.now() - ended < OUTPUT_PATIENCE

    async def find(self, executor: Executor, job: Job) -> list[RemoteRun]:
        """Return the runs that carry the tag of the job's epoch, oldest first. None found proves nothing."""
        if not executor.capabilities.lookup:
            return []
        await self._budgets.take(executor, "reads")
        since = job.created_at - timedelta(hours=1)
        page = await executor.list_runs(RunFilter(since=since, tags=(epoch_tag(job.id, job.epoch),)))
        return list(reversed(page.runs))

    async def adopt(self, executor: Executor, job: Job, runs: list[RemoteRun]) -> None:
        """Bind the first of the runs found for an uncertain job and apply it; the others are not its own."""
        for run in runs:
            await self._applier.accepted(job.id, job.epoch, executor.name, run.run_id, executor.environment)
            await self.read(executor, job.id, job.epoch, run.run_id)
