"""What the watchers of a process read: which of their jobs have changed, and which jobs are new to them.

The state of a job is named by when it was written, ``updated_at`` in microseconds: every write sets it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import LiteralString
from uuid import UUID

from psycopg.rows import DictRow

from adapter.domain.job import Job
from adapter.domain.shadow import SHADOW_OF
from adapter.store.database import Connection, Schema, fetch

#: The most jobs that are read of one tag or batch, the newest of each table.
MOST_MEMBERS = 1000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WRITTEN: LiteralString = "(extract(epoch FROM updated_at) * 1000000)::bigint AS written"
_NO_SHADOW: LiteralString = "(extra IS NULL OR NOT extra ? '" + SHADOW_OF + "')"

#: By one probe of the primary key for each job, however large the table: a join might read all of it.
_CHANGED: LiteralString = (
    """
SELECT w.id, o.written FROM unnest(%(ids)s::uuid[], %(seen)s::bigint[]) AS w(id, seen)
LEFT JOIN LATERAL (SELECT """
    + _WRITTEN
    + """ FROM {s}.worker_jobs_open WHERE id = w.id LIMIT 1) AS o ON true
WHERE o.written IS DISTINCT FROM w.seen
"""
)
_ENDED: LiteralString = "SELECT id, " + _WRITTEN + " FROM {s}.worker_jobs_finished WHERE id = ANY(%(ids)s)"

_SEEN: LiteralString = (
    "SELECT id, tags, batch_id, created_at, "
    + _WRITTEN
    + ", {open} AS is_open FROM {table} WHERE "
    + _NO_SHADOW
)
_OPEN: LiteralString = _SEEN.replace("{open}", "true").replace("{table}", "{s}.worker_jobs_open")
_FINISHED: LiteralString = _SEEN.replace("{open}", "false").replace("{table}", "{s}.worker_jobs_finished")

_BY_TAG: LiteralString = " AND tags && %(tags)s::text[]"
_BY_BATCH: LiteralString = " AND batch_id = ANY(%(batches)s::uuid[])"
_JUST_WRITTEN: LiteralString = " AND updated_at >= now() - %(within)s"
_JUST_MADE: LiteralString = " AND created_at >= now() - %(within)s"

_NEWEST: LiteralString = " ORDER BY created_at DESC LIMIT %(most)s"
_TAGGED: LiteralString = " AND tags @> %(tags)s::text[] AND created_at >= %(created_from)s" + _NEWEST
_BATCHED: LiteralString = " AND batch_id = %(batch_id)s" + _NEWEST


@dataclass(frozen=True, slots=True)
class Version:
    """A state of a job. ``written``: microseconds since 1970."""

    job_id: UUID
    written: int
    is_open: bool


@dataclass(frozen=True, slots=True)
class Sighting:
    """A version, with what decides who is interested."""

    version: Version
    tags: frozenset[str]
    batch_id: UUID | None
    created_at: datetime


def version_of(job: Job) -> Version:
    """Return which state of the job this is."""
    written = (job.updated_at - _EPOCH) // timedelta(microseconds=1)
    return Version(job.id, written, not job.status.is_terminal)


async def changed(
    conn: Connection, schema: Schema, seen: Mapping[UUID, int]
) -> tuple[list[Version], list[UUID]]:
    """Return the open jobs of ``seen`` that are in another state by now, and those that are there no more."""
    if not seen:
        return [], []
    rows = await fetch(conn, schema, _CHANGED, {"ids": list(seen), "seen": list(seen.values())})
    found = [Version(row["id"], row["written"], True) for row in rows if row["written"] is not None]
    left = {row["id"] for row in rows if row["written"] is None}
    if left:
        # Only now, in a statement of its own: a job that moves is seen in neither table by one that reads both.
        for row in await fetch(conn, schema, _ENDED, {"ids": list(left)}):
            found.append(Version(row["id"], row["written"], False))
            left.discard(row["id"])
    return found, list(left)


async def newcomers(
    conn: Connection, schema: Schema, tags: Collection[str], batches: Collection[UUID], within: timedelta
) -> list[Sighting]:
    """Return the jobs with any of these tags or batches that were written, or made and ended, ``within``."""
    parameters = {"tags": list(tags), "batches": list(batches), "within": within}
    found: list[Sighting] = []
    if tags:
        found += _sightings(await fetch(conn, schema, _OPEN + _BY_TAG + _JUST_WRITTEN, parameters))
        found += _sightings(await fetch(conn, schema, _FINISHED + _BY_TAG + _JUST_MADE, parameters))
    if batches:
        found += _sightings(await fetch(conn, schema, _OPEN + _BY_BATCH + _JUST_WRITTEN, parameters))
        found += _sightings(await fetch(conn, schema, _FINISHED + _BY_BATCH + _JUST_MADE, parameters))
    return found


async def tagged(
    conn: Connection, schema: Schema, tags: Collection[str], created_from: datetime
) -> list[Sighting]:
    """Return the newest jobs that carry all of these tags and are not older."""
    parameters = {"tags": list(tags), "created_from": created_from, "most": MOST_MEMBERS}
    return [
        *_sightings(await fetch(conn, schema, _OPEN + _TAGGED, parameters)),
        *_sightings(await fetch(conn, schema, _FINISHED + _TAGGED, parameters)),
    ]


async def batched(conn: Connection, schema: Schema, batch_id: UUID) -> list[Sighting]:
    """Return the jobs of a batch."""
    parameters = {"batch_id": batch_id, "most": MOST_MEMBERS}
    return [
        *_sightings(await fetch(conn, schema, _OPEN + _BATCHED, parameters)),
        *_sightings(await fetch(conn, schema, _FINISHED + _BATCHED, parameters)),
    ]


def _sightings(rows: Sequence[DictRow]) -> list[Sighting]:
    return [
        Sighting(
            Version(row["id"], row["written"], row["is_open"]),
            frozenset(row["tags"] or ()),
            row["batch_id"],
            row["created_at"],
        )
        for row in rows
    ]
