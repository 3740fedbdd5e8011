"""The start fence: a remote run asks before its user code begins, and is told whether it may."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from adapter.core.applying import rank_of
from adapter.core.parts import Parts
from adapter.domain.job import Job, JobStatus
from adapter.store import jobs, reports, settling
from adapter.store.wakeup import DISPATCH


@dataclass(frozen=True, slots=True)
class StartClaim:
    """The fence's answer: whether this run may begin, and why not."""

    claimed: bool
    reason: str = ""


class StartFence:
    """Binds runs to jobs at their start."""

    def __init__(self, parts: Parts) -> None:
        self._database = parts.database
        self._observers = parts.observers
        self._notifier = parts.notifier

    async def claim(self, job_id: UUID, epoch: int, run_id: str, attempt: int) -> StartClaim:
        """Answer whether this run of this epoch may begin its user code.

        One UPDATE that binds the run and sets EXECUTING; repeating it for the same run is fine.
        """
        rank = rank_of(JobStatus.EXECUTING, attempt)
        async with self._database.connection() as conn:
            schema = self._database.schema
            started = await reports.start(
                conn, schema, job_id=job_id, epoch=epoch, run_id=run_id, attempt=attempt, rank=rank
            )
            if started is not None:
                self._notifier.changed()
                return StartClaim(claimed=True)
            moved = await settling.fenced(conn, schema, job_id, epoch, run_id)
            job = await jobs.get(conn, schema, job_id)
        if moved is not None:
            # It asks, so it would have been refused from then on: a recall need not ask any further.
            self._notifier.poke(DISPATCH, moved.queue)
        self._observers.counts["start_refused"] += 1
        return StartClaim(claimed=False, reason=_why_refused(job, epoch, run_id))


def _why_refused(job: Job | None, epoch: int, run_id: str) -> str:
    if job is None:
        return "there is no such job"
    if job.status.is_terminal:
        return f"the job has ended: {job.status}"
    if job.epoch != epoch:
        return f"the job has moved on to epoch {job.epoch}"
    if job.remote_run_id not in {None, run_id}:
        return "another run has the job"
    return "the job is being canceled or recalled"
