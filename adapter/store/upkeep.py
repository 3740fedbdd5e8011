"""Moves that no worker and no remote asks for: due, expired, runnable again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from adapter.domain.job import Job
from adapter.store.database import Connection, Schema, fetch
from adapter.store.finishing import ending
from adapter.store.rows import job_from_row

_PROMOTE: LiteralString = """
WITH due AS MATERIALIZED (
  SELECT id FROM {s}.worker_jobs_open
  WHERE status = 'DELAYED' AND due <= now()
    AND (executor = 'local' OR submit_state = 'never')
  ORDER BY due LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE {s}.worker_jobs_open o SET
  status = CASE WHEN executor = 'local' THEN 'QUEUED' ELSE 'PENDING' END,
  next_try_at = CASE WHEN executor <> 'local' THEN now() END,
  seq = nextval('{s}.worker_jobs_seq'), updated_at = now()
FROM due WHERE o.id = due.id
RETURNING o.queue, o.executor
"""

#: Seconds until the next delayed job is due (negative: overdue), null without one.
NEXT_DUE: LiteralString = """
SELECT extract(epoch FROM min(due) - now())::float8
FROM {s}.worker_jobs_open WHERE status = 'DELAYED' AND (executor = 'local' OR submit_state = 'never')
"""

HAS_EXPIRED: LiteralString = """expires_at <= now() AND started IS NULL
    AND status IN ('DELAYED', 'PENDING', 'QUEUED', 'WAITING')
    AND (executor = 'local' OR executor IS NULL OR (submit_state = 'never' AND dispatch_lease IS NULL))"""
_EXPIRE: LiteralString = (
    """
WITH late AS MATERIALIZED (
  SELECT id FROM {s}.worker_jobs_open
  WHERE """
    + HAS_EXPIRED
    + """
  ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM {s}.worker_jobs_open o USING late WHERE o.id = late.id RETURNING o.*
)"""
    + ending("'EXPIRED'", name="Expired", message="The time to live was over before it started.")
)

_ADMIT: LiteralString = """
UPDATE {s}.worker_jobs_open SET status = 'QUEUED', waiting_for = NULL,
  seq = nextval('{s}.worker_jobs_seq'), updated_at = now()
WHERE id IN (
  SELECT id FROM {s}.worker_jobs_open
  WHERE status = 'WAITING' AND waiting_for = 'executor' AND executor = 'local' AND type = ANY(%(tasks)s)
  ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING queue
"""


@dataclass(frozen=True, slots=True)
class Promoted:
    """What became ready: queues of local jobs, and whether remote ones wait for the dispatcher."""

    queues: frozenset[str] = frozenset()
    remote: bool = False
    count: int = 0


async def promote(conn: Connection, schema: Schema, limit: int = 1000) -> Promoted:
    """Make jobs ready whose time has come. A job that a remote holds is moved by the remote alone."""
    rows = await fetch(conn, schema, _PROMOTE, {"limit": limit})
    queues = frozenset(row["queue"] for row in rows if row["executor"] == "local")
    return Promoted(queues, any(row["executor"] != "local" for row in rows), len(rows))


async def expire(conn: Connection, schema: Schema, limit: int = 500) -> list[Job]:
    """End jobs whose time to live is over and that nobody was ever given."""
    return [job_from_row(row) for row in await fetch(conn, schema, _EXPIRE, {"limit": limit})]


async def admit(conn: Connection, schema: Schema, tasks: Sequence[str], limit: int = 1000) -> frozenset[str]:
    """Make jobs ready that waited for a worker with one of ``tasks``; returns their queues."""
    rows = await fetch(conn, schema, _ADMIT, {"tasks": list(tasks), "limit": limit})
    return frozenset(row["queue"] for row in rows)
