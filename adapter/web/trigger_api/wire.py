"""A job as Trigger.dev's SDK reads a run (its API contract, 3 and 7).

The SDK validates every answer: a required field may not be missing, an optional one never null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from adapter.domain.identity import SCHEDULE_PREFIX, public_id, run_id_of
from adapter.domain.job import TERMINAL, Job, JobStatus, WaitingFor, depth_of
from adapter.domain.wire import error_fields, moment, status_word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adapter.store.insights import Wait

BATCH = "batch_"
BULK = "bulk_"
SCHEDULE = SCHEDULE_PREFIX

_FAILED = TERMINAL - {JobStatus.COMPLETED}


@dataclass(frozen=True, slots=True)
class StatusGroup:
    """What a word of the API finds here; of jobs that wait, only those that wait for one of ``waits``."""

    statuses: frozenset[JobStatus]
    waits: frozenset[Wait] = frozenset()


#: The API's closed list. One of them no job ever says.
STATUSES: Mapping[str, StatusGroup] = {
    "DEQUEUED": StatusGroup(frozenset()),
    **{
        status.value: StatusGroup(frozenset({status}))
        for status in JobStatus
        if status is not JobStatus.PENDING
    },
    "PENDING_VERSION": StatusGroup(frozenset({JobStatus.WAITING}), frozenset({"executor"})),
    "QUEUED": StatusGroup(
        frozenset({JobStatus.QUEUED, JobStatus.PENDING, JobStatus.WAITING}), frozenset({"key"})
    ),
    "WAITING": StatusGroup(frozenset({JobStatus.WAITING}), frozenset({"children", "token", "remote"})),
}


def run_summary(job: Job) -> dict[str, Any]:
    """Return the fields that a retrieve, a list and related runs share."""
    status, ended = _shown(job), job.finished is not None
    ran = job.finished - job.started if job.finished and job.started else None
    optional: dict[str, Any] = {
        "idempotencyKey": _user_key(job),
        "startedAt": moment(job.started) if job.started else None,
        "finishedAt": moment(job.finished) if job.finished else None,
        "delayedUntil": moment(job.due) if job.due else None,
        "expiredAt": moment(job.finished) if job.finished and status is JobStatus.EXPIRED else None,
        "ttl": job.extra.get("ttl"),
        "region": job.extra.get("region"),
        "version": job.extra.get("version"),
        "machine": job.extra.get("machine"),
        "metadata": job.metadata,
        "batchId": public_id(BATCH, job.batch_id) if job.batch_id else None,
    }
    return {
        "id": run_id_of(job.id),
        "status": "PENDING_VERSION" if _waits_for_version(job) else status_word(status),
        "taskIdentifier": job.type,
        **_booleans(status),
        "isTest": job.extra.get("test") is True,
        "createdAt": moment(job.created_at),
        "updatedAt": moment(job.updated_at),
        "tags": sorted(job.tags),
        "costInCents": 0,
        "baseCostInCents": 0,
        "durationMs": max(round(ran.total_seconds() * 1000), 0) if ended and ran else 0,
        "depth": depth_of(job),
        "triggerFunction": _trigger_function(job),
        "taskKind": "SCHEDULED" if job.schedule_id else "STANDARD",
        **{name: value for name, value in optional.items() if value is not None},
    }


def run_details(job: Job) -> dict[str, Any]:
    """Return what a retrieve answers."""
    details = run_summary(job)
    details |= {"attemptCount": job.attempt, "attempts": list[Any](), "relatedRuns": dict[str, Any]()}
    if job.data is not None:
        details["payload"] = job.data
    if job.status is JobStatus.COMPLETED and job.result is not None:
        details["output"] = job.result
    error = error_fields(job.error) if job.status in _FAILED else None
    if error:
        details["error"] = error | _of_expiry(job)
    return details


def _of_expiry(job: Job) -> dict[str, str]:
    """Upstream's words for a run that was not begun in time, as far as its ttl is known."""
    ttl = job.extra.get("ttl")
    if job.status is not JobStatus.EXPIRED or not ttl:
        return {}
    return {"message": f"Run expired because the TTL ({ttl}) was reached"}


def run_item(job: Job, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what a list shows of a job."""
    return run_summary(job) | {"env": dict(environment)}


def _booleans(status: JobStatus) -> dict[str, bool]:
    """The seven flags. EXPIRED and TIMED_OUT count as completed, or the SDK's poll would never end."""
    return {
        "isQueued": status in {JobStatus.PENDING, JobStatus.QUEUED, JobStatus.DELAYED},
        "isExecuting": status is JobStatus.EXECUTING,
        "isWaiting": status is JobStatus.WAITING,
        "isCompleted": status in TERMINAL,
        "isSuccess": status is JobStatus.COMPLETED,
        "isFailed": status in _FAILED,
        "isCancelled": status is JobStatus.CANCELED,
    }


def _waits_for_version(job: Job) -> bool:
    """Whether nobody can run it yet, which is what upstream says of a task that no deployment has."""
    # One that has begun does not wait for a worker: it is its remote that waits.
    waits = job.status is JobStatus.WAITING and job.waiting_for is WaitingFor.EXECUTOR
    return waits and job.started is None


def _shown(job: Job) -> JobStatus:
    """Return the status to be shown: WAITING is for runs that have begun, what has not is in a queue."""
    in_line = job.status is JobStatus.WAITING and job.waiting_for is WaitingFor.KEY
    return JobStatus.QUEUED if in_line or _waits_for_version(job) else job.status


def _trigger_function(job: Job) -> str:
    called = "batchTrigger" if job.batch_id else "trigger"
    return f"{called}AndWait" if job.extra.get("resumes_parent") else called


def _user_key(job: Job) -> str | None:
    """The key the user passed, where the wire only carried its hash."""
    kept: Any = job.extra.get("idempotency")
    key: Any = cast("dict[str, Any]", kept).get("key") if isinstance(kept, dict) else None
    return key if isinstance(key, str) else job.idempotency_key
