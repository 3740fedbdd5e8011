"""Keys of the HTTP API: only their hashes are here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

from adapter.domain.keys import ApiKey
from adapter.store.database import Connection, Schema, fetch

#: Stands for everything where scopes are stored: an empty list would be nothing.
_EVERYTHING = "*"

_INSERT: LiteralString = """
INSERT INTO {s}.api_keys (id, prefix, hash, scopes, name, user_id)
VALUES (%(id)s, %(prefix)s, %(hash)s, %(scopes)s, %(name)s, %(user_id)s) RETURNING *
"""

#: Looks a key up and, once a minute, says that it was used.
_USE: LiteralString = """
WITH found AS MATERIALIZED (
  SELECT * FROM {s}.api_keys WHERE hash = %(hash)s AND (revoked_at IS NULL OR revoked_at > now())
), used AS (
  UPDATE {s}.api_keys k SET last_used_at = now() FROM found WHERE k.id = found.id
    AND (k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute')
)
SELECT * FROM found
"""

_LIST: LiteralString = """
SELECT * FROM {s}.api_keys WHERE %(revoked)s OR revoked_at IS NULL OR revoked_at > now() ORDER BY id
"""

#: A key that is to end sooner ends sooner; one that has ended stays as it is.
_REVOKE: LiteralString = """
UPDATE {s}.api_keys SET revoked_at = least(revoked_at, now() + %(after)s) WHERE id = %(id)s RETURNING *
"""

#: The new key is what the old one was; one that is revoked already is not replaced.
_ROTATE: LiteralString = """
WITH old AS (
  UPDATE {s}.api_keys SET revoked_at = least(revoked_at, now() + %(overlap)s)
  WHERE id = %(old)s AND (revoked_at IS NULL OR revoked_at > now()) RETURNING *
)
INSERT INTO {s}.api_keys (id, prefix, hash, scopes, name, user_id)
SELECT %(id)s, %(prefix)s, %(hash)s, scopes, name, user_id FROM old RETURNING *
"""


async def insert(
    conn: Connection,
    schema: Schema,
    *,
    key_id: UUID,
    prefix: str,
    digest: bytes,
    scopes: tuple[str, ...] | None,
    name: str,
    user_id: str | None,
) -> ApiKey:
    """Keep a new key."""
    parameters = {
        "id": key_id,
        "prefix": prefix,
        "hash": digest,
        "scopes": [_EVERYTHING] if scopes is None else list(scopes),
        "name": name,
        "user_id": user_id,
    }
    return _key((await fetch(conn, schema, _INSERT, parameters))[0])


async def use(conn: Connection, schema: Schema, digest: bytes) -> ApiKey | None:
    """Return the key of that hash unless it is revoked, and note that it was used."""
    rows = await fetch(conn, schema, _USE, {"hash": digest})
    return _key(rows[0]) if rows else None


async def entries(conn: Connection, schema: Schema, *, revoked: bool) -> list[ApiKey]:
    """Return the keys, the oldest first."""
    return [_key(row) for row in await fetch(conn, schema, _LIST, {"revoked": revoked})]


async def get(conn: Connection, schema: Schema, key_id: UUID) -> ApiKey | None:
    """Return one key."""
    rows = await fetch(conn, schema, "SELECT * FROM {s}.api_keys WHERE id = %(id)s", {"id": key_id})
    return _key(rows[0]) if rows else None


async def revoke(conn: Connection, schema: Schema, key_id: UUID, after: timedelta) -> ApiKey | None:
    """Let a key end; None when there is none."""
    rows = await fetch(conn, schema, _REVOKE, {"id": key_id, "after": after})
    return _key(rows[0]) if rows else None


async def rotate(
    conn: Connection,
    schema: Schema,
    old: UUID,
    *,
    key_id: UUID,
    prefix: str,
    digest: bytes,
    overlap: timedelta,
) -> ApiKey | None:
    """Put a key in the place of another; None when that one is not good any more."""
    parameters = {"old": old, "id": key_id, "prefix": prefix, "hash": digest, "overlap": overlap}
    rows = await fetch(conn, schema, _ROTATE, parameters)
    return _key(rows[0]) if rows else None


def _key(row: dict[str, Any]) -> ApiKey:
    scopes: list[str] = row["scopes"]
    return ApiKey(
        id=row["id"],
        name=row["name"] or "",
        prefix=row["prefix"],
        scopes=None if _EVERYTHING in scopes else tuple(scopes),
        user_id=row["user_id"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
    )
