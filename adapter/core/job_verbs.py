"""The verbs by which jobs are looked at, canceled, and helped when no machine can."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal, Unpack
from uuid import UUID

from adapter.core.canceling import Canceler
from adapter.core.dead_letters import DeadLetters, RedriveOptions, RedriveReport
from adapter.core.reconcile import Progress, Reconciler, ReconcileReport
from adapter.core.watch import Watch
from adapter.domain.errors import InvalidArgumentError, JobNotFoundError, JobStateError
from adapter.domain.job import Job
from adapter.domain.waiting import WaitReason
from adapter.store import families, jobs, resolving, waiting
from adapter.store.database import Database
from adapter.store.dead_letters import DeadLetterFilter, DeadLetterPage
from adapter.store.insights import Insights, JobEvent, JobFilter, JobPage
from adapter.store.wakeup import DISPATCH, Notifier


class LooksAfterJobs:
    """Mixed into the adapter: what there is, why it waits, what happened to it, and how it ends."""

    database: Database
    notifier: Notifier
    insights: Insights
    watch: Watch
    canceler: Canceler
    letters: DeadLetters
    reconciler: Reconciler

    async def get_job(self, job_id: UUID) -> Job | None:
        """Return a job, open or finished; None when there is none or its time to be kept is over."""
        async with self.database.connection() as conn:
            return await jobs.get(conn, self.database.schema, job_id)

    async def list_jobs(self, wanted: JobFilter | None = None) -> JobPage:
        """Return a page of jobs, newest first."""
        async with self.database.connection() as conn:
            return await self.insights.list_jobs(conn, wanted or JobFilter())

    async def awaited_jobs(self, job_id: UUID) -> list[Job]:
        """Return the open jobs that a parent waits for; none when it does not wait for its children."""
        async with self.database.connection() as conn:
            return await families.awaited(conn, self.database.schema, job_id)

    async def why_waiting(self, job_id: UUID) -> list[WaitReason]:
        """Say what keeps a job from running, what binds it most first; nothing when it runs or has ended.

        Raises:
            JobNotFoundError: there is no such job.
        """
        async with self.database.connection() as conn:
            reasons = await waiting.why(conn, self.database.schema, job_id)
        if reasons is None:
            raise JobNotFoundError(job_id)
        return reasons

    async def job_events(self, job_id: UUID) -> list[JobEvent]:
        """Return what happened to a job beside running: re-routes, retries, rescues, repairs."""
        async with self.database.connection() as conn:
            return await self.insights.events(conn, job_id)

    async def wait_for(self, job_id: UUID, timeout: timedelta | None = None) -> Job:
        """Return the job once it has ended; see `JobHandle.result`."""
        return await self.watch.wait(job_id, timeout)

    async def cancel_job(
        self, job_id: UUID, *, reason: str = "canceled by the application", actor: str = "application"
    ) -> Job:
        """Cancel a job: at once when nobody was ever given it, else by asking and confirming.

        Returns the job as it then is: CANCELED, or open with ``cancel_requested``, or ended otherwise
        because it was faster.

        Raises:
            JobNotFoundError: there is no such job.
        """
        return await self.canceler.cancel(job_id, reason=reason, actor=actor)

    async def dead_letters(self, wanted: DeadLetterFilter | None = None) -> DeadLetterPage:
        """Return a page of jobs that ended badly (not COMPLETED, not CANCELED), the latest end first."""
        return await self.letters.page(wanted or DeadLetterFilter())

    async def redrive(
        self, wanted: DeadLetterFilter | Sequence[UUID], **options: Unpack[RedriveOptions]
    ) -> RedriveReport:
        """Schedule a new job for each of these dead letters, as `replay_job` does, the oldest end first.

        A dead letter is redriven once, however many ask at the same time, unless ``again``. A job that
        cannot be scheduled is reported and costs the others nothing.
        """
        return await self.letters.redrive(wanted, **options)

    async def resolve_job(
        self, job_id: UUID, *, assume: Literal["not-started", "lost"], reason: str, actor: str
    ) -> Job:
        """End a wait that no machine can end, on a person's word; audited in the job's events.

        ``not-started``: no run of the uncertain submit has started or will; it is submitted anew.
        ``lost``: it ends as SYSTEM_FAILURE; should its run report after all, that still counts.

        Raises:
            JobNotFoundError, JobStateError: there is nothing uncertain about this job.
        """
        if not reason.strip():
            msg = "A reason is needed."
            raise InvalidArgumentError(msg)
        verb = resolving.assume_not_started if assume == "not-started" else resolving.assume_lost
        async with self.database.connection() as conn:
            job = await verb(conn, self.database.schema, job_id, reason=reason, actor=actor)
        if job is None:
            known = await self.get_job(job_id)
            if known is None:
                raise JobNotFoundError(job_id)
            msg = (
                f"Job {job_id} is {known.status} at {known.executor}: there is nothing uncertain to resolve."
            )
            raise JobStateError(msg)
        self.notifier.poke(DISPATCH)
        return job

    async def reconcile(self, *, dry_run: bool = False, progress: Progress | None = None) -> ReconcileReport:
        """Compare every unfinished remote job with its remote, and repair what was missed."""
        return await self.reconciler.run_once(dry_run=dry_run, progress=progress)
