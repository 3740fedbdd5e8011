"""Webhooks as they came in: stored first, answered, then applied; what cannot be applied is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from adapter.store.database import Connection, Schema, fetch

_TAKE_IN: LiteralString = """
INSERT INTO {s}.webhook_inbox (source, delivery_id, body, secret_id, next_try_at)
VALUES (%(source)s, %(delivery_id)s, %(body)s, %(secret_id)s, now())
ON CONFLICT (source, delivery_id) DO NOTHING
RETURNING id
"""

_PENDING: LiteralString = """
UPDATE {s}.webhook_inbox SET attempts = attempts + 1, next_try_at = now() + interval '30 seconds'
WHERE id IN (
  SELECT id FROM {s}.webhook_inbox WHERE state = 'pending' AND next_try_at <= now()
  ORDER BY next_try_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id, source, delivery_id, body, attempts, received_at, now() - received_at AS age
"""

_APPLIED: LiteralString = """
UPDATE {s}.webhook_inbox w SET state = 'applied', result = s.result, job_id = s.job_id, applied_at = now(),
  next_try_at = NULL, error = NULL
FROM unnest(%(ids)s::bigint[], %(results)s::text[], %(job_ids)s::uuid[]) AS s(id, result, job_id)
WHERE w.id = s.id
"""

_LATER: LiteralString = """
UPDATE {s}.webhook_inbox SET next_try_at = now() + %(delay)s, error = %(error)s WHERE id = %(id)s AND state = 'pending'
"""

_DEAD: LiteralString = """
UPDATE {s}.webhook_inbox SET state = 'dead', error = %(error)s, next_try_at = NULL WHERE id = %(id)s AND state = 'pending'
"""

_REPLAY: LiteralString = """
UPDATE {s}.webhook_inbox SET state = 'pending', attempts = 0, next_try_at = now(), received_at = now(), error = NULL
WHERE state = 'dead' AND (%(id)s::bigint IS NULL OR id = %(id)s)
RETURNING id
"""

_LIST: LiteralString = """
SELECT id, source, delivery_id, state, attempts, result, error, job_id, received_at, applied_at
FROM {s}.webhook_inbox WHERE (%(state)s::text IS NULL OR state = %(state)s) AND (%(before)s::bigint IS NULL OR id < %(before)s)
ORDER BY id DESC LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook that waits to be applied. ``age`` is by the database's clock."""

    id: int
    source: str
    delivery_id: str
    body: Any
    attempts: int
    age: timedelta


@dataclass(frozen=True, slots=True)
class Settled:
    """A delivery that is dealt with: what that came to, and whose job it was."""

    id: int
    result: str
    job_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """One webhook as people see it, without its body."""

    id: int
    source: str
    delivery_id: str
    state: str
    attempts: int
    result: str | None
    error: str | None
    job_id: UUID | None
    received_at: datetime
    applied_at: datetime | None


async def take_in(
    conn: Connection, schema: Schema, *, source: str, delivery_id: str, secret_id: str, body: Any
) -> int | None:
    """Store a webhook; None when this delivery was stored before."""
    rows = await fetch(
        conn,
        schema,
        _TAKE_IN,
        {"source": source, "delivery_id": delivery_id, "secret_id": secret_id, "body": Jsonb(body)},
    )
    return rows[0]["id"] if rows else None


async def pending(conn: Connection, schema: Schema, limit: int = 100) -> list[Delivery]:
    """Take deliveries to apply; each is offered again after 30 s if nothing is said of it."""
    rows = await fetch(conn, schema, _PENDING, {"limit": limit})
    rows.sort(key=lambda row: row["id"])
    return [
        Delivery(row["id"], row["source"], row["delivery_id"], row["body"], row["attempts"], row["age"])
        for row in rows
    ]


async def applied(conn: Connection, schema: Schema, settled: Sequence[Settled]) -> None:
    """Record what applying them came to, in one statement."""
    ordered = sorted(settled, key=lambda each: each.id)
    await fetch(
        conn,
        schema,
        _APPLIED,
        {
            "ids": [each.id for each in ordered],
            "results": [each.result for each in ordered],
            "job_ids": [each.job_id for each in ordered],
        },
    )


async def later(conn: Connection, schema: Schema, entry: int, *, error: str, delay: timedelta) -> None:
    """Offer it again after ``delay``."""
    await fetch(conn, schema, _LATER, {"id": entry, "error": error, "delay": delay})


async def dead(conn: Connection, schema: Schema, entry: int, *, error: str) -> None:
    """Make it a dead letter: kept, visible, replayable."""
    await fetch(conn, schema, _DEAD, {"id": entry, "error": error})


async def replay(conn: Connection, schema: Schema, entry: int | None = None) -> int:
    """Offer one dead letter, or all, once more; returns how many."""
    return len(await fetch(conn, schema, _REPLAY, {"id": entry}))


async def entries(
    conn: Connection, schema: Schema, *, state: str | None = None, limit: int = 50, before: int | None = None
) -> list[InboxEntry]:
    """Return deliveries, newest first."""
    rows = await fetch(conn, schema, _LIST, {"state": state, "limit": limit, "before": before})
    return [InboxEntry(**row) for row in rows]
