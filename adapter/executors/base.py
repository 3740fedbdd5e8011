"""What the adapter asks of a remote executor.

A plug-in implements `Executor`. Every call raises only errors of ``adapter.domain.errors``:
`NotSentError`, `ThrottledError`, `RejectedError`, `UnknownOutcomeError` or `UnsupportedError`; which
one decides what happens to the job (protocol, "Dispatch").
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

from adapter.domain.job import JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One epoch of one job on its way out. The executor derives every key from (job_id, epoch)."""

    job_id: UUID
    epoch: int
    task: str
    remote_id: str
    data: Any
    tag: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] | None = None
    queue: str | None = None
    concurrency_key: str | None = None
    priority: int = 0
    #: Attempts left of the job's budget.
    max_attempts: int = 3
    max_duration: timedelta | None = None
    #: Time to live from now, always sent explicitly.
    ttl: timedelta | None = None
    #: Set only when the task opts into the remote's own delay.
    delay_until: datetime | None = None
    #: What of ``data`` is no plain JSON there, as superjson notes it: the times that a tick tells of.
    superjson: dict[str, Any] | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The remote has the job, as ``run_id``. ``cached``: it had it before this call."""

    run_id: str
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRun:
    """A run as the remote shows it.

    ``version`` is that of the code it is bound to, None while it is bound to none.
    ``status`` is ours (DEQUEUED is EXECUTING, PENDING_VERSION is QUEUED); ``remote_status`` is the
    remote's own word. ``complete`` is True when ``output`` and ``error`` are filled in (a retrieve);
    a list shows neither. Times are the remote's.
    """

    run_id: str
    status: JobStatus
    remote_status: str
    task: str
    tags: tuple[str, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempt: int | None = None
    output: Any = None
    error: dict[str, Any] | None = None
    complete: bool = False
    version: str | None = None

    @property
    def never_started(self) -> bool:
        """Whether the remote says that no user code ever began."""
        running = self.status in {JobStatus.EXECUTING, JobStatus.WAITING}
        return self.started_at is None and not self.attempt and not running


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """One page of a list, newest first. ``next`` is None on the last page."""

    runs: tuple[RemoteRun, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What can be relied on at this executor.

    ``lookup``: runs can be found by our tags. ``dedup_for``: how long a repeated submit under the same
    keys surely answers the first run (None: never). ``remote_delay``: it can hold a job until due.
    ``start_fence``: each of its runs asks us before user code begins, and is not begun when it is refused.
    """

    lookup: bool
    dedup_for: timedelta | None
    remote_delay: bool
    cancel: bool = True
    longest_ttl: timedelta | None = None
    start_fence: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Calls per second and burst the remote allows one key, before our shares are cut from it."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs a list asks for. ``since`` is required: remotes hide old runs without it."""

    since: datetime
    until: datetime | None = None
    #: Runs with any of these tags.
    tags: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    statuses: tuple[JobStatus, ...] = ()
    page_size: int = 100


@runtime_checkable
class Executor(Protocol):
    """A place that runs jobs, reached over a network."""

    @property
    def name(self) -> str:
        """What the registry and the flags call it."""
        ...

    @property
    def environment(self) -> str:
        """Which of the remote's environments our key opens, without revealing the key.

        Stored with each run: a job is only ever asked for where it was sent.
        """
        ...

    @property
    def budget(self) -> Budget | None:
        """The remote's rate limit for our key; None when it has none."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What can be relied on here."""
        ...

    async def open(self) -> None:
        """Make ready; no request is sent."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...

    async def submit(self, submission: Submission) -> Accepted:
        """Hand one epoch over. Safe to repeat within ``capabilities.dedup_for``."""
        ...

    async def retrieve(self, run_id: str) -> RemoteRun | None:
        """Return the run with output and error, or None when the remote does not know it."""
        ...

    async def list_runs(self, wanted: RunFilter, cursor: str | None = None) -> RunPage:
        """Return one page. A run that is not in it may exist all the same (lag)."""
        ...

    async def cancel(self, run_id: str) -> None:
        """Ask for cancellation. Returning means asked, not stopped; unknown runs are no error."""
        ...

    async def replay(self, run_id: str) -> str:
        """Start a new run like this one and return its id."""
        ...


@runtime_checkable
class TakesTombstones(Protocol):
    """An executor at which it can be proven that an epoch has no run."""

    async def submit_tombstone(self, submission: Submission) -> Accepted:
        """Send the keys of an epoch without its work: returns its run, or one that only carries our mark.

        The mark is `identity.tombstone_tag`, as its only tag; such a run waits far in the future.
        """
        ...


@dataclass(slots=True)
class ExecutorSet:
    """The remote executors of one adapter, by name."""

    by_name: dict[str, Executor] = field(default_factory=dict[str, Executor])

    def __contains__(self, name: str) -> bool:
        """Whether a remote executor of that name is configured."""
        return name in self.by_name

    def get(self, name: str) -> Executor | None:
        """Return the executor, None when it is not configured."""
        return self.by_name.get(name)

    @property
    def names(self) -> list[str]:
        """The configured names, sorted."""
        return sorted(self.by_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSchedule:
    """A schedule as its executor shows it. ``next_run``: nominal; None while it rests."""

    schedule_id: str
    task: str
    cron: str
    timezone: str
    active: bool
    next_run: datetime | None = None
    #: None: the executor does not say; zero: it fires when it says.
    window: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTick:
    """A run that a schedule there has started. ``at``: its nominal time."""

    schedule_id: str
    run: RemoteRun
    at: datetime
    payload: Any = None


@runtime_checkable
class RemoteClock(Protocol):
    """Keeps schedules at an executor. Every call may be repeated; errors as those of `Executor`."""

    async def create(
        self, *, task: str, cron: str, timezone: str, key: str, external_id: str
    ) -> RemoteSchedule:
        """Make a schedule that fires exactly when it says, or return the one of that key, changed."""
        ...

    async def retrieve(self, schedule_id: str) -> RemoteSchedule | None:
        """Return a schedule, None when it is not there."""
        ...

    async def find(self, key: str) -> RemoteSchedule | None:
        """Return the schedule that was made with this key, None when there is none."""
        ...

    async def turn(self, schedule_id: str, *, active: bool) -> RemoteSchedule | None:
        """Let a schedule fire or rest; None when it is not there."""
        ...

    async def delete(self, schedule_id: str) -> None:
        """Remove a schedule; that it is not there is no error."""
        ...

    def ticks(self, schedule_id: str, since: datetime) -> AsyncIterator[RemoteTick]:
        """Iterate over all runs it has started since, oldest first. What is not among them may be there (lag)."""
        ...

    async def tick(self, run_id: str) -> RemoteTick | None:
        """Return a run as the tick it is; None when it is gone, or no schedule has started it."""
        ...


@runtime_checkable
class HasClock(Protocol):
    """An executor that can keep the clock of schedules."""

    @property
    def clock(self) -> RemoteClock:
        """Its schedules."""
        ...
