"""The one door through which remote reports reach a job, however they came: webhook, poll, reply.

Twice, late or out of order, the end state is the same. Every write is fenced by (epoch, run id) in its
WHERE; what a write did not change is looked at only afterwards, to say why.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from adapter.core.parts import Parts
from adapter.domain.job import Job, JobStatus
from adapter.domain.json import keepable
from adapter.domain.outcome import Applied, Authority, RemoteReport
from adapter.executors.base import RemoteRun
from adapter.store import jobs, remote_runs, reports, settling
from adapter.store.database import Connection
from adapter.store.reports import Report
from adapter.store.wakeup import DISPATCH, FINISHED, INBOX

logger = logging.getLogger("adapter.sync")

_RANK = {JobStatus.DELAYED: 0, JobStatus.QUEUED: 1, JobStatus.WAITING: 2, JobStatus.EXECUTING: 2}
#: A hook's word on the end of an attempt: above everything that attempt was seen in.
_RANK_OF_AN_END = 5
_RANKS_PER_ATTEMPT = 10


def rank_of(status: JobStatus, attempt: int | None) -> int:
    """Return how far along a state is, comparable within one run."""
    return (attempt or 0) * _RANKS_PER_ATTEMPT + _RANK.get(status, _RANK_OF_AN_END)


def report_of(run: RemoteRun, read_began: datetime | None) -> RemoteReport:
    """Return what a run seen at its executor reports. ``read_began`` only for a retrieve."""
    return RemoteReport(
        run_id=run.run_id,
        status=run.status,
        remote_status=run.remote_status,
        authority=Authority.ENGINE,
        at=run.updated_at,
        attempt=run.attempt,
        started=not run.never_started,
        output=run.output,
        error=run.error,
        read_began=read_began,
    )


class Applier:
    """Writes reports to jobs."""

    def __init__(self, parts: Parts) -> None:
        self._database = parts.database
        self._notifier = parts.notifier
        self._observers = parts.observers
        self._tally = parts.tally

    async def apply(self, job_id: UUID, epoch: int, executor: str, report: RemoteReport) -> Applied:
        """Apply one report of run ``report.run_id``, which is (or claims to be) the run of this epoch."""
        async with self._database.connection() as conn:
            applied = await self._apply(conn, job_id, epoch, executor, report)
        self._notifier.changed()
        if applied not in {Applied.CHANGED, Applied.CONFIRM}:
            self._observers.counts[f"report_{applied}"] += 1
        return applied

    async def _apply(
        self, conn: Connection, job_id: UUID, epoch: int, executor: str, report: RemoteReport
    ) -> Applied:
        schema = self._database.schema
        terminal = report.status.is_terminal
        write = Report(
            job_id=job_id,
            epoch=epoch,
            executor=executor,
            run_id=report.run_id,
            status=report.status,
            remote_status=report.remote_status,
            rank=rank_of(report.status, report.attempt),
            at=report.at,
            attempt=report.attempt,
            started=report.started if report.started is not None else _implies_start(report.status),
            result=keepable(report.output) if report.status is JobStatus.COMPLETED else None,
            error=keepable(report.error),
            read_began=report.read_began,
        )
        if terminal and report.authority is Authority.HOOK:
            # The user's code said so; a crash may still follow. Confirmed by a retrieve.
            hint = replace(write, status=JobStatus.EXECUTING, confirm=True, started=True, read_began=None)
            if await reports.progress(conn, schema, hint) is not None:
                self._notifier.poke(INBOX)
                return Applied.CONFIRM
            return await self._why_not(conn, write, believed=False)
        if not terminal:
            moved = await reports.progress(conn, schema, write)
        elif (recalled := await self._under_recall(conn, write, started=report.started)) is not None:
            return recalled
        elif (
            report.status is JobStatus.EXPIRED
            and report.started is not True
            and (reopened := await reports.expired_there(conn, schema, write))
        ):
            self._notifier.poke(DISPATCH)
            self._log(reopened, "it expired at the remote and is submitted again")
            return Applied.CHANGED
        else:
            moved = await reports.finish(conn, schema, write)
        if moved is None:
            return await self._why_not(conn, write, believed=report.authority is Authority.ENGINE)
        if terminal:
            self.told(moved)
        return Applied.CHANGED

    async def _under_recall(self, conn: Connection, write: Report, *, started: bool | None) -> Applied | None:
        """Take a job back whose run ended without an outcome; None when no recall wants it, or that is an end."""
        if write.status not in {JobStatus.CANCELED, JobStatus.EXPIRED}:
            return None
        schema = self._database.schema
        if write.status is JobStatus.CANCELED and started is None:
            # Whether it had begun decides what becomes of it.
            if not await settling.doubtful(conn, schema, write):
                return None
            self._notifier.poke(INBOX)
            return Applied.CONFIRM
        if (moved := await settling.settled(conn, schema, write)) is not None:
            self._notifier.poke(DISPATCH, moved.queue)
            return Applied.CHANGED
        if (ended := await settling.hit_for_good(conn, schema, write)) is not None:
            self._log(ended, "a recall hit it at work, and it cannot run again")
            self.told(ended)
            return Applied.CHANGED
        return None

    def told(self, ended: Job) -> None:
        """Let everybody who waits know that a job has ended."""
        self._observers.finished([ended])
        self._tally.ended(ended)
        self._notifier.poke(FINISHED)

    async def _why_not(self, conn: Connection, write: Report, *, believed: bool) -> Applied:  # noqa: PLR0911 - one return per reason
        """Say why a write changed nothing, and deal with runs that are not the job's.

        ``believed``: the report is authoritative, so an orphan may take its end from it.
        """
        schema = self._database.schema
        job = await jobs.get(conn, schema, write.job_id)
        if job is None:
            return Applied.UNKNOWN_JOB
        terminal = write.status.is_terminal
        if job.epoch != write.epoch or job.executor != write.executor:
            await self._not_ours(conn, job, write)
            return Applied.STALE
        if job.remote_run_id is not None and job.remote_run_id != write.run_id:
            await self._not_ours(conn, job, write)
            return Applied.STALE
        if not job.status.is_terminal:
            return Applied.DUPLICATE if job.remote_status == write.remote_status else Applied.STALE
        if not terminal:
            return Applied.STALE
        if job.status is write.status:
            return Applied.DUPLICATE
        if believed and (revived := await reports.revive(conn, schema, write)) is not None:
            self.told(revived)
            return Applied.CHANGED
        detail = {"kept": job.status.value, "reported": write.status.value, "run": write.run_id}
        await reports.note(conn, schema, job_id=job.id, epoch=job.epoch, kind="conflict", detail=detail)
        self._log(job, f"a second, different end was reported: {write.status}")
        return Applied.CONFLICT

    async def _not_ours(self, conn: Connection, job: Job, write: Report) -> None:
        """Another run than the job's: it must not go on; if it has ended, that is all there is to it."""
        schema = self._database.schema
        await reports.stranger(
            conn,
            schema,
            job_id=job.id,
            epoch=write.epoch,
            executor=write.executor,
            run_id=write.run_id,
            environment=job.remote_environment,
        )
        if write.status.is_terminal:
            await remote_runs.ended(conn, schema, write.executor, write.run_id, write.status.value)

    async def accepted(
        self, job_id: UUID, epoch: int, executor: str, run_id: str, environment: str | None
    ) -> Job | None:
        """Bind the run a submit came back with; None when the job has moved on without it."""
        async with self._database.connection() as conn:
            schema = self._database.schema
            moved = await reports.accepted(
                conn, schema, job_id=job_id, epoch=epoch, executor=executor, run_id=run_id
            )
            if moved is not None:
                return moved
            job = await jobs.get(conn, schema, job_id)
            if job is None:
                return None
            if job.remote_run_id == run_id and job.epoch == epoch:
                # A report of this very run was faster than the reply.
                return job
            await reports.stranger(
                conn,
                schema,
                job_id=job_id,
                epoch=epoch,
                executor=executor,
                run_id=run_id,
                environment=environment,
            )
            self._log(job, "a submit came back with another run than the job's; it will be canceled there")
            return None

    def _log(self, job: Job, message: str) -> None:
        fields = {
            "job_id": str(job.id),
            "type": job.type,
            "executor": job.executor,
            "run_id": job.remote_run_id,
        }
        logger.warning(message, extra=fields)


def _implies_start(status: JobStatus) -> bool:
    """Whether a state can only be reached by starting; a canceled or expired run may never have."""
    return status in {
        JobStatus.EXECUTING,
        JobStatus.WAITING,
        JobStatus.COMPLETED,
        JobStatus.FAILED,
        JobStatus.TIMED_OUT,
        JobStatus.CRASHED,
    }
