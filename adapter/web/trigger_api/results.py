"""How a run has ended, as those read it who waited for it (Trigger.dev's API contract, 7.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapter.domain.identity import run_id_of
from adapter.domain.job import JobStatus
from adapter.domain.packets import encode_packet
from adapter.domain.wire import error_fields

if TYPE_CHECKING:
    from adapter.domain.job import Job


def run_result(job: Job) -> dict[str, Any]:
    """Return the result of a run that has ended."""
    ended: dict[str, Any] = {
        "ok": job.status is JobStatus.COMPLETED,
        "id": run_id_of(job.id),
        "taskIdentifier": job.type,
    }
    if job.status is not JobStatus.COMPLETED:
        return ended | {"error": run_error(job)}
    if job.result is None:
        return ended
    output, output_type = encode_packet(job.result)
    return ended | {"output": output, "outputType": output_type}


def run_error(job: Job) -> dict[str, Any]:
    """Return what ended it badly, as upstream's closed list of kinds has it."""
    shown = error_fields(job.error) or {"message": f"The run ended as {job.status}."}
    return {
        "type": "BUILT_IN_ERROR",
        "name": shown.get("name", "Error"),
        "message": shown["message"],
        "stackTrace": shown.get("stackTrace", ""),
    }
