"""Worker processes, leases, queues and rate budgets: what processes share through PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from adapter.domain.limits import Limits
from adapter.store.database import Connection, Schema, fetch

_REGISTER: LiteralString = """
INSERT INTO {s}.workers (id, name, host, pid, lease) VALUES (%(id)s, %(name)s, %(host)s, %(pid)s, %(lease)s)
ON CONFLICT (id) DO UPDATE SET seen_at = now()
"""

_ADVERTISE: LiteralString = """
INSERT INTO {s}.advertised_tasks AS a (task, worker_id, schema_hash)
SELECT t, %(worker_id)s, h FROM unnest(%(tasks)s::text[], %(hashes)s::text[]) AS u(t, h) ORDER BY t
ON CONFLICT (task) DO UPDATE SET seen_at = now(), worker_id = EXCLUDED.worker_id, schema_hash = EXCLUDED.schema_hash
WHERE a.seen_at < now() - interval '1 minute' OR a.schema_hash IS DISTINCT FROM EXCLUDED.schema_hash
"""

_RETIRE: LiteralString = "DELETE FROM {s}.workers WHERE id = %(id)s"
_FORGET: LiteralString = """
DELETE FROM {s}.workers w WHERE w.seen_at < now() - interval '1 day'
  AND NOT EXISTS (SELECT FROM {s}.worker_jobs_open o WHERE o.worker_id = w.id AND o.status = 'EXECUTING')
"""

#: Locks nothing that is there: it runs in callers' transactions, and claims skip a locked queue.
MAKE_QUEUES: LiteralString = """
INSERT INTO {s}.job_queues (name) SELECT n FROM unnest(%(names)s::text[]) AS n ORDER BY n
ON CONFLICT (name) DO NOTHING
"""

_DECLARE_QUEUES: LiteralString = """
INSERT INTO {s}.job_queues AS q (name, declared, concurrency_limit)
SELECT n, l, (l ->> 'concurrency_limit')::int FROM unnest(%(names)s::text[], %(limits)s::jsonb[]) AS u(n, l) ORDER BY n
ON CONFLICT (name) DO UPDATE SET declared = EXCLUDED.declared, concurrency_limit = EXCLUDED.concurrency_limit
WHERE q.declared <> EXCLUDED.declared OR q.concurrency_limit IS DISTINCT FROM EXCLUDED.concurrency_limit
"""

_QUEUES: LiteralString = """
SELECT name, limited, paused_at IS NOT NULL AS paused FROM {s}.job_queues ORDER BY name
"""

_LEASE: LiteralString = """
INSERT INTO {s}.leases AS l (name, holder, until) VALUES (%(name)s, %(holder)s, now() + %(lease)s)
ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until,
  term = l.term + (l.holder <> EXCLUDED.holder)::int
WHERE l.holder = EXCLUDED.holder OR l.until < now()
RETURNING term, detail, extract(epoch FROM now() - (detail ->> 'done_at')::timestamptz)::float8 AS done_ago
"""

_RELEASE: LiteralString = """
UPDATE {s}.leases SET until = now(),
  detail = CASE WHEN %(done)s THEN COALESCE(detail, '{}') || jsonb_build_object('done_at', now()) ELSE detail END
WHERE name = %(name)s AND holder = %(holder)s
"""

_BUDGET: LiteralString = """
INSERT INTO {s}.remote_budgets (executor, share, tokens, capacity, per_second)
VALUES (%(executor)s, %(share)s, %(capacity)s, %(capacity)s, %(per_second)s)
ON CONFLICT (executor, share) DO UPDATE SET capacity = EXCLUDED.capacity, per_second = EXCLUDED.per_second
"""

#: A clock that was set back (a failover) leaves a refill in the future: it counts as one of just now.
_SPEND: LiteralString = """
UPDATE {s}.remote_budgets SET refilled_at = now(),
  tokens = least(capacity, tokens + per_second * greatest(0, extract(epoch FROM now() - refilled_at))) - %(n)s
WHERE executor = %(executor)s AND share = %(share)s AND COALESCE(paused_until <= now(), true)
  AND least(capacity, tokens + per_second * greatest(0, extract(epoch FROM now() - refilled_at))) >= %(n)s
RETURNING tokens
"""

_WAIT: LiteralString = """
WITH ahead AS (
  UPDATE {s}.remote_budgets SET refilled_at = now()
  WHERE executor = %(executor)s AND share = %(share)s AND refilled_at > now() + interval '1 second'
)
SELECT greatest(0, extract(epoch FROM paused_until - now()),
  (%(n)s - tokens) / per_second - greatest(0, extract(epoch FROM now() - refilled_at)))::float8 AS wait
FROM {s}.remote_budgets WHERE executor = %(executor)s AND share = %(share)s
"""

_PAUSE: LiteralString = """
INSERT INTO {s}.remote_budgets AS b (executor, share, tokens, capacity, per_second, paused_until)
SELECT %(executor)s, share, 0, 1, 1, now() + %(pause)s FROM unnest(%(shares)s::text[]) AS share ORDER BY share
ON CONFLICT (executor, share) DO UPDATE SET paused_until = greatest(b.paused_until, EXCLUDED.paused_until)
"""


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue as the claim sees it."""

    name: str
    limited: bool
    paused: bool


async def register(
    conn: Connection, schema: Schema, *, worker_id: UUID, name: str, host: str, pid: int, lease: timedelta
) -> None:
    """Make the worker known; its lease is how long it may be silent."""
    parameters = {"id": worker_id, "name": name, "host": host, "pid": pid, "lease": lease}
    await fetch(conn, schema, _REGISTER, parameters)


async def advertise(conn: Connection, schema: Schema, worker_id: UUID, tasks: Mapping[str, str]) -> None:
    """Say which tasks this worker has handlers for (task: hash of its payload schema)."""
    parameters = {"worker_id": worker_id, "tasks": list(tasks), "hashes": list(tasks.values())}
    await fetch(conn, schema, _ADVERTISE, parameters)


async def retire(conn: Connection, schema: Schema, worker_id: UUID) -> None:
    """Forget a worker that stopped with nothing in hand."""
    await fetch(conn, schema, _RETIRE, {"id": worker_id})


async def forget_dead(conn: Connection, schema: Schema) -> None:
    """Remove workers unseen for a day that hold nothing."""
    await fetch(conn, schema, _FORGET)


async def declare_queues(conn: Connection, schema: Schema, queues: Mapping[str, Limits]) -> None:
    """Make queues known with the limits of the registry; what a person set over them stays."""
    limits = [Jsonb(each.as_json()) for each in queues.values()]
    await fetch(conn, schema, _DECLARE_QUEUES, {"names": list(queues), "limits": limits})


async def queues(conn: Connection, schema: Schema) -> list[QueueState]:
    """Return every known queue."""
    rows = await fetch(conn, schema, _QUEUES)
    return [QueueState(row["name"], row["limited"], row["paused"]) for row in rows]


async def take_lease(
    conn: Connection, schema: Schema, name: str, holder: UUID, lease: timedelta
) -> dict[str, Any] | None:
    """Take or renew a lease; None while somebody else holds it.

    Returns {term, detail, done_ago}: seconds since a holder last said it was done, None if none did.
    """
    rows = await fetch(conn, schema, _LEASE, {"name": name, "holder": holder, "lease": lease})
    return dict(rows[0]) if rows else None


async def release_lease(conn: Connection, schema: Schema, name: str, holder: UUID, *, done: bool) -> None:
    """Give a lease back; ``done``: what it was taken for is done, so the next holder sees how long ago."""
    await fetch(conn, schema, _RELEASE, {"name": name, "holder": holder, "done": done})


async def declare_budget(
    conn: Connection, schema: Schema, *, executor: str, share: str, capacity: float, per_second: float
) -> None:
    """Make a share of an executor's budget known, with its size."""
    parameters = {"executor": executor, "share": share, "capacity": capacity, "per_second": per_second}
    await fetch(conn, schema, _BUDGET, parameters)


async def spend(conn: Connection, schema: Schema, *, executor: str, share: str, n: int = 1) -> float:
    """Take ``n`` calls from a share; returns 0 when it had them, else the seconds to wait and ask again."""
    parameters = {"executor": executor, "share": share, "n": n}
    if await fetch(conn, schema, _SPEND, parameters):
        return 0.0
    rows = await fetch(conn, schema, _WAIT, parameters)
    return max(rows[0]["wait"], 0.01) if rows else 0.0


async def pause_budget(
    conn: Connection, schema: Schema, executor: str, shares: Sequence[str], pause: timedelta
) -> None:
    """Let nobody call the executor for so long: it said so."""
    await fetch(conn, schema, _PAUSE, {"executor": executor, "shares": list(shares), "pause": pause})
