"""Reading what webhooks tell of runs: from three wire shapes to one neutral event.

- Ours, sent by the hooks and by the engine of this adapter::

      {"type": "RUN_COMPLETED", "timestamp": "…",
       "data": {"source": "hook", "run": {"id": "run_…", …}, "job": {"id": "…", "epoch": 1}}}

- The seed guide's: ``type`` or ``event``, and ``run`` at the top or under ``data`` or ``payload``.
- Trigger.dev's alerts (its API contract, 15.2). Only ``alert.run.failed`` says something of a run.

A body is read only after its signature was verified.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from adapter.domain.errors import MalformedEventError
from adapter.domain.identity import parse_epoch_tag
from adapter.domain.job import JobStatus
from adapter.domain.outcome import Authority, RemoteReport
from adapter.executors.trigger_runs import normalize_error

if TYPE_CHECKING:
    from collections.abc import Mapping

_FAILURES = frozenset(
    {
        JobStatus.FAILED,
        JobStatus.CRASHED,
        JobStatus.SYSTEM_FAILURE,
        JobStatus.TIMED_OUT,
        JobStatus.EXPIRED,
    }
)
#: What each type may say; the first is meant when the run's own status says nothing of the kind.
_LIFECYCLE: dict[str, tuple[JobStatus, frozenset[JobStatus]]] = {
    "RUN_STARTED": (JobStatus.EXECUTING, frozenset({JobStatus.EXECUTING})),
    "RUN_COMPLETED": (JobStatus.COMPLETED, frozenset({JobStatus.COMPLETED})),
    "RUN_FAILED": (JobStatus.FAILED, _FAILURES),
    "RUN_CANCELED": (JobStatus.CANCELED, frozenset({JobStatus.CANCELED})),
}
_ALERT_RUN_FAILED = "alert.run.failed"
_ALERT_PREFIX = "alert."
_LARGEST_EPOCH = 2**31 - 1

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteEvent:
    """One event about one run. ``job`` is (job id, epoch) when the event names them."""

    type: str
    task: str | None
    job: tuple[UUID, int] | None
    report: RemoteReport


def parse_event(body: Mapping[str, Any]) -> RemoteEvent | None:
    """Read a verified body; None for an event that is accepted and says nothing of a run.

    Raises:
        MalformedEventError: it names no known type, or its fields cannot be read.
    """
    kind = body.get("type") or body.get("event")
    if not isinstance(kind, str):
        raise MalformedEventError("The event has no type.")
    if kind == _ALERT_RUN_FAILED:
        return _alert(_validated(_Alert, body))
    if kind.startswith(_ALERT_PREFIX):
        return None
    if kind not in _LIFECYCLE:
        raise MalformedEventError(f"The event's type is not known: {kind[:80]!r}.")
    return _lifecycle(kind, body)


def _aware(moment: datetime) -> datetime:
    """A time without a zone is UTC: other people's guides write them so."""
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("out of range") from error


_Moment = Annotated[datetime, AfterValidator(_aware)]
_Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f]+$")]


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class _JobRef(_Wire):
    id: UUID
    epoch: int = Field(ge=0, le=_LARGEST_EPOCH)


class _Run(_Wire):
    id: _Name
    status: str | None = Field(default=None, max_length=64)
    task_identifier: str | None = None
    attempt: int | None = Field(default=None, ge=0, le=10_000)
    tags: list[str] = []
    started_at: _Moment | None = None
    finished_at: _Moment | None = None
    completed_at: _Moment | None = None
    updated_at: _Moment | None = None
    output: Any = None
    #: True when the output was too large to be sent: it has to be fetched.
    output_omitted: bool = False
    error: Any = None


class _Lifecycle(_Wire):
    timestamp: _Moment | None = None
    source: Literal["hook", "engine"] = "hook"
    run: _Run
    job: _JobRef | None = None


class _AlertTask(_Wire):
    id: str


class _AlertObject(_Wire):
    task: _AlertTask | None = None
    run: _Run


class _Alert(_Wire):
    created: _Moment | None = None
    object: _AlertObject


def _lifecycle(kind: str, body: Mapping[str, Any]) -> RemoteEvent:
    flat: dict[str, Any] = {key: body[key] for key in ("timestamp", "source", "run", "job") if key in body}
    for wrapper in ("payload", "data"):
        if isinstance(body.get(wrapper), dict):
            # What is wrapped wins over what stands beside the wrapper.
            flat |= cast("dict[str, Any]", body[wrapper])
    event = _validated(_Lifecycle, flat)
    run = event.run
    usual, allowed = _LIFECYCLE[kind]
    status = JobStatus(run.status) if run.status in allowed else usual
    engine = event.source == "engine"
    # An output that is not here has to be fetched, which is what a hook's word leads to.
    believed = engine and not run.output_omitted
    return RemoteEvent(
        type=kind,
        task=run.task_identifier,
        job=(event.job.id, event.job.epoch) if event.job else _from_tags(run.tags),
        report=RemoteReport(
            run_id=run.id,
            status=status,
            remote_status=run.status or status.value,
            authority=Authority.ENGINE if believed else Authority.HOOK,
            # A hook's copy of the run may be older than the moment it speaks of.
            at=(run.updated_at or event.timestamp) if engine else (event.timestamp or run.updated_at),
            attempt=run.attempt or None,
            started=_started(status, run) if engine else True,
            output=run.output if status is JobStatus.COMPLETED else None,
            error=None if status is JobStatus.COMPLETED else normalize_error(run.error),
        ),
    )


def _started(status: JobStatus, run: _Run) -> bool | None:
    """Whether user code ever began, as far as an engine's event says."""
    if status in {JobStatus.EXECUTING, JobStatus.COMPLETED} or run.started_at is not None or run.attempt:
        return True
    return False if run.attempt == 0 else None


def _alert(alert: _Alert) -> RemoteEvent:
    run = alert.object.run
    # Upstream alerts for FAILED, CRASHED, SYSTEM_FAILURE and TIMED_OUT; any other word is a new one.
    status = JobStatus(run.status) if run.status in _FAILURES else JobStatus.FAILED
    return RemoteEvent(
        type=_ALERT_RUN_FAILED,
        task=alert.object.task.id if alert.object.task else None,
        job=_from_tags(run.tags),
        report=RemoteReport(
            run_id=run.id,
            status=status,
            remote_status=run.status or status.value,
            authority=Authority.ENGINE,
            at=run.completed_at or alert.created,
            started=True if run.started_at else None,
            error=normalize_error(run.error),
        ),
    )


def _from_tags(tags: list[str]) -> tuple[UUID, int] | None:
    found = {parsed for tag in tags if (parsed := parse_epoch_tag(tag)) and parsed[1] <= _LARGEST_EPOCH}
    # Two different ones would be somebody's mistake; guessing would bind the wrong job.
    return found.pop() if len(found) == 1 else None


def _validated(model: type[_Model], value: Any) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        places = sorted({".".join(map(str, problem["loc"])) for problem in error.errors()})
        raise MalformedEventError(f"The event cannot be read: {', '.join(places)[:200]}.") from None
