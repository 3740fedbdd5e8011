"""An executor in memory, for tests of what an application does when a remote does not."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from adapter.domain.clock import SystemClock
from adapter.domain.errors import (
    JobStateError,
    NotSentError,
    RejectedError,
    ThrottledError,
    UnknownOutcomeError,
    UnsupportedError,
)
from adapter.domain.identity import epoch_tag
from adapter.domain.job import JobStatus
from adapter.executors.base import Accepted, Budget, Capabilities, RemoteRun, RunFilter, RunPage, Submission


class Failure(StrEnum):
    """How a submit can fail."""

    #: Nothing left: no connection. Tried again.
    NOT_SENT = "not_sent"
    #: The remote says: later.
    THROTTLED = "throttled"
    #: The remote refuses this job for good.
    REJECTED = "rejected"
    #: No answer came, and there is no run.
    UNKNOWN = "unknown"
    #: No answer came, and there is a run all the same.
    ACCEPT_LATE = "accept_late"


@dataclass(slots=True)
class MemoryRun:
    """A run of the executor in memory; the test decides how it ends."""

    id: str
    submission: Submission
    status: JobStatus = JobStatus.QUEUED
    output: Any = None
    error: dict[str, Any] | None = None
    created_at: datetime = field(default_factory=lambda: SystemClock().now())
    updated_at: datetime = field(default_factory=lambda: SystemClock().now())
    started_at: datetime | None = None

    @property
    def task(self) -> str:
        """What the remote calls the task."""
        return self.submission.remote_id

    @property
    def payload(self) -> Any:
        """What it was given."""
        return self.submission.data


class MemoryExecutor:
    """Takes jobs, keeps them in ``runs``, and ends them when the test says so.

    Ends reach the jobs with the next `JobsKit.run_pending`, as they would by reconciliation.
    """

    def __init__(self, name: str = "trigger") -> None:
        self.name = name
        self.environment = f"memory:{name}"
        self.budget: Budget | None = None
        self.capabilities = Capabilities(lookup=True, dedup_for=timedelta(hours=24), remote_delay=False)
        #: Every run there is, oldest first, by id.
        self.runs: dict[str, MemoryRun] = {}
        #: Submits that came, failed ones too.
        self.submits: list[Submission] = []
        self._failures: deque[Failure] = deque()

    # ---- what a test says --------------------------------------------------------------------------

    def fail_next(self, failure: Failure | str, times: int = 1) -> None:
        """Let the next submits fail in this way; several calls queue up."""
        self._failures.extend([Failure(failure)] * times)

    def only_run(self) -> MemoryRun:
        """Return the one run there is.

        Raises:
            AssertionError: there is none, or there are several.
        """
        if len(self.runs) != 1:
            msg = f"there are {len(self.runs)} runs at {self.name}, not one"
            raise AssertionError(msg)
        return next(iter(self.runs.values()))

    def start(self, run: MemoryRun) -> None:
        """Let a run begin."""
        self._move(run, JobStatus.EXECUTING)

    def complete(self, run: MemoryRun, output: Any = None) -> None:
        """Let a run end well."""
        run.output = output
        self._move(run, JobStatus.COMPLETED)

    def fail(self, run: MemoryRun, message: str = "failed by the test", *, name: str = "Error") -> None:
        """Let a run fail."""
        run.error = {"name": name, "message": message}
        self._move(run, JobStatus.FAILED)

    def _move(self, run: MemoryRun, status: JobStatus) -> None:
        if run.status.is_terminal:
            msg = f"Run {run.id} has ended: {run.status}."
            raise JobStateError(msg)
        now = SystemClock().now()
        if status is not JobStatus.CANCELED:
            run.started_at = run.started_at or now
        run.status, run.updated_at = status, now

    # ---- what the adapter asks (`adapter.executors.base.Executor`) ---------------------------------

    async def open(self) -> None:
        """Do nothing: there is nothing to connect to."""

    async def close(self) -> None:
        """Do nothing."""

    async def submit(self, submission: Submission) -> Accepted:
        """Take a job, or fail as the test said. The same epoch has one run, however often it comes."""
        self.submits.append(submission)
        failure = self._failures.popleft() if self._failures else None
        known = next((run for run in self.runs.values() if _same(run.submission, submission)), None)
        match failure:
            case Failure.NOT_SENT:
                raise NotSentError("not sent: the test said so")
            case Failure.THROTTLED:
                raise ThrottledError(
                    "throttled: the test said so", SystemClock().now() + timedelta(seconds=1)
                )
            case Failure.REJECTED:
                raise RejectedError("rejected: the test said so", 422)
            case Failure.UNKNOWN:
                raise UnknownOutcomeError("no answer: the test said so")
            case Failure.ACCEPT_LATE:
                self._run_of(submission, known)
                raise UnknownOutcomeError("no answer, though it was accepted: the test said so")
            case None:
                run = self._run_of(submission, known)
                return Accepted(run_id=run.id, cached=known is not None)

    def _run_of(self, submission: Submission, known: MemoryRun | None) -> MemoryRun:
        if known is not None:
            return known
        run = MemoryRun(f"run_{self.name}_{len(self.runs) + 1}", submission)
        self.runs[run.id] = run
        return run

    async def retrieve(self, run_id: str) -> RemoteRun | None:
        """Return a run with its end."""
        run = self.runs.get(run_id)
        return _shown(run) if run is not None else None

    async def list_runs(self, wanted: RunFilter, cursor: str | None = None) -> RunPage:  # noqa: ARG002 - one page
        """Return all runs a list asks for, newest first, on one page."""
        runs = [_shown(run) for run in reversed(self.runs.values())]
        return RunPage(
            runs=tuple(
                run
                for run in runs
                if (not wanted.tags or set(wanted.tags) & set(run.tags))
                and (not wanted.tasks or run.task in wanted.tasks)
                and (not wanted.statuses or run.status in wanted.statuses)
            )
        )

    async def cancel(self, run_id: str) -> None:
        """Cancel a run at once, unless it has ended."""
        run = self.runs.get(run_id)
        if run is not None and not run.status.is_terminal:
            self._move(run, JobStatus.CANCELED)

    async def replay(self, run_id: str) -> str:
        """Refuse: a replay is a new job of the adapter's.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(f"{run_id} cannot be replayed in memory: use `replay_job`.")


def _same(one: Submission, other: Submission) -> bool:
    return (one.job_id, one.epoch) == (other.job_id, other.epoch)


def _shown(run: MemoryRun) -> RemoteRun:
    submission = run.submission
    return RemoteRun(
        run_id=run.id,
        status=run.status,
        remote_status=run.status.value,
        task=submission.remote_id,
        tags=(*submission.tags, epoch_tag(submission.job_id, submission.epoch)),
        created_at=run.created_at,
        updated_at=run.updated_at,
        started_at=run.started_at,
        finished_at=run.updated_at if run.status.is_terminal else None,
        attempt=1 if run.started_at else None,
        output=run.output,
        error=run.error,
        complete=True,
    )
