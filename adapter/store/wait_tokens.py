"""Wait tokens: made, completed once, timed out by the clock.

A token whose time is over is timed out whether anybody has written that down yet or not: every statement
here reads it so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from adapter.domain.wait_token import TokenFilter, TokenPage, TokenStatus, WaitToken
from adapter.store.cursors import page_of, place_of
from adapter.store.database import Connection, Schema, fetch
from adapter.store.steps import Row

#: The time of a token ``t`` is over, and nobody has completed it.
_IS_LATE: LiteralString = "t.status = 'WAITING' AND t.timeout_at <= now()"
#: Somebody may still complete it. False rather than null where it never times out.
STILL_WAITS: LiteralString = "t.status = 'WAITING' AND (t.timeout_at IS NULL OR t.timeout_at > now())"

_COLUMNS: LiteralString = (
    "t.id, t.created_at, t.timeout_at, t.ended_by, t.idempotency_key, t.idempotency_expires_at, t.tags, t.callback_secret,"
    " t.output, CASE WHEN "
    + _IS_LATE
    + " THEN 'TIMED_OUT' ELSE t.status END AS status, CASE WHEN "
    + _IS_LATE
    + " THEN t.timeout_at ELSE t.ended_at END AS ended_at"
)

_FREE_KEY: LiteralString = """
UPDATE {s}.wait_tokens SET idempotency_key = NULL WHERE idempotency_key = %(key)s AND idempotency_expires_at <= now()
"""
_MAKE: LiteralString = (
    """
INSERT INTO {s}.wait_tokens AS t (id, timeout_at, idempotency_key, idempotency_expires_at, tags, callback_secret)
VALUES (%(id)s, COALESCE(%(timeout_at)s::timestamptz, now() + %(timeout)s::interval), %(key)s,
  CASE WHEN %(key)s::text IS NOT NULL THEN now() + %(key_ttl)s::interval END, %(tags)s, %(secret)s)
ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING """
    + _COLUMNS
)
_BY_KEY: LiteralString = "SELECT " + _COLUMNS + " FROM {s}.wait_tokens t WHERE idempotency_key = %(key)s"
_GET: LiteralString = "SELECT " + _COLUMNS + " FROM {s}.wait_tokens t WHERE id = %(id)s"

_COMPLETE: LiteralString = (
    """
UPDATE {s}.wait_tokens t SET status = 'COMPLETED', ended_at = now(), ended_by = %(by)s, output = %(output)s
WHERE id = %(id)s AND """
    + STILL_WAITS
    + " RETURNING id"
)

_TIME_OUT: LiteralString = (
    """
WITH late AS MATERIALIZED (
  SELECT t.id FROM {s}.wait_tokens t WHERE """
    + _IS_LATE
    + """ ORDER BY t.timeout_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE {s}.wait_tokens t SET status = 'TIMED_OUT', ended_at = t.timeout_at FROM late WHERE t.id = late.id RETURNING t.id
"""
)
_TIME_OUT_ONE: LiteralString = (
    """
UPDATE {s}.wait_tokens t SET status = 'TIMED_OUT', ended_at = t.timeout_at WHERE t.id = %(id)s AND """
    + _IS_LATE
)
#: Seconds until the next token times out (negative: overdue), null without one.
NEXT_TIMEOUT: LiteralString = """
SELECT extract(epoch FROM min(timeout_at) - now())::float8
FROM {s}.wait_tokens WHERE status = 'WAITING' AND timeout_at IS NOT NULL
"""

_LIST: LiteralString = (
    "SELECT "
    + _COLUMNS
    + """ FROM {s}.wait_tokens t
WHERE (%(statuses)s::text[] IS NULL OR CASE WHEN """
    + _IS_LATE
    + """ THEN 'TIMED_OUT' ELSE t.status END = ANY(%(statuses)s))
  AND (%(key)s::text IS NULL OR idempotency_key = %(key)s) AND (%(tags)s::text[] IS NULL OR tags && %(tags)s)
  AND (%(from)s::timestamptz IS NULL OR created_at >= %(from)s) AND (%(to)s::timestamptz IS NULL OR created_at <= %(to)s)
  AND (%(after)s::uuid IS NULL OR id < %(after)s) AND (%(before)s::uuid IS NULL OR id > %(before)s)
"""
)
_NEWEST: LiteralString = _LIST + " ORDER BY id DESC LIMIT %(limit)s"
_OLDEST: LiteralString = _LIST + " ORDER BY id LIMIT %(limit)s"


async def make(conn: Connection, schema: Schema, values: Mapping[str, Any]) -> WaitToken:
    """Make a token, or find the one that holds its key.

    ``values``: id, timeout_at or timeout, key, key_ttl, tags, secret, each but id, tags and secret None where
    there is none. Needs a transaction.
    """
    key = values["key"]
    while True:
        if key is not None:
            await fetch(conn, schema, _FREE_KEY, {"key": key})
        made = await fetch(conn, schema, _MAKE, values)
        if made:
            return _token(made[0])
        held = await fetch(conn, schema, _BY_KEY, {"key": key})
        if held:
            return _token(held[0], is_cached=True)


async def get(conn: Connection, schema: Schema, token_id: UUID) -> WaitToken | None:
    """Return a token or None."""
    rows = await fetch(conn, schema, _GET, {"id": token_id})
    return _token(rows[0]) if rows else None


async def settled(conn: Connection, schema: Schema, token_id: UUID) -> WaitToken | None:
    """Return what `get` does; what it says of a token that has ended stays so, whoever was completing it just then."""
    token = await get(conn, schema, token_id)
    if token is not None and token.status is TokenStatus.TIMED_OUT:
        await fetch(conn, schema, _TIME_OUT_ONE, {"id": token_id})
        token = await get(conn, schema, token_id)
    return token


async def complete(conn: Connection, schema: Schema, token_id: UUID, output: Any, by: str) -> bool:
    """Complete a token; False when there is none that still waits."""
    return bool(await fetch(conn, schema, _COMPLETE, {"id": token_id, "output": Jsonb(output), "by": by}))


async def time_out(conn: Connection, schema: Schema, limit: int = 500) -> int:
    """Write down which tokens were not completed in time; returns how many."""
    return len(await fetch(conn, schema, _TIME_OUT, {"limit": limit}))


async def listed(conn: Connection, schema: Schema, wanted: TokenFilter) -> TokenPage:
    """Return one page.

    Raises:
        InvalidArgumentError: a cursor is none of ours.
    """
    backward = wanted.before is not None
    cursor = wanted.before if backward else wanted.after
    place = None if cursor is None else place_of(cursor)[1]
    parameters = {
        "statuses": [each.value for each in wanted.statuses] or None,
        "key": wanted.idempotency_key,
        "tags": list(wanted.tags) or None,
        "from": wanted.created_from,
        "to": wanted.created_to,
        "after": None if backward else place,
        "before": place if backward else None,
        "limit": wanted.limit + 1,
    }
    rows = await fetch(conn, schema, _OLDEST if backward else _NEWEST, parameters)
    found = [_token(row) for row in rows]
    return TokenPage(
        *page_of(
            found,
            lambda token: (token.created_at, token.id),
            limit=wanted.limit,
            after=wanted.after,
            before=wanted.before,
        )
    )


def _token(row: Row, *, is_cached: bool = False) -> WaitToken:
    return WaitToken(
        id=row["id"],
        status=TokenStatus(row["status"]),
        created_at=row["created_at"],
        timeout_at=row["timeout_at"],
        ended_at=row["ended_at"],
        ended_by=row["ended_by"],
        idempotency_key=row["idempotency_key"],
        idempotency_expires_at=row["idempotency_expires_at"],
        tags=tuple(row["tags"]),
        callback_secret=row["callback_secret"],
        output=row["output"],
        is_cached=is_cached,
    )
