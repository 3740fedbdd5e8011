"""Public tokens that were good for one call, and the call that used each."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, LiteralString

from adapter.store.database import Connection, Schema, fetch

_SPEND: LiteralString = """
INSERT INTO {s}.spent_tokens (token, call, expires_at) VALUES (%(token)s, %(call)s, %(expires_at)s)
ON CONFLICT DO NOTHING RETURNING call
"""
_KNOWN: LiteralString = "SELECT call FROM {s}.spent_tokens WHERE token = %(token)s"
_GIVE_BACK: LiteralString = "DELETE FROM {s}.spent_tokens WHERE token = %(token)s AND call = %(call)s"


async def spend(
    conn: Connection, schema: Schema, token: bytes, call: str, expires_at: datetime
) -> Literal["first", "repeat"] | None:
    """Return how this call may use a token that is good for one call; None: another has used it."""
    parameters: dict[str, Any] = {"token": token, "call": call, "expires_at": expires_at}
    if await fetch(conn, schema, _SPEND, parameters):
        return "first"
    rows = await fetch(conn, schema, _KNOWN, parameters)
    return "repeat" if rows and rows[0]["call"] == call else None


async def give_back(conn: Connection, schema: Schema, token: bytes, call: str) -> None:
    """Undo `spend` for a call that is known to have done nothing."""
    await fetch(conn, schema, _GIVE_BACK, {"token": token, "call": call})
