"""What there is to tell others of jobs: written with what happened, taken by leases, settled in batches.

`TOLD` is part of every statement that ends jobs, while anybody is subscribed (`Schema.tell`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

from adapter.store.database import Connection, Schema, fetch

#: How long others leave a delivery alone that somebody is sending.
LEASE = timedelta(seconds=60)
#: Deliveries of one subscription that are sent at once.
MOST_AT_ONCE = 20

#: A CTE behind ``given`` (see `adapter.store.finishing`): one row per job, subscription and event. An output of more
#: than 128 KiB is left out: the receiver fetches it.
TOLD: LiteralString = """, told_others AS (
  INSERT INTO {s}.webhook_deliveries (id, subscription_id, event, data)
  SELECT {s}.uuid7(), w.id, e.event, jsonb_build_object(
      'id', g.id, 'type', g.type, 'status', g.new_status, 'epoch', g.epoch, 'attempt', g.new_attempt, 'tags', g.tags,
      'created', to_char(g.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
      'started', to_char(g.new_started AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
      'finished', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
      'key', g.idempotency_key, 'error', g.new_error,
      'result', CASE WHEN pg_column_size(g.new_result) <= 131072 THEN g.new_result END,
      'omitted', COALESCE(pg_column_size(g.new_result) > 131072, false))
  FROM given g JOIN {s}.webhook_subscriptions w ON w.active
  CROSS JOIN LATERAL unnest(w.events) AS e(event)
  WHERE NOT COALESCE(g.extra ? 'shadow_of', false)
    AND CASE e.event WHEN 'RUN_COMPLETED' THEN g.new_status = 'COMPLETED' WHEN 'RUN_CANCELED' THEN g.new_status = 'CANCELED'
      WHEN 'RUN_FAILED' THEN g.new_status NOT IN ('COMPLETED', 'CANCELED')
      WHEN 'alert.run.failed' THEN g.new_status IN ('FAILED', 'CRASHED', 'SYSTEM_FAILURE', 'TIMED_OUT') ELSE false END
)"""

_STARTED: LiteralString = """
INSERT INTO {s}.webhook_deliveries (id, subscription_id, event, data)
SELECT {s}.uuid7(), w.id, 'RUN_STARTED', d.data
FROM jsonb_array_elements(%(rows)s::jsonb) AS d(data)
JOIN {s}.webhook_subscriptions w ON w.active AND 'RUN_STARTED' = ANY(w.events)
"""

_HEARD: LiteralString = """
SELECT count(*) > 0 AS anything, COALESCE(bool_or('RUN_STARTED' = ANY(events)), false) AS starts
FROM {s}.webhook_subscriptions WHERE active
"""

#: A receiver that was left alone for a while is tried with one first.
_TAKE: LiteralString = """
WITH due AS MATERIALIZED (
  SELECT d.id FROM {s}.webhook_subscriptions w CROSS JOIN LATERAL (
    SELECT id FROM {s}.webhook_deliveries
    WHERE subscription_id = w.id AND state = 'pending' AND next_at <= now()
    ORDER BY next_at LIMIT CASE WHEN w.failures >= %(rounds)s THEN 1 ELSE %(most)s END FOR UPDATE SKIP LOCKED) AS d
  WHERE w.active AND (w.open_until IS NULL OR w.open_until <= now()) AND w.id <> ALL(%(busy)s::uuid[])
)
UPDATE {s}.webhook_deliveries d SET attempts = d.attempts + 1, next_at = now() + %(lease)s
FROM due, {s}.webhook_subscriptions w WHERE d.id = due.id AND w.id = d.subscription_id
RETURNING d.id, d.subscription_id, d.event, d.data, d.attempts, w.url, w.secrets, w.allow_private
"""

#: Whoever has lost its lease changes nothing: the number of the try is not its own any more.
_SETTLE: LiteralString = """
WITH given AS (
  SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb)
    AS r(id uuid, attempts int, ok boolean, gone boolean, wait_s float8, status int, error text)
), settled AS (
  UPDATE {s}.webhook_deliveries d SET
    state = CASE WHEN g.ok THEN 'delivered' WHEN g.wait_s IS NULL THEN 'dead' ELSE 'pending' END,
    next_at = now() + make_interval(secs => COALESCE(g.wait_s, 0)), status = g.status, error = g.error,
    settled_at = CASE WHEN g.ok OR g.wait_s IS NULL THEN now() END
  FROM given g WHERE d.id = g.id AND d.attempts = g.attempts AND d.state = 'pending'
  RETURNING d.subscription_id, g.ok, g.gone
), rounds AS (
  SELECT subscription_id, bool_or(ok) AS ok, bool_or(gone) AS gone FROM settled GROUP BY 1
)
UPDATE {s}.webhook_subscriptions w SET
  failures = CASE WHEN r.ok THEN 0 ELSE w.failures + 1 END,
  open_until = CASE WHEN NOT r.ok AND w.failures + 1 >= %(rounds)s
    THEN now() + least(interval '10 minutes', interval '15 seconds' * power(2, least(w.failures + 1 - %(rounds)s, 6))) END,
  active = w.active AND NOT r.gone,
  disabled_because = CASE WHEN r.gone THEN 'it answered 410 Gone' ELSE w.disabled_because END,
  updated_at = CASE WHEN r.gone THEN now() ELSE w.updated_at END
FROM rounds r WHERE w.id = r.subscription_id
RETURNING w.id, w.url, w.failures, r.gone
"""

_REDRIVE: LiteralString = """
UPDATE {s}.webhook_deliveries SET state = 'pending', attempts = 0, next_at = now(), settled_at = NULL, created_at = now()
WHERE state = 'dead' AND (%(subscription)s::uuid IS NULL OR subscription_id = %(subscription)s)
  AND (%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s))
RETURNING id
"""

_LIST: LiteralString = """
SELECT * FROM {s}.webhook_deliveries
WHERE (%(subscription)s::uuid IS NULL OR subscription_id = %(subscription)s) AND (%(state)s::text IS NULL OR state = %(state)s)
  AND (%(before)s::uuid IS NULL OR id < %(before)s)
ORDER BY id DESC LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A delivery in hand, and where it goes."""

    id: UUID
    subscription_id: UUID
    event: str
    data: dict[str, Any]
    attempts: int
    url: str
    secrets: Sequence[str]
    allow_private: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """What a try came to. ``wait_s``: until the next one, None when there is none."""

    id: UUID
    attempts: int
    ok: bool
    wait_s: float | None = None
    gone: bool = False
    status: int | None = None
    error: str | None = None


async def heard(conn: Connection, schema: Schema) -> tuple[bool, bool]:
    """Return whether anybody is told anything, and whether of starts."""
    row = (await fetch(conn, schema, _HEARD))[0]
    return row["anything"], row["starts"]


async def started(conn: Connection, schema: Schema, jobs: Sequence[Mapping[str, Any]]) -> None:
    """Write that attempts have begun."""
    await fetch(conn, schema, _STARTED, {"rows": json.dumps(list(jobs))})


async def take(conn: Connection, schema: Schema, busy: Sequence[UUID], *, rounds: int) -> list[Outgoing]:
    """Take what is due, but nothing of the subscriptions in ``busy``; nobody else takes it for `LEASE`."""
    parameters = {"busy": list(busy), "rounds": rounds, "most": MOST_AT_ONCE, "lease": LEASE}
    return [Outgoing(**row) for row in await fetch(conn, schema, _TAKE, parameters)]


async def settle(
    conn: Connection, schema: Schema, settled: Sequence[Settled], *, rounds: int
) -> list[dict[str, Any]]:
    """Write what tries came to, and what that says of their receivers; returns those receivers."""
    rows = [
        {
            "id": str(each.id),
            "attempts": each.attempts,
            "ok": each.ok,
            "gone": each.gone,
            "wait_s": each.wait_s,
            "status": each.status,
            "error": each.error,
        }
        for each in settled
    ]
    return await fetch(conn, schema, _SETTLE, {"rows": json.dumps(rows), "rounds": rounds})


async def redrive(
    conn: Connection, schema: Schema, subscription: UUID | None, ids: Sequence[UUID] | None
) -> int:
    """Offer dead deliveries once more; returns how many."""
    parameters = {"subscription": subscription, "ids": None if ids is None else list(ids)}
    return len(await fetch(conn, schema, _REDRIVE, parameters))


async def deliveries(
    conn: Connection,
    schema: Schema,
    *,
    subscription: UUID | None,
    state: str | None,
    before: UUID | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Return deliveries, the newest first."""
    parameters = {"subscription": subscription, "state": state, "before": before, "limit": limit}
    return await fetch(conn, schema, _LIST, parameters)
