"""Rows of ``worker_jobs`` as `Job` values and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from adapter.domain.job import Job, JobStatus, NewJob, SubmitState, WaitingFor

_IDS = ("id", "schedule_id", "parent_id", "root_id", "batch_id")
_MOMENTS = ("created_at", "updated_at", "due", "expires_at", "started", "last_synced_at")


def job_from_row(row: Mapping[str, Any]) -> Job:
    """Return the job of a row of the open or the finished table, or of their union."""
    waiting_for = row.get("waiting_for")
    return Job(
        id=row["id"],
        type=row["type"],
        status=JobStatus(row["status"]),
        executor=row["executor"],
        route_reason=row["route_reason"],
        epoch=row["epoch"],
        submit_state=SubmitState(row["submit_state"]),
        data=row["data"],
        queue=row["queue"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        tag=row["tag"],
        user_id=row["user_id"],
        waiting_for=WaitingFor(waiting_for) if waiting_for else None,
        concurrency_key=row["concurrency_key"],
        priority=row["priority"],
        due=row["due"],
        expires_at=row["expires_at"],
        max_duration=row["max_duration"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        retry=row["retry"],
        started=row["started"],
        finished=row.get("finished"),
        success=row.get("success"),
        result=row.get("result"),
        error=row["error"],
        metadata=row["metadata"],
        tags=tuple(row["tags"] or ()),
        remote_run_id=row["remote_run_id"],
        remote_attempt=row["remote_attempt"],
        remote_status=row["remote_status"],
        remote_environment=row["remote_environment"],
        schedule_id=row["schedule_id"],
        cancel_requested=row["cancel_requested"],
        idempotency_key=row["idempotency_key"],
        parent_id=row["parent_id"],
        root_id=row["root_id"],
        batch_id=row["batch_id"],
        persistent=row["persistent"],
        remove_at=row.get("remove_at"),
        last_synced_at=row["last_synced_at"],
        extra=row["extra"] or {},
    )


def job_from_json(text: str, *, max_duration: timedelta | None) -> Job:
    """Return the job of a row that came as JSON text, in which an interval has no one spelling."""
    row: dict[str, Any] = json.loads(text)
    for name in _IDS:
        row[name] = UUID(row[name]) if row[name] is not None else None
    for name in _MOMENTS:
        row[name] = datetime.fromisoformat(row[name]) if row[name] is not None else None
    row["max_duration"] = max_duration
    return job_from_row(row)


class Written:
    """A job as it was inserted: what was asked for, and what the database decided.

    Most callers never look at more than its id, so the whole value is made when it is asked for.
    """

    __slots__ = ("_at", "_row", "new")

    deduplicated = False

    def __init__(self, new: NewJob, at: datetime, row: Mapping[str, Any] | None = None) -> None:
        self.new = new
        self._at = at
        self._row = row

    @property
    def id(self) -> UUID:
        """The job's id."""
        return self.new.id

    @property
    def executor(self) -> str:
        """Where it was routed."""
        return self.new.executor

    @property
    def queue(self) -> str:
        """Its queue."""
        return self.new.terms.queue

    @property
    def status(self) -> JobStatus:
        """Its first status."""
        return self.new.status if self._row is None else JobStatus(self._row["status"])

    def job(self) -> Job:
        """Return the whole value."""
        new, terms, row = self.new, self.new.terms, self._row or {}
        status = self.status
        return Job(
            id=new.id,
            type=terms.type,
            status=status,
            executor=new.executor,
            route_reason=new.route_reason,
            epoch=1,
            submit_state=SubmitState.NEVER,
            data=json.loads(new.payload),
            queue=terms.queue,
            created_at=self._at,
            updated_at=self._at,
            tag=terms.tag,
            user_id=terms.user_id,
            waiting_for=WaitingFor.EXECUTOR if status is JobStatus.WAITING else None,
            concurrency_key=terms.concurrency_key,
            priority=terms.priority,
            due=row.get("due"),
            expires_at=row.get("expires_at"),
            max_duration=terms.max_duration,
            max_attempts=terms.max_attempts,
            retry=terms.retry,
            metadata=terms.metadata,
            tags=terms.tags,
            idempotency_key=terms.idempotency_key,
            parent_id=terms.parent_id,
            root_id=terms.root_id,
            batch_id=terms.batch_id,
            persistent=terms.persistent,
            remove_at=terms.remove_at,
            extra=terms.extra,
        )


class Alike:
    """What jobs of one call have in common that differ in nothing but id and payload."""

    __slots__ = ("at", "like")

    def __init__(self, like: NewJob) -> None:
        self.like = like
        #: When they were inserted, once they are.
        self.at: datetime | None = None

    def written(self, job_id: bytes, payload: bytes) -> Written:
        """Return one of them."""
        assert self.at is not None
        new = replace(self.like, id=UUID(bytes=job_id), payload=payload.decode())
        return Written(new, self.at)


def found(job: Job, *, repeated: bool = False) -> Job:
    """Mark a job as found instead of created; ``repeated``: by a repetition of the call that made it."""
    return replace(job, deduplicated=True, repeated=repeated)
