"""Trigger.dev's runs in our words: statuses, errors, times (its API contract, 3 and 7). Pure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from adapter.domain.errors import UnknownOutcomeError
from adapter.domain.job import JobStatus
from adapter.executors.base import RemoteRun

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Every word of the API's closed list, and ours for it.
STATUSES = {
    "PENDING_VERSION": JobStatus.QUEUED,
    "QUEUED": JobStatus.QUEUED,
    "DEQUEUED": JobStatus.EXECUTING,
    "EXECUTING": JobStatus.EXECUTING,
    "WAITING": JobStatus.WAITING,
    "DELAYED": JobStatus.DELAYED,
    "COMPLETED": JobStatus.COMPLETED,
    "CANCELED": JobStatus.CANCELED,
    "FAILED": JobStatus.FAILED,
    "CRASHED": JobStatus.CRASHED,
    "SYSTEM_FAILURE": JobStatus.SYSTEM_FAILURE,
    "EXPIRED": JobStatus.EXPIRED,
    "TIMED_OUT": JobStatus.TIMED_OUT,
}


class UnknownStatusError(UnknownOutcomeError):
    """A run is in a status this version does not know: nothing can be said of it."""

    def __init__(self, run_id: str, word: str) -> None:
        super().__init__(f"Run {run_id} has the status {word!r}, which this version does not know.")
        self.word = word


class RunBody(BaseModel):
    """What is read of a run on the wire. The booleans are not: they contradict the status."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    id: str
    status: str
    task_identifier: str
    tags: tuple[str, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempt_count: int | None = None
    version: str | None = None
    output: Any = None
    output_presigned_url: str | None = None
    error: Any = None

    def as_run(self, *, complete: bool, output: Any = None) -> RemoteRun:
        """Return the run in our words.

        Raises:
            UnknownStatusError: its status is none of the API's words.
        """
        status = STATUSES.get(self.status)
        if status is None:
            raise UnknownStatusError(self.id, self.status)
        return RemoteRun(
            run_id=self.id,
            status=status,
            remote_status=self.status,
            task=self.task_identifier,
            tags=self.tags,
            created_at=self.created_at,
            updated_at=self.updated_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            attempt=self.attempt_count,
            output=output,
            error=normalize_error(self.error),
            complete=complete,
            version=self.version,
        )


def read_run(body: Any) -> RunBody:
    """Return the run in a reply.

    Raises:
        UnknownOutcomeError: the reply is no run.
    """
    try:
        return RunBody.model_validate(body)
    except ValidationError as error:
        places = ", ".join(".".join(map(str, each["loc"])) or "body" for each in error.errors())
        raise UnknownOutcomeError(f"The reply is no run; look at: {places}.") from None


def words_for(statuses: Iterable[JobStatus]) -> list[str]:
    """Return the API's words for ours, sorted. PENDING is shown there as QUEUED."""
    wanted = {JobStatus.QUEUED if status is JobStatus.PENDING else status for status in statuses}
    return sorted(word for word, status in STATUSES.items() if status in wanted)


def normalize_error(error: Any) -> dict[str, Any] | None:
    """Return a remote error as ``{"name", "message", "stack"?}``, None for none.

    Reads the API's shape and the engine's four kinds (contract, 7.8), which alerts carry.
    """
    if error is None:
        return None
    if not isinstance(error, dict):
        return {"name": "Error", "message": str(error)}
    fields = cast("dict[str, Any]", error)
    name = fields.get("name") or fields.get("code") or "Error"
    message = fields.get("message") or fields.get("raw") or fields.get("code") or ""
    stack = fields.get("stackTrace") or fields.get("stack")
    normal = {"name": str(name), "message": str(message)}
    return normal | {"stack": str(stack)} if stack else normal
