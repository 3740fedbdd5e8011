"""Rows of ``worker_jobs`` as `Job` values and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from adapter.domain.job import Job, JobStatus, NewJob, SubmitState, WaitingFor


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


def _seconds(duration: timedelta | None) -> str | None:
    return None if duration is None else f"{duration.total_seconds():.6f} seconds"


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def record_of(job: NewJob) -> dict[str, Any]:
    """Return the job as a record of the JSON array that the insert reads."""
    return {
        "id": str(job.id),
        "type": job.type,
        "status": job.status.value,
        "tag": job.tag,
        "user_id": job.user_id,
        "data": job.data,
        "executor": job.executor,
        "route_reason": job.route_reason,
        "queue": job.queue,
        "concurrency_key": job.concurrency_key,
        "priority": job.priority,
        "due": job.due.isoformat() if job.due else None,
        "delay": _seconds(job.delay),
        "ttl": _seconds(job.ttl),
        "max_duration": _seconds(job.max_duration),
        "max_attempts": job.max_attempts,
        "retry": job.retry,
        "metadata": job.metadata,
        "tags": list(job.tags) or None,
        "idempotency_key": job.idempotency_key,
        "idempotency_ttl": _seconds(job.idempotency_ttl),
        "request_key": job.request_key,
        "parent_id": _text(job.parent_id),
        "root_id": _text(job.root_id),
        "batch_id": _text(job.batch_id),
        "persistent": job.persistent,
        "keep_for": _seconds(job.keep_for),
        "extra": job.extra or None,
    }


def records_of(jobs: list[NewJob]) -> str:
    """Return the JSON array that the insert reads."""
    return json.dumps([record_of(job) for job in jobs], allow_nan=False, separators=(",", ":"))


def inserted(job: NewJob, row: Mapping[str, Any]) -> Job:
    """Return the job as it was inserted: what was asked for, and what the database decided."""
    return Job(
        id=job.id,
        type=job.type,
        status=JobStatus(row["status"]),
        executor=job.executor,
        route_reason=job.route_reason,
        epoch=1,
        submit_state=SubmitState.NEVER,
        data=job.data,
        queue=job.queue,
        created_at=row["created_at"],
        updated_at=row["created_at"],
        tag=job.tag,
        user_id=job.user_id,
        waiting_for=WaitingFor.EXECUTOR if row["status"] == JobStatus.WAITING else None,
        concurrency_key=job.concurrency_key,
        priority=job.priority,
        due=row["due"],
        expires_at=row["expires_at"],
        max_duration=job.max_duration,
        max_attempts=job.max_attempts,
        retry=job.retry,
        metadata=job.metadata,
        tags=job.tags,
        idempotency_key=job.idempotency_key,
        parent_id=job.parent_id,
        root_id=job.root_id,
        batch_id=job.batch_id,
        persistent=job.persistent,
        extra=job.extra,
    )


def found(job: Job) -> Job:
    """Mark a job as found instead of created."""
    return replace(job, deduplicated=True)
