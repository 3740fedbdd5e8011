"""The stored flags as people see them: with who turned them, when, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from adapter.store.database import Connection, Schema, fetch

_LIST: LiteralString = """
SELECT kind, task, executor, percent::float8 AS percent, hash_by, detail, version, reason, actor, updated_at
FROM {s}.executor_flags ORDER BY kind, task, executor
"""


@dataclass(frozen=True, slots=True)
class FlagEntry:
    """One flag. ``version`` is what a guarded change of it names."""

    kind: str
    task: str
    executor: str
    percent: float | None
    hash_by: str | None
    detail: dict[str, Any] | None
    version: int
    reason: str
    actor: str
    updated_at: datetime


async def entries(conn: Connection, schema: Schema) -> list[FlagEntry]:
    """Return every stored flag."""
    return [FlagEntry(**row) for row in await fetch(conn, schema, _LIST)]
