"""Proof that an uncertain submit never arrived (protocol, "Dispatch").

The keys of the epoch are sent once more, without its work: what comes back is either the run they stood
for all along, or a run made for this, a tombstone. A tombstone that was canceled before it started makes
the absence definite: whatever may still be under way with these keys is answered with it.
"""

from __future__ import annotations

from adapter.core.budget import Budgets
from adapter.core.parts import Parts
from adapter.core.reading import Reader
from adapter.domain.identity import tombstone_tag
from adapter.domain.job import Job, JobStatus
from adapter.executors.base import Executor, RemoteRun, Submission, TakesTombstones
from adapter.store import remote_runs


class Tombstones:
    """Makes absence definite. Safe to repeat: the keys lead to the same run."""

    def __init__(self, parts: Parts, reader: Reader, budgets: Budgets) -> None:
        self._database = parts.database
        self._reader = reader
        self._budgets = budgets

    async def never_arrived(self, executor: Executor, job: Job, submission: Submission) -> bool:
        """Whether it is proven that the epoch has no run. The run it has after all is bound to the job.

        Raises:
            ExecutorError: the remote could not be asked, so nothing is proven.
        """
        if not isinstance(executor, TakesTombstones):
            return False
        await self._budgets.take(executor, "dispatch")
        run_id = (await executor.submit_tombstone(submission)).run_id
        run = await self._retrieve(executor, run_id)
        if run is None:
            return False
        if tombstone_tag(job.id, job.epoch) not in run.tags:
            await self._reader.adopt(executor, job, [run])
            return False
        async with self._database.connection() as conn:
            await remote_runs.tombstone(
                conn,
                self._database.schema,
                job_id=job.id,
                epoch=job.epoch,
                executor=executor.name,
                run_id=run_id,
                environment=executor.environment,
            )
        await self._budgets.take(executor, "cancel")
        await executor.cancel(run_id)
        run = await self._retrieve(executor, run_id)
        if run is None or run.status is not JobStatus.CANCELED or not run.never_started:
            return False
        async with self._database.connection() as conn:
            await remote_runs.ended(conn, self._database.schema, executor.name, run_id, run.status.value)
        return True

    async def _retrieve(self, executor: Executor, run_id: str) -> RemoteRun | None:
        await self._budgets.take(executor, "reads")
        return await executor.retrieve(run_id)
