"""Jobs as rows of Electric shapes, as Trigger.dev's realtime client reads them (its API contract, 3.2 and 14).

A shape's handle says what it is a shape of, and an offset which states of its rows the client has. Neither needs
memory here: any process answers any of them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from adapter.domain.identity import run_id_of
from adapter.domain.job import Job, JobStatus
from adapter.domain.wire import moment
from adapter.web.errors import bad_query
from adapter.web.trigger_api.results import run_error
from adapter.web.trigger_api.wire import run_summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: What the API's words are called in rows; the rest is the same. The client knows no others: it shows any other
#: word as QUEUED, the API's own among them.
_NAMES = {
    "QUEUED": "PENDING",
    "WAITING": "WAITING_TO_RESUME",
    "COMPLETED": "COMPLETED_SUCCESSFULLY",
    "FAILED": "COMPLETED_WITH_ERRORS",
}
#: Without these the client's own check fails.
_ALWAYS = frozenset({"id", "friendlyId", "taskIdentifier", "status", "createdAt", "updatedAt"})
_JSON = "application/json"

#: What a client asks for that has nothing yet.
FROM_THE_START = "-1"
_OFFSET = re.compile(r"-1|[0-9]{1,16}_[0-9]{1,16}")
_HANDLE = re.compile(r"([0-9a-f]{16})-([0-9]{1,11})")

UP_TO_DATE: dict[str, Any] = {"headers": {"control": "up-to-date"}}
MUST_REFETCH: dict[str, Any] = {"headers": {"control": "must-refetch"}}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request says: the offset and handle the client has, and whether it is to be held for news."""

    offset: str
    handle: str | None
    live: bool
    hidden: frozenset[str]


def read_ask(params: Mapping[str, str], hidden: Iterable[str] = ()) -> Ask:
    """Read the protocol's part of a query. ``hidden``: columns the caller may not see.

    Raises:
        ApiError: 400, for an offset that is none.
    """
    offset = params.get("offset", FROM_THE_START)
    if not _OFFSET.fullmatch(offset):
        raise bad_query("offset is neither -1 nor one of ours")
    skipped = {name for name in params.get("skipColumns", "").split(",") if name}
    return Ask(
        offset=offset,
        handle=params.get("handle"),
        live=params.get("live") == "true",
        hidden=frozenset({*skipped, *hidden} - _ALWAYS),
    )


def handle_of(what: str, ask: Ask, since: int = 0) -> str:
    """Return the handle of a shape: ``what`` it is of, without which columns, ``since`` when (unix seconds)."""
    text = json.dumps([what, sorted(ask.hidden), since])
    return f"{sha256(text.encode()).hexdigest()[:16]}-{since}"


def since_of(handle: str | None) -> int | None:
    """Return what a handle says of its ``since``, None when it cannot be one of ours."""
    found = _HANDLE.fullmatch(handle or "")
    return int(found[2]) if found else None


def change(job: Job, ask: Ask, *, is_new: bool) -> dict[str, Any]:
    """Return the message that brings the client a job's row. It is whole either way."""
    return {
        "key": f'"public"."TaskRun"/"{job.id}"',
        "value": run_row(job, ask.hidden),
        "headers": {"operation": "insert" if is_new else "update"},
    }


def run_row(job: Job, hidden: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return a job's row; what is absent is null, so that a client that merges forgets it."""
    summary, ended = run_summary(job), job.finished
    row: dict[str, Any] = {
        "id": str(job.id),
        "friendlyId": run_id_of(job.id),
        "taskIdentifier": job.type,
        "status": _NAMES.get(summary["status"], summary["status"]),
        "createdAt": _moment(job.created_at),
        "updatedAt": _moment(job.updated_at),
        "startedAt": _moment(job.started),
        "delayUntil": _moment(job.due),
        "queuedAt": _moment(job.due if job.due and job.status is not JobStatus.DELAYED else job.created_at),
        "expiredAt": _moment(ended if job.status is JobStatus.EXPIRED else None),
        "completedAt": _moment(ended),
        "idempotencyKey": summary.get("idempotencyKey"),
        "number": 0,
        "isTest": summary["isTest"],
        "usageDurationMs": summary["durationMs"],
        "costInCents": 0,
        "baseCostInCents": 0,
        "ttl": summary.get("ttl"),
        "payload": _json(job.data),
        "payloadType": _JSON,
        "output": _json(job.result) if job.status is JobStatus.COMPLETED else None,
        "outputType": _JSON,
        "metadata": _json(job.metadata),
        "metadataType": _JSON,
        "runTags": sorted(job.tags),
        "error": run_error(job) if ended and job.status is not JobStatus.COMPLETED else None,
        "realtimeStreams": [],
    }
    return {name: value for name, value in row.items() if name not in hidden}


def _moment(at: datetime | None) -> str | None:
    """Without the Z: the client appends one."""
    return None if at is None else moment(at.astimezone(UTC)).removesuffix("Z")


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
