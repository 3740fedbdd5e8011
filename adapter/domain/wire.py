"""How single values look where we speak Trigger.dev's language (its API contract, 3 and 7)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from adapter.domain.job import JobStatus


def status_word(status: JobStatus) -> str:
    """Return the API's word: PENDING is shown as QUEUED, since the SDK's list is closed."""
    return JobStatus.QUEUED.value if status is JobStatus.PENDING else status.value


def moment(at: datetime) -> str:
    """Return an aware time as the API writes it: UTC, milliseconds, Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def error_fields(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a job's error as a retrieve shows it: ``{"message", "name"?, "stackTrace"?}``."""
    if not error:
        return None
    shown = {"message": str(error.get("message") or "no message was kept")}
    for ours, theirs in (("name", "name"), ("stack", "stackTrace")):
        if error.get(ours):
            shown[theirs] = str(error[ours])
    return shown
