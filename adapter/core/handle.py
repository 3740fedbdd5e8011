"""What a scheduling call returns: the job as it was written, and what can be done with it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from uuid import UUID

from adapter.domain.errors import JobCanceledError, JobFailedError
from adapter.domain.job import Job, JobStatus
from adapter.store.rows import Alike, Written

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

R = TypeVar("R")


class Jobs(Protocol):
    """What a handle needs of the adapter."""

    async def wait_for(self, job_id: UUID, timeout: timedelta | None) -> Job:
        """Return the job once it has ended."""
        ...

    async def cancel_job(self, job_id: UUID, *, reason: str) -> Job:
        """Cancel the job."""
        ...

    async def get_job(self, job_id: UUID) -> Job | None:
        """Return the job or None."""
        ...


class JobHandle(Generic[R]):
    """A scheduled job, as it was last seen through this handle."""

    __slots__ = ("__weakref__", "_id", "_jobs", "_load", "_payload", "_what")

    def __init__(
        self,
        jobs: Jobs,
        job: Job | Written | Alike,
        load: Callable[[Any], R],
        job_id: bytes = b"",
        payload: bytes = b"",
    ) -> None:
        """``job_id`` and ``payload``: of one that is `Alike` others."""
        self._jobs = jobs
        self._load = load
        self._what = job
        self._id = job_id
        self._payload = payload

    @property
    def _seen(self) -> Job | Written:
        # Of many jobs most are never looked at.
        if isinstance(self._what, Alike):
            self._what = self._what.written(self._id, self._payload)
        return self._what

    @property
    def job(self) -> Job:
        """The row as it was last seen through this handle."""
        seen = self._seen
        if isinstance(seen, Written):
            self._what = seen = seen.job()
        return seen

    @job.setter
    def job(self, job: Job) -> None:
        self._what = job

    def __repr__(self) -> str:
        """Return the job's id, task and status."""
        return f"<JobHandle {self.job.id} {self.job.type} {self.job.status}>"

    @property
    def id(self) -> UUID:
        """The job's id."""
        return self._seen.id

    @property
    def status(self) -> JobStatus:
        """Its status when it was last seen."""
        return self._seen.status

    @property
    def executor(self) -> str | None:
        """The executor it was routed to."""
        return self._seen.executor

    @property
    def route_reason(self) -> str | None:
        """Why it was routed there."""
        return self.job.route_reason

    @property
    def remote_run_id(self) -> str | None:
        """What a remote executor calls it; None until it has accepted."""
        return self.job.remote_run_id

    @property
    def deduplicated(self) -> bool:
        """Whether the call found this job instead of making it."""
        return self._seen.deduplicated

    async def refresh(self) -> Job:
        """Read the job again."""
        self.job = await self._jobs.get_job(self.job.id) or self.job
        return self.job

    async def cancel(self, *, reason: str = "canceled by the application") -> Job:
        """Cancel the job; see `Adapter.cancel_job`."""
        self.job = await self._jobs.cancel_job(self.job.id, reason=reason)
        return self.job

    async def result(self, timeout: timedelta | None = None) -> R:
        """Wait until the job has ended and return what its handler returned.

        Raises:
            JobFailedError, JobCanceledError: it ended otherwise.
            ResultTimeoutError: it is still open after ``timeout`` (also a TimeoutError); it goes on.
        """
        self.job = await self._jobs.wait_for(self.job.id, timeout)
        if self.job.status is JobStatus.COMPLETED:
            return self._load(self.job.result)
        if self.job.status is JobStatus.CANCELED:
            raise JobCanceledError(self.job.id, self.job.status, self.job.error)
        raise JobFailedError(self.job.id, self.job.status, self.job.error)
