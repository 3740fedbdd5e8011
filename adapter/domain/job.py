"""A job: one row of ``worker_jobs``, one piece of work somebody asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID


class JobStatus(StrEnum):
    """Where a job stands. The words are Trigger.dev's (run status of its API), plus PENDING."""

    #: A remote executor has not accepted it yet. On the wire: QUEUED.
    PENDING = "PENDING"
    #: Due in the future.
    DELAYED = "DELAYED"
    #: Ready; waits for a free worker, here or at the remote.
    QUEUED = "QUEUED"
    #: Waits for what ``waiting_for`` says.
    WAITING = "WAITING"
    #: Its handler runs.
    EXECUTING = "EXECUTING"
    #: Its handler returned.
    COMPLETED = "COMPLETED"
    #: Its attempts are spent, or it was refused.
    FAILED = "FAILED"
    #: Somebody canceled it.
    CANCELED = "CANCELED"
    #: Its time to live passed before it started.
    EXPIRED = "EXPIRED"
    #: It ran longer than its ``max_duration``.
    TIMED_OUT = "TIMED_OUT"
    #: Its process died on every attempt.
    CRASHED = "CRASHED"
    #: The executor lost it.
    SYSTEM_FAILURE = "SYSTEM_FAILURE"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can come after it."""
        return self in TERMINAL

    @property
    def success(self) -> bool | None:
        """True for COMPLETED, False for the other ends, None while the job is open."""
        return (self is JobStatus.COMPLETED) if self in TERMINAL else None


TERMINAL = frozenset(
    {
        JobStatus.COMPLETED,
        JobStatus.FAILED,
        JobStatus.CANCELED,
        JobStatus.EXPIRED,
        JobStatus.TIMED_OUT,
        JobStatus.CRASHED,
        JobStatus.SYSTEM_FAILURE,
    }
)
OPEN = frozenset(JobStatus) - TERMINAL

#: Ends after which the idempotency key is free again (Trigger.dev's rule, its API contract 8.1).
RELEASES_KEY = TERMINAL - {JobStatus.COMPLETED, JobStatus.CANCELED}
#: The same ends are dead letters: a person may want to look at them, and to try them again.
DEAD = RELEASES_KEY


class SubmitState(StrEnum):
    """What is known of our tries to hand an epoch to its remote executor."""

    #: No try has left.
    NEVER = "never"
    #: One dispatcher holds the dispatch lease; committed before the first byte.
    TRYING = "trying"
    #: A try ended without a definite answer. Sticky for the epoch.
    UNKNOWN = "unknown"
    #: The remote has it, under ``remote_run_id``.
    ACCEPTED = "accepted"


class WaitingFor(StrEnum):
    """What a WAITING job waits for."""

    #: A token of its concurrency key.
    KEY = "key"
    #: Its children.
    CHILDREN = "children"
    #: A wait token somebody completes.
    TOKEN = "token"
    #: A worker that can run it, or the remote's own wait.
    EXECUTOR = "executor"


#: The executor that runs jobs on our own workers, and what the seed guides call it.
LOCAL = "local"
LOCAL_ALIAS = "internal"


def executor_name(name: str) -> str:
    """Return the executor's proper name: ``internal`` is an alias of ``local``."""
    return LOCAL if name == LOCAL_ALIAS else name


#: What a call gets whose tag or idempotency key is held: the holder; the holder with everything replaced by
#: what this call asks for, as long as nothing has started; an error.
OnConflict = Literal["keep", "replace", "reject"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Terms:
    """What a scheduling call asks for beside the payload; jobs may share one, which is equal only to itself."""

    type: str
    queue: str
    due: datetime | None = None
    delay: timedelta | None = None
    tag: str | None = None
    user_id: str | None = None
    concurrency_key: str | None = None
    priority: int = 0
    ttl: timedelta | None = None
    max_duration: timedelta | None = None
    max_attempts: int = 3
    retry: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    tags: tuple[str, ...] = ()
    idempotency_key: str | None = None
    idempotency_ttl: timedelta = timedelta(days=30)
    request_key: str | None = None
    #: At most one job per ``throttle`` under this name.
    throttle_key: str | None = None
    throttle: timedelta | None = None
    on_conflict: OnConflict = "keep"
    persistent: bool = False
    keep_for: timedelta | None = None
    keep_failed_for: timedelta | None = None
    remove_at: datetime | None = None
    parent_id: UUID | None = None
    root_id: UUID | None = None
    batch_id: UUID | None = None
    schedule_id: UUID | None = None
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def keys(self) -> list[str]:
        """Its keys as ``job_keys`` holds them, the one that is looked up first in front."""
        kinds = (
            ("request", self.request_key),
            ("throttle", self.throttle_key),
            ("key", self.idempotency_key),
        )
        return [f"{kind}:{key}" for kind, key in kinds if key is not None]

    @property
    def is_named(self) -> bool:
        """Whether it has a key or tag that another job may hold."""
        return (
            self.tag is not None
            or self.idempotency_key is not None
            or self.request_key is not None
            or self.throttle_key is not None
        )


@dataclass(slots=True)
class NewJob:
    """A job about to be inserted: its payload as JSON text, its terms, and the route it gets."""

    id: UUID
    payload: str
    terms: Terms
    executor: str = LOCAL
    route_reason: str = ""
    status: JobStatus = JobStatus.QUEUED


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it was when its row was read.

    Times are aware and come from the database's clock. ``result`` is the handler's return value as
    JSON; ``error`` is ``{"name", "message", "stack"?}`` of the last failed attempt.
    """

    id: UUID
    type: str
    status: JobStatus
    executor: str | None
    route_reason: str | None
    epoch: int
    submit_state: SubmitState
    data: Any
    queue: str
    created_at: datetime
    updated_at: datetime
    tag: str | None = None
    user_id: str | None = None
    waiting_for: WaitingFor | None = None
    concurrency_key: str | None = None
    priority: int = 0
    due: datetime | None = None
    expires_at: datetime | None = None
    max_duration: timedelta | None = None
    attempt: int = 0
    max_attempts: int = 3
    retry: dict[str, Any] | None = None
    started: datetime | None = None
    finished: datetime | None = None
    success: bool | None = None
    result: Any = None
    error: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    tags: tuple[str, ...] = ()
    remote_run_id: str | None = None
    remote_attempt: str | None = None
    remote_status: str | None = None
    remote_environment: str | None = None
    schedule_id: UUID | None = None
    cancel_requested: bool = False
    idempotency_key: str | None = None
    parent_id: UUID | None = None
    root_id: UUID | None = None
    batch_id: UUID | None = None
    persistent: bool = False
    remove_at: datetime | None = None
    last_synced_at: datetime | None = None
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    #: True when the call that returned this found the job instead of creating it.
    deduplicated: bool = False
    #: True when it was found by its ``request_key``: the same call had made it before.
    repeated: bool = False


def depth_of(job: Job) -> int:
    """Return how many jobs are above this one in its family."""
    # Only what is deeper than a child says so itself.
    return job.extra.get("depth", 1) if job.parent_id is not None else 0
