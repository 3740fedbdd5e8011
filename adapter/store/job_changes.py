"""What people change of jobs that are there: when they are due, their tags, their metadata, who holds a key.

Every write names what it may be done to; a row that is read first is locked until the write.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from adapter.domain.job import Job
from adapter.store.database import Connection, Schema, fetch
from adapter.store.inserting import UNSTARTED
from adapter.store.rows import job_from_row

#: Its time to live begins when it is due, so it moves along.
_RESCHEDULE: LiteralString = (
    """
WITH moved AS (
  UPDATE {s}.worker_jobs_open o SET due = n.due, expires_at = o.expires_at + (n.due - COALESCE(o.due, now())),
    updated_at = now()
  FROM (SELECT COALESCE(%(due)s::timestamptz, now() + %(delay)s::interval) AS due) AS n
  WHERE o.id = %(id)s AND o.status = 'DELAYED' AND """
    + UNSTARTED
    + """ RETURNING o.*
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, actor, detail)
  SELECT id, epoch, 'rescheduled', %(actor)s, jsonb_build_object('due', due) FROM moved
)
SELECT * FROM moved
"""
)

#: In the order of ids, as every statement that locks more than one.
_LOCK_OPEN: LiteralString = """
SELECT *, true AS fresh FROM {s}.worker_jobs_open WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE
"""
_LOCK_FINISHED: LiteralString = """
SELECT *, finished > now() - interval '1 hour' AS fresh FROM {s}.worker_jobs_finished
WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE
"""

_TAG_OPEN: LiteralString = """
UPDATE {s}.worker_jobs_open SET tags = %(tags)s, updated_at = now() WHERE id = %(id)s
"""
_TAG_FINISHED: LiteralString = """
UPDATE {s}.worker_jobs_finished SET tags = %(tags)s, updated_at = now() WHERE id = %(id)s
"""
_DESCRIBE_OPEN: LiteralString = """
UPDATE {s}.worker_jobs_open SET metadata = %(metadata)s::jsonb, updated_at = now() WHERE id = %(id)s
"""
_DESCRIBE_FINISHED: LiteralString = """
UPDATE {s}.worker_jobs_finished SET metadata = %(metadata)s::jsonb, updated_at = now() WHERE id = %(id)s
"""

_ONCE: LiteralString = """
INSERT INTO {s}.job_keys AS k (task, key, job_id, expires_at)
VALUES (%(task)s, 'call:' || %(call)s, %(id)s, now() + interval '24 hours')
ON CONFLICT (task, key) DO UPDATE SET job_id = EXCLUDED.job_id, expires_at = EXCLUDED.expires_at
WHERE k.expires_at <= now() RETURNING k.job_id
"""

#: Said again under the same name, it answers what it did.
_RESET_KEY: LiteralString = """
WITH before AS (
  SELECT job_id FROM {s}.job_keys WHERE task = %(task)s AND key = 'call:' || %(call)s AND expires_at > now()
), freed AS (
  DELETE FROM {s}.job_keys k WHERE k.task = %(task)s AND k.key = 'key:' || %(key)s
    AND NOT EXISTS (SELECT FROM before) RETURNING k.job_id, k.expires_at
), called AS (
  INSERT INTO {s}.job_keys AS k (task, key, job_id, expires_at)
  SELECT %(task)s, 'call:' || %(call)s, job_id, now() + interval '24 hours' FROM freed WHERE %(call)s::text IS NOT NULL
  ON CONFLICT (task, key) DO UPDATE SET job_id = EXCLUDED.job_id, expires_at = EXCLUDED.expires_at
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, actor)
  SELECT f.job_id, j.epoch, 'key_reset', %(actor)s FROM freed f JOIN {s}.worker_jobs j ON j.id = f.job_id
)
SELECT job_id FROM freed WHERE expires_at > now() UNION ALL SELECT job_id FROM before
"""


@dataclass(frozen=True, slots=True)
class Locked:
    """A job whose row is locked. ``is_fresh``: it is open, or has ended within the last hour."""

    job: Job
    is_fresh: bool


async def reschedule(
    conn: Connection,
    schema: Schema,
    job_id: UUID,
    *,
    due: datetime | None,
    delay: timedelta | None,
    actor: str,
) -> Job | None:
    """Let a delayed job be due at another time; None when it is not delayed here, or no more."""
    parameters = {"id": job_id, "due": due, "delay": delay, "actor": actor}
    rows = await fetch(conn, schema, _RESCHEDULE, parameters)
    return job_from_row(rows[0]) if rows else None


async def lock(conn: Connection, schema: Schema, job_ids: Iterable[UUID]) -> dict[UUID, Locked]:
    """Lock the rows of these jobs, open or finished; belongs into a transaction. Two statements, in this order."""
    wanted = list(job_ids)
    rows = list(await fetch(conn, schema, _LOCK_OPEN, {"ids": wanted}))
    left = set(wanted) - {row["id"] for row in rows}
    if left:
        rows += await fetch(conn, schema, _LOCK_FINISHED, {"ids": list(left)})
    return {row["id"]: Locked(job_from_row(row), row["fresh"]) for row in rows}


async def set_tags(conn: Connection, schema: Schema, job: Job, tags: Sequence[str]) -> None:
    """Write the tags of a locked job."""
    statement = _TAG_FINISHED if job.status.is_terminal else _TAG_OPEN
    await fetch(conn, schema, statement, {"id": job.id, "tags": list(tags)})


async def set_metadata(conn: Connection, schema: Schema, job: Job, metadata: dict[str, Any]) -> None:
    """Write the metadata of a locked job."""
    statement = _DESCRIBE_FINISHED if job.status.is_terminal else _DESCRIBE_OPEN
    text = json.dumps(metadata, allow_nan=False, separators=(",", ":"))
    await fetch(conn, schema, statement, {"id": job.id, "metadata": text})


async def first_time(conn: Connection, schema: Schema, job: Job, call: str) -> bool:
    """Whether a call of that name was not made of this task in the last 24 hours; from now on it was."""
    return bool(await fetch(conn, schema, _ONCE, {"task": job.type, "call": call, "id": job.id}))


async def reset_key(
    conn: Connection, schema: Schema, task: str, key: str, *, call: str | None, actor: str
) -> UUID | None:
    """Take an idempotency key from the job that holds it; returns that job, None when nobody does."""
    parameters = {"task": task, "key": key, "call": call, "actor": actor}
    rows = await fetch(conn, schema, _RESET_KEY, parameters)
    return rows[0]["job_id"] if rows else None
