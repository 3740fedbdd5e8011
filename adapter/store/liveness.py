"""Who is alive: heartbeats, the lock that shortens the wait after a kill, and what a judge sees of both.

A worker on a direct connection holds a session advisory lock, which PostgreSQL lets go when the process
dies. A judge only looks: it never takes the lock, so it can never stand in its holder's way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString
from uuid import UUID

from adapter.store.database import Connection, Schema, fetch

#: Local jobs in a worker's hands: running, or waiting in its memory for children or tokens.
HELD: LiteralString = """(o.status = 'EXECUTING'
    OR o.status = 'WAITING' AND o.waiting_for IN ('children', 'token') AND o.worker_id IS NOT NULL) AND o.executor = 'local'"""

#: One statement per beat: alive, by which lock that can be seen, and which of my jobs somebody wants canceled.
BEAT: LiteralString = """
WITH alive AS (
  UPDATE {s}.workers SET seen_at = now(), lock_key = %(lock_key)s::bigint,
    backend_pid = CASE WHEN %(lock_key)s::bigint IS NOT NULL THEN pg_backend_pid() END
  WHERE id = %(id)s RETURNING id
)
SELECT (SELECT count(*) FROM alive) = 1 AS known,
  ARRAY(SELECT o.id FROM {s}.worker_jobs_open o WHERE o.worker_id = %(id)s AND o.status = 'EXECUTING'
    AND o.executor = 'local' AND o.cancel_requested) AS canceled
"""

#: Behind a pooler the backend is not the one the connection was opened with, and nothing is locked.
LOCK: LiteralString = """
SELECT CASE WHEN pg_backend_pid() = %(pid)s THEN pg_try_advisory_lock(%(key)s) ELSE false END AS locked
"""

#: A worker ``w`` has told of a lock, and nobody holds it.
LOCK_IS_FREE: LiteralString = """(w.lock_key IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.classid = ((w.lock_key >> 32) & 4294967295)::oid AND l.objid = (w.lock_key & 4294967295)::oid))"""

_LOOK: LiteralString = (
    """
SELECT w.id AS worker_id, extract(epoch FROM w.seen_at)::float8 AS seen, w.lease,
  now() > w.lease + greatest(pg_postmaster_start_time(),
    (SELECT a.backend_start FROM pg_stat_activity a WHERE a.pid = pg_backend_pid())) AS is_settled,
  """
    + LOCK_IS_FREE
    + " AS lock_is_free FROM {s}.workers w"
)

_UNKNOWN: LiteralString = (
    "SELECT DISTINCT o.worker_id FROM {s}.worker_jobs_open o WHERE "
    + HELD
    + " AND NOT EXISTS (SELECT FROM {s}.workers w WHERE w.id = o.worker_id)"
)


@dataclass(frozen=True, slots=True)
class Pulse:
    """A worker as one look finds it.

    ``seen`` names its last heartbeat. ``is_settled``: the server and the looker's own connection are older
    than its lease. ``lock_is_free``: it had told of its lock, which nobody holds now.
    """

    worker_id: UUID
    seen: float
    lease: timedelta
    is_settled: bool
    lock_is_free: bool


def lock_key(schema: Schema, worker_id: UUID) -> int:
    """Return the advisory lock a worker holds while it lives."""
    digest = hashlib.sha256(f"adapter:{schema.name}:{worker_id}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


async def look(conn: Connection, schema: Schema) -> list[Pulse]:
    """Return every worker that is known."""
    return [Pulse(**row) for row in await fetch(conn, schema, _LOOK)]


async def unknown(conn: Connection, schema: Schema) -> list[UUID]:
    """Return workers that hold jobs and that nobody knows any more."""
    return [row["worker_id"] for row in await fetch(conn, schema, _UNKNOWN)]
