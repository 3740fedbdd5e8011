"""Handlers that wait for children and for tokens, and cancels that go down to children.

Which jobs have ended is seen by one look at the open table: a job leaves it once, so a look that comes too
early only looks again. Nobody who ends a job has to think of its parent. A token stops waiting once, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

from adapter.domain.job import Job, WaitingFor
from adapter.domain.outcome import Lease
from adapter.store.database import Connection, Schema, fetch
from adapter.store.rows import job_from_row
from adapter.store.wait_tokens import STILL_WAITS

_MINE: LiteralString = """o.id = %(id)s AND o.epoch = %(epoch)s AND o.worker_id = %(worker_id)s
  AND o.claim_number = %(claim_number)s AND (o.status = 'EXECUTING' OR o.waiting_for IN ('children', 'token'))"""

#: The lock keeps a cancel from overtaking children that are being made, and a second holder from making them.
_HOLD: LiteralString = (
    """
SELECT (SELECT count(*) FROM {s}.job_events e WHERE e.job_id = o.id AND e.kind = 'retry') AS retries,
  COALESCE((o.extra ->> 'snoozes')::int, 0) AS snoozes
FROM {s}.worker_jobs_open o WHERE """
    + _MINE
    + " AND NOT o.cancel_requested FOR UPDATE OF o"
)

_SUSPEND: LiteralString = (
    """
UPDATE {s}.worker_jobs_open o SET status = 'WAITING', waiting_for = %(waiting_for)s, awaiting = %(awaiting)s::uuid[],
  updated_at = now()
WHERE """
    + _MINE
    + " RETURNING o.id"
)

_RESUMED: LiteralString = (
    """
UPDATE {s}.worker_jobs_open o SET status = 'EXECUTING', waiting_for = NULL, awaiting = NULL, updated_at = now(),
  deadline = CASE WHEN o.status = 'WAITING' THEN o.deadline + %(waited)s::interval ELSE o.deadline END
WHERE """
    + _MINE
)

_RESUME: LiteralString = (
    _RESUMED
    + """ AND (o.status = 'EXECUTING' OR COALESCE(
    (SELECT NOT q.limited FROM {s}.job_queues q WHERE q.name = o.queue), true))
RETURNING o.id"""
)

_LOCK_QUEUE: LiteralString = """
SELECT q.name FROM {s}.job_queues q
WHERE q.name = (SELECT o.queue FROM {s}.worker_jobs_open o WHERE o.id = %(id)s) FOR NO KEY UPDATE OF q
"""

#: A second statement after the queue's lock, as in the claim: it sees every claim and resume before it.
_RESUME_LIMITED: LiteralString = (
    _RESUMED
    + """ AND (o.status = 'EXECUTING' OR (
    SELECT COALESCE(running.beside < (q.limits ->> 'concurrency_limit')::int, true)
      AND (o.concurrency_key IS NULL OR COALESCE(running.of_key < (q.limits ->> 'key_limit')::int, true))
    FROM {s}.job_queues q CROSS JOIN LATERAL (
      SELECT count(*) FILTER (WHERE r.concurrency_key = o.concurrency_key) AS of_key,
        count(*) FILTER (WHERE q.limits ->> 'key_limit' IS NOT NULL
          OR r.concurrency_key IS NOT DISTINCT FROM o.concurrency_key) AS beside
      FROM {s}.worker_jobs_open r
      WHERE r.status = 'EXECUTING' AND r.executor = 'local' AND r.queue = q.name) AS running
    WHERE q.name = o.queue))
RETURNING o.id"""
)

#: A parent that awaits nothing more wants a place in its queue: until it has one, nothing new is claimed there.
_WANT_PLACE: LiteralString = (
    "UPDATE {s}.worker_jobs_open o SET awaiting = NULL, waiting_for = 'children' WHERE "
    + _MINE
    + " AND o.status = 'WAITING' RETURNING o.id"
)

_LOOK: LiteralString = (
    """
SELECT id, false AS is_parent FROM {s}.worker_jobs_open WHERE id = ANY(%(awaited)s::uuid[])
UNION ALL
SELECT id, true FROM {s}.worker_jobs_open WHERE id = ANY(%(parents)s::uuid[]) AND cancel_requested
UNION ALL
SELECT t.id, false FROM {s}.wait_tokens t WHERE t.id = ANY(%(awaited)s::uuid[]) AND """
    + STILL_WAITS
)

#: Nobody holds it, and it awaits nothing any more.
IS_DONE_WAITING: LiteralString = (
    """p.status = 'WAITING' AND p.waiting_for IN ('children', 'token') AND p.worker_id IS NULL
    AND NOT EXISTS (SELECT FROM {s}.worker_jobs_open c WHERE c.id = ANY(p.awaiting))
    AND NOT EXISTS (SELECT FROM {s}.wait_tokens t WHERE t.id = ANY(p.awaiting) AND """
    + STILL_WAITS
    + ")"
)

_WAKE: LiteralString = (
    """
WITH done AS MATERIALIZED (
  SELECT p.id FROM {s}.worker_jobs_open p
  WHERE """
    + IS_DONE_WAITING
    + """
  ORDER BY p.id LIMIT %(limit)s FOR UPDATE OF p SKIP LOCKED
)
UPDATE {s}.worker_jobs_open o SET status = 'QUEUED', waiting_for = NULL, awaiting = NULL,
  seq = nextval('{s}.worker_jobs_seq'), updated_at = now()
FROM done WHERE o.id = done.id RETURNING o.queue
"""
)

_NEXT_BELOW: LiteralString = """
SELECT c.id, f.reason, f.actor FROM {s}.family_cancels f JOIN {s}.worker_jobs_open c ON c.parent_id = f.job_id
WHERE NOT c.cancel_requested AND NOT COALESCE((c.extra ->> 'detached')::boolean, false)
ORDER BY c.id LIMIT %(limit)s
"""

#: Kept for a minute after the parent has ended: a child that was scheduled in a transaction of the
#: handler's own may be committed after the cancel.
_FORGET_BELOW: LiteralString = """
DELETE FROM {s}.family_cancels f WHERE f.created_at < now() - interval '1 minute'
  AND NOT EXISTS (SELECT FROM {s}.worker_jobs_open p WHERE p.id = f.job_id)
  AND NOT EXISTS (SELECT FROM {s}.worker_jobs_open c WHERE c.parent_id = f.job_id AND NOT c.cancel_requested
    AND NOT COALESCE((c.extra ->> 'detached')::boolean, false))
"""

_AWAITED: LiteralString = """
SELECT c.* FROM {s}.worker_jobs_open p JOIN {s}.worker_jobs_open c ON c.id = ANY(p.awaiting)
WHERE p.id = %(id)s ORDER BY c.id
"""


@dataclass(frozen=True, slots=True)
class Held:
    """A parent under its lock: how often it was retried after an error, and put off by itself."""

    retries: int
    snoozes: int


@dataclass(frozen=True, slots=True)
class Below:
    """A child that a cancel of its parent has yet to reach."""

    job_id: UUID
    reason: str
    actor: str


async def hold(conn: Connection, schema: Schema, job: Job, lease: Lease) -> Held | None:
    """Lock the parent's row; None when it is not ours any more, or somebody wants it canceled."""
    rows = await fetch(conn, schema, _HOLD, _mine(job, lease))
    return Held(**rows[0]) if rows else None


async def suspend(
    conn: Connection,
    schema: Schema,
    job: Job,
    lease: Lease,
    awaiting: Sequence[UUID],
    *,
    waiting_for: WaitingFor,
) -> bool:
    """Let the row wait; False when it is not ours any more. Doing it twice is doing it once."""
    parameters = _mine(job, lease) | {"awaiting": list(awaiting), "waiting_for": waiting_for.value}
    return bool(await fetch(conn, schema, _SUSPEND, parameters))


async def resume(conn: Connection, schema: Schema, job: Job, lease: Lease, waited: timedelta) -> bool:
    """Let the row execute again; twice is once. False: its queue has a limit, or it is not ours any more.

    ``waited`` does not count as running.
    """
    return bool(await fetch(conn, schema, _RESUME, _mine(job, lease) | {"waited": waited}))


async def resume_in(
    conn: Connection, schema: Schema, job: Job, lease: Lease, waited: timedelta
) -> bool | None:
    """Let the row execute again in a queue with a limit. False: no place is free. None: not ours any more."""
    mine = _mine(job, lease) | {"waited": waited}
    async with conn.transaction():
        await fetch(conn, schema, _LOCK_QUEUE, {"id": job.id})
        if await fetch(conn, schema, _RESUME_LIMITED, mine):
            return True
        return False if await fetch(conn, schema, _WANT_PLACE, mine) else None


async def look(
    conn: Connection, schema: Schema, awaited: Sequence[UUID], parents: Sequence[UUID]
) -> tuple[set[UUID], list[UUID]]:
    """Return which of ``awaited``, jobs and tokens, are open, and which of ``parents`` somebody wants canceled."""
    rows = await fetch(conn, schema, _LOOK, {"awaited": list(awaited), "parents": list(parents)})
    is_open = {row["id"] for row in rows if not row["is_parent"]}
    return is_open, [row["id"] for row in rows if row["is_parent"]]


async def wake(conn: Connection, schema: Schema, limit: int = 500) -> frozenset[str]:
    """Make jobs ready that nobody holds and that await nothing any more; returns their queues."""
    return frozenset(row["queue"] for row in await fetch(conn, schema, _WAKE, {"limit": limit}))


async def next_below(conn: Connection, schema: Schema, limit: int) -> list[Below]:
    """Return children of canceled parents that are to be canceled, in the order of their ids."""
    rows = await fetch(conn, schema, _NEXT_BELOW, {"limit": limit})
    return [Below(row["id"], row["reason"], row["actor"]) for row in rows]


async def forget_below(conn: Connection, schema: Schema) -> None:
    """Forget cancels that have reached everybody."""
    await fetch(conn, schema, _FORGET_BELOW)


async def awaited(conn: Connection, schema: Schema, job_id: UUID) -> list[Job]:
    """Return every open job that a parent waits for."""
    return [job_from_row(row) for row in await fetch(conn, schema, _AWAITED, {"id": job_id})]


def _mine(job: Job, lease: Lease) -> dict[str, Any]:
    return {
        "id": job.id,
        "epoch": job.epoch,
        "worker_id": lease.worker_id,
        "claim_number": lease.claim_number,
    }
