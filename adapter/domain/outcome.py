"""What a try came to, whoever reports it: our worker, a webhook, a retrieve."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

from adapter.domain.job import JobStatus


class Authority(StrEnum):
    """How far a report is believed (protocol, "What comes back")."""

    #: The executor's own engine said so: a retrieve, our worker, a peer adapter, an alert.
    ENGINE = "engine"
    #: A hook inside the user's run: it may be followed by a crash, so its end is confirmed first.
    HOOK = "hook"


@dataclass(frozen=True, slots=True)
class Lease:
    """The local holder of a job: a worker process and the number of its claim. Never reused."""

    worker_id: UUID
    claim_number: int


@dataclass(frozen=True, slots=True)
class RunId:
    """The remote holder of a job."""

    executor: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The handler returned ``result`` (any JSON value)."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Errored:
    """The handler raised. Neither ``retry_after`` nor ``retry_at``: by the policy.

    ``raised`` is the exception itself, where it was raised in this process.
    """

    error: dict[str, Any]
    retryable: bool = True
    retry_after: timedelta | None = None
    retry_at: datetime | None = None
    raised: BaseException | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The try ran longer than ``max_duration``."""

    error: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The try ended because its job was canceled."""

    reason: str


@dataclass(frozen=True, slots=True)
class Returned:
    """The try gives the job back unspent: a graceful stop, no handler here, or no thread for ``delay``.

    ``unbegun``: no user code ran, so the job counts as not started.
    """

    reason: str
    runnable: bool = True
    delay: timedelta | None = None
    unbegun: bool = False


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The handler put its job off for ``delay``; no attempt is spent."""

    delay: timedelta
    reason: str = ""


TryOutcome: TypeAlias = Succeeded | Errored | TimedOut | Stopped | Returned | Snoozed


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteReport:
    """What a remote executor says of one of its runs.

    ``at`` is the remote's own event time (its clock), None when the event carries none. ``attempt``
    counts from 1. ``started`` None means: the report does not say whether user code ever began.
    """

    run_id: str
    status: JobStatus
    remote_status: str
    authority: Authority
    at: datetime | None = None
    attempt: int | None = None
    started: bool | None = None
    output: Any = None
    error: dict[str, Any] | None = None
    #: When a retrieve was begun, by the database's clock; None for a webhook.
    read_began: datetime | None = None


class Applied(StrEnum):
    """What `apply` did with a report. Everything but CHANGED left the row as it was."""

    CHANGED = "changed"
    #: The row already says so.
    DUPLICATE = "duplicate"
    #: Older than what the row knows, or of a closed epoch, or from another holder.
    STALE = "stale"
    #: The job had ended otherwise; recorded.
    CONFLICT = "conflict"
    #: A hook's word that needs a retrieve first.
    CONFIRM = "confirm"
    #: No such job, yet.
    UNKNOWN_JOB = "unknown_job"
