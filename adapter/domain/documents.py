"""A job as the document that people and programs are shown."""

from __future__ import annotations

import dataclasses
from typing import Any

from adapter.domain.identity import run_id_of
from adapter.domain.job import Job, JobStatus


def job_document(job: Job) -> dict[str, Any]:
    """Return all fields of a job, and the id our API shows. Values are as they are in `Job`."""
    fields = {each.name: getattr(job, each.name) for each in dataclasses.fields(job)}
    fields.pop("deduplicated")
    return {"id": fields.pop("id"), "run_id": run_id_of(job.id), **fields}


def job_run_document(job: Job) -> dict[str, Any]:
    """Return a job as a row of the view ``job_runs``, in the spelling of JavaScript."""
    if job.finished is not None:
        status = "completed" if job.status is JobStatus.COMPLETED else "failed"
    else:
        status = "active" if job.status is JobStatus.EXECUTING else "pending"
    return {
        "id": job.id,
        "taskId": job.type,
        "status": status,
        "payload": job.data,
        "result": job.result if job.status is JobStatus.COMPLETED else None,
        "error": job.error.get("message") if job.error is not None else None,
        "startedAt": job.started,
        "completedAt": job.finished,
        "createdAt": job.created_at,
    }
