"""The claim of queues that have a limit: by counting under a lock (docs/decisions/0002)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from adapter.domain.job import Job
from adapter.domain.outcome import Lease
from adapter.store.claims import TAKE, holder
from adapter.store.database import Connection, Schema, fetch
from adapter.store.rows import job_from_row

_LOCK_QUEUES: LiteralString = """
SELECT name FROM {s}.job_queues
WHERE name = ANY(%(queues)s) AND effective_limit IS NOT NULL AND paused_at IS NULL
ORDER BY name FOR NO KEY UPDATE SKIP LOCKED
"""

#: A second statement after the lock: it sees every claim that was committed under that lock, so the
#: count is exact and there is no counter that could leak.
_CLAIM_LIMITED: LiteralString = (
    """
WITH picked AS MATERIALIZED (
  SELECT j.id FROM {s}.job_queues q
  CROSS JOIN LATERAL (
    SELECT count(*) AS running FROM {s}.worker_jobs_open
    WHERE status = 'EXECUTING' AND executor = 'local' AND queue = q.name) AS r
  CROSS JOIN LATERAL (
    SELECT id FROM {s}.worker_jobs_open
    WHERE status = 'QUEUED' AND executor = 'local' AND queue = q.name
    ORDER BY (-priority), seq LIMIT greatest(least(%(room)s, q.effective_limit - r.running), 0)
    FOR UPDATE SKIP LOCKED) AS j
  WHERE q.name = ANY(%(queues)s)
  LIMIT %(room)s
)"""
    + TAKE
)


async def claim_limited(
    conn: Connection, schema: Schema, lease: Lease, queues: Sequence[str], room: int
) -> list[Job]:
    """Take up to ``room`` ready jobs of queues that have a limit; exact across all processes."""
    async with conn.transaction():
        locked = await fetch(conn, schema, _LOCK_QUEUES, {"queues": list(queues)})
        if not locked:
            return []
        parameters = holder(lease) | {"queues": [row["name"] for row in locked], "room": room}
        return [job_from_row(row) for row in await fetch(conn, schema, _CLAIM_LIMITED, parameters)]
