"""Batches: jobs that were asked for together, and are looked at together."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

MOST_ITEMS = 1000
#: A batch that is not complete after this time never will be.
ABANDONED_AFTER = timedelta(hours=1)


class BatchStatus(StrEnum):
    """Trigger.dev's words. Its PROCESSING is never said: the jobs are there when the batch is sealed."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    PARTIAL_FAILED = "PARTIAL_FAILED"
    ABORTED = "ABORTED"


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """Why no job could be made of an item. ``too_large``: there is a job for it, which has failed from the start."""

    task: str
    message: str
    code: str | None = None
    too_large: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as it was when its row was read.

    PENDING: not sealed, or some job runs; COMPLETED: every job has ended, however; PARTIAL_FAILED: no job could be
    made of some items, which ``errors`` tells, ``{"index", "taskIdentifier", "error", "errorCode"?}`` each;
    ABORTED: of none, or it was never sealed. ``run_ids`` are the jobs by place, None where there is none.
    """

    id: UUID
    run_count: int
    status: BatchStatus
    created_at: datetime
    updated_at: datetime
    sealed_at: datetime | None = None
    run_ids: tuple[UUID | None, ...] = ()
    errors: tuple[dict[str, Any], ...] = ()
    idempotency_key: str | None = None
    request_key: str | None = None
    parent_id: UUID | None = None
    detail: dict[str, Any] = field(default_factory=dict[str, Any])
    #: True when the call that returned this found the batch by its idempotency key.
    deduplicated: bool = False

    @property
    def job_ids(self) -> list[UUID]:
        """The jobs there are, in the order of their items."""
        return [each for each in self.run_ids if each is not None]


@dataclass(frozen=True, slots=True)
class Added:
    """What became of items: how many are new, how many were there, and how many of the batch are there now."""

    batch: Batch
    accepted: int
    deduplicated: int
    held: int

    @property
    def sealed(self) -> bool:
        """Whether the batch is complete, and its jobs are made."""
        return self.batch.sealed_at is not None
