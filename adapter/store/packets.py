"""Large payloads that clients store before they trigger, kept in PostgreSQL."""

from __future__ import annotations

from typing import LiteralString

from adapter.store.database import Connection, Database, fetch

_PUT: LiteralString = """
INSERT INTO {s}.packets (path, content_type, body) VALUES (%(path)s, %(content_type)s, %(body)s)
ON CONFLICT (path) DO UPDATE SET content_type = EXCLUDED.content_type, body = EXCLUDED.body, created_at = now()
"""
_HAS: LiteralString = "SELECT FROM {s}.packets WHERE path = %(path)s"
_GET: LiteralString = "SELECT content_type, body FROM {s}.packets WHERE path = %(path)s"


class PacketStore:
    """Objects by path. They are removed 30 days after they were put."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, path: str, content_type: str, body: bytes) -> None:
        """Store an object, replacing one of the same path."""
        await self._database.fetch(_PUT, {"path": path, "content_type": content_type, "body": body})

    async def has(self, path: str) -> bool:
        """Whether there is such an object; it is not read."""
        return bool(await self._database.fetch(_HAS, {"path": path}))

    async def get(self, path: str, conn: Connection | None = None) -> tuple[str, bytes] | None:
        """Return (content type, body), None when there is no such object. ``conn``: read on that connection."""
        parameters = {"path": path}
        if conn is None:
            rows = await self._database.fetch(_GET, parameters)
        else:
            rows = await fetch(conn, self._database.schema, _GET, parameters)
        return (rows[0]["content_type"], bytes(rows[0]["body"])) if rows else None
