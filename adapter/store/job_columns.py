"""Which columns a call writes: once, where all its jobs ask for the same, and as one array each where they differ.

All values travel as text, which PostgreSQL casts; a column that no job has is not named, so it gets its
default (docs/decisions/0012-one-insert-of-the-columns-that-occur.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from adapter.domain.job import LOCAL, JobStatus, NewJob, Terms
from adapter.store.parameters import array, binary_array


@dataclass(frozen=True, slots=True)
class Column:
    """A column, its type, how terms give its text (None: as by default), and that default in SQL."""

    name: str
    kind: str
    text: Callable[[Terms], str | None]
    default: str = "NULL"


def _json(value: Any) -> str | None:
    return json.dumps(value, allow_nan=False, separators=(",", ":")) if value else None


def _seconds(duration: timedelta | None) -> str | None:
    return None if duration is None else f"{duration.total_seconds():.6f} seconds"


def _uuid(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def _unless(value: int, default: int) -> str | None:
    return None if value == default else str(value)


def _early(job: NewJob) -> str | None:
    terms = job.terms
    if terms.due is None and terms.delay is None:
        return None
    held_there = job.executor != LOCAL and "remote_delay" in terms.extra
    return job.status.value if held_there else JobStatus.DELAYED.value


def _by_job(_terms: Terms) -> None:
    """Stand for what each job has of its own."""


#: What a job keeps for life.
_STORED = (
    Column("id", "uuid", _by_job),
    Column("type", "text", lambda terms: terms.type),
    Column("data", "jsonb", _by_job),
    Column("executor", "text", _by_job),
    Column("route_reason", "text", _by_job),
    Column("queue", "text", lambda terms: terms.queue),
    Column("tag", "text", lambda terms: terms.tag),
    Column("user_id", "text", lambda terms: terms.user_id),
    Column("concurrency_key", "text", lambda terms: terms.concurrency_key),
    Column("priority", "int", lambda terms: _unless(terms.priority, 0), "0"),
    Column("max_duration", "interval", lambda terms: _seconds(terms.max_duration)),
    Column("max_attempts", "int", lambda terms: _unless(terms.max_attempts, 3), "3"),
    Column("retry", "jsonb", lambda terms: _json(terms.retry)),
    Column("metadata", "jsonb", lambda terms: _json(terms.metadata)),
    Column("tags", "text[]", lambda terms: array(terms.tags) if terms.tags else None),
    Column("idempotency_key", "text", lambda terms: terms.idempotency_key),
    Column("parent_id", "uuid", lambda terms: _uuid(terms.parent_id)),
    Column("root_id", "uuid", lambda terms: _uuid(terms.root_id)),
    Column("batch_id", "uuid", lambda terms: _uuid(terms.batch_id)),
    Column("schedule_id", "uuid", lambda terms: _uuid(terms.schedule_id)),
    Column("persistent", "boolean", lambda terms: "true" if terms.persistent else None, "false"),
    Column("keep_for", "interval", lambda terms: _seconds(terms.keep_for)),
    Column("keep_failed_for", "interval", lambda terms: _seconds(terms.keep_failed_for)),
    Column(
        "remove_at", "timestamptz", lambda terms: terms.remove_at.isoformat() if terms.remove_at else None
    ),
    Column("extra", "jsonb", lambda terms: _json(terms.extra)),
)
#: What others are computed from.
_ASKED = (
    Column("status", "text", _by_job),
    Column("due", "timestamptz", lambda terms: terms.due.isoformat() if terms.due else None),
    Column("delay", "interval", lambda terms: _seconds(terms.delay)),
    Column("ttl", "interval", lambda terms: _seconds(terms.ttl)),
    # What it is until it is due; a remote may hold it itself.
    Column("early", "text", _by_job),
    Column(
        "idempotency_ttl",
        "interval",
        lambda terms: _seconds(terms.idempotency_ttl) if terms.idempotency_key else None,
    ),
    Column("request_key", "text", lambda terms: terms.request_key),
    Column("throttle_key", "text", lambda terms: terms.throttle_key),
    Column("throttle", "interval", lambda terms: _seconds(terms.throttle)),
)
_OF_TERMS = tuple(column for column in (*_STORED, *_ASKED) if column.text is not _by_job)
DEFAULTS = {column.name: column.default for column in _STORED}
#: PostgreSQL reads an id of an array of ids, and casts one of an array of texts.
_ARRAYS = {"id": "uuid[]"}
#: The oids of types.
_UUID, _TEXT = 2950, 25


@dataclass(frozen=True, slots=True)
class Shape:
    """Which columns occur in a call, and how; two calls of one shape are one prepared statement."""

    same: tuple[str, ...]
    varying: tuple[str, ...]
    remote: bool
    waiting: bool
    replaces: bool
    #: Only their number is wanted: all are in, or none.
    counted: bool

    def __contains__(self, name: str) -> bool:
        return name in self.same or name in self.varying


#: The texts of terms that many jobs share, or that one caller uses again and again.
_TEXTS: WeakKeyDictionary[Terms, dict[str, str]] = WeakKeyDictionary()


def _texts(terms: Terms) -> dict[str, str]:
    texts = _TEXTS.get(terms)
    if texts is None:
        texts = {}
        for column in _OF_TERMS:
            text = column.text(terms)
            if text is not None:
                texts[column.name] = text
        _TEXTS[terms] = texts
    return texts


def _texts_of(job: NewJob) -> dict[str, str]:
    """Return what every column of a job gets but its id and payload."""
    texts = _texts(job.terms) | {
        "executor": job.executor,
        "route_reason": job.route_reason,
        "status": job.status.value,
    }
    early = _early(job)
    return texts if early is None else texts | {"early": early}


def shaped(jobs: Sequence[NewJob], *, counted: bool) -> tuple[Shape, dict[str, Any]]:
    """Return how these jobs are written, and the parameters."""
    first = jobs[0]
    # Where all are alike, the first stands for all.
    kinds = jobs
    parameters: dict[str, Any]
    varying: list[str] = []
    if len(jobs) == 1:
        parameters = {"id": str(first.id), "data": first.payload, **_texts_of(first)}
    else:
        if all(
            job.terms is first.terms
            and job.executor == first.executor
            and job.status is first.status
            and job.route_reason == first.route_reason
            for job in jobs
        ):
            parameters, kinds = dict(_texts_of(first)), (first,)
        else:
            parameters = _columns_of([_texts_of(job) for job in jobs])
            varying += parameters
        varying += ["id", "data"]
        parameters["id"] = "{" + ",".join([str(job.id) for job in jobs]) + "}"
        parameters["data"] = array([job.payload for job in jobs])
    shape = Shape(
        tuple(name for name in parameters if name not in varying) if varying else tuple(parameters),
        tuple(varying),
        remote=any(job.executor != LOCAL for job in kinds),
        waiting=any(job.status is JobStatus.WAITING for job in kinds),
        replaces=any(job.terms.on_conflict == "replace" for job in kinds),
        counted=counted,
    )
    return shape, parameters


def shaped_alike(
    like: NewJob, ids: Sequence[bytes], payloads: Sequence[bytes]
) -> tuple[Shape, dict[str, Any]]:
    """Return how plain jobs are written that differ from this one in nothing but id and payload, and the parameters."""
    parameters: dict[str, Any] = dict(_texts_of(like))
    shape = Shape(
        tuple(parameters),
        ("id", "data"),
        remote=like.executor != LOCAL,
        waiting=like.status is JobStatus.WAITING,
        replaces=False,
        counted=True,
    )
    parameters["id"] = binary_array(_UUID, ids)
    parameters["data"] = binary_array(_TEXT, payloads)
    return shape, parameters


def _columns_of(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the columns of rows as arrays. Values that are the same in all stay so: fewer kinds of statements."""
    names = sorted({name for row in rows for name in row})
    return {name: array([row.get(name) for row in rows]) for name in names}


def source(shape: Shape, *, with_keys: bool) -> dict[str, str]:
    """Return the SELECT list that makes the rows: column to expression."""
    kinds = {column.name: column for column in (*_STORED, *_ASKED)}

    def value(name: str) -> str:
        column = kinds[name]
        if name in shape.same:
            return f"%({name})s::{column.kind}"
        if name not in shape.varying:
            return f"{column.default}::{column.kind}"
        read = f"u.{name}::{column.kind}"
        return read if column.default == "NULL" else f"COALESCE({read}, {column.default})"

    columns = {name: value(name) for name in (each.name for each in _STORED) if name in shape}
    due = f"COALESCE({value('due')}, now() + {value('delay')})"
    timed = "due" in shape or "delay" in shape
    status = value("status")
    if timed:
        status = f"CASE WHEN {due} > now() THEN {value('early')} ELSE {status} END"
        columns["due"] = due
    columns["status"] = status
    if "ttl" in shape:
        columns["expires_at"] = (f"COALESCE({due}, now())" if timed else "now()") + f" + {value('ttl')}"
    if shape.waiting:
        columns["waiting_for"] = f"CASE WHEN ({status}) = 'WAITING' THEN 'executor' END"
    if "tag" in shape:
        columns["tag_held"] = f"{value('tag')} IS NOT NULL"
    if shape.remote:
        columns["next_try_at"] = f"CASE WHEN {value('executor')} <> 'local' THEN now() END"
    if with_keys:
        for name in ("idempotency_ttl", "request_key", "throttle_key", "throttle"):
            if name in shape:
                columns[name] = value(name)
    return columns


def from_(shape: Shape) -> str:
    """Return where the rows come from: nowhere, once the flags are no longer those of ``flags_version``."""
    rows = ""
    if shape.varying:
        arrays = ", ".join(f"%({name})s::{_ARRAYS.get(name, 'text[]')}" for name in shape.varying)
        rows = f", unnest({arrays}) AS u({', '.join(shape.varying)})"
    return f"FROM {{s}}.flags_state f{rows} WHERE f.version = %(flags_version)s"


def selected(columns: Mapping[str, str]) -> str:
    """Return the columns as a SELECT list."""
    return ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
