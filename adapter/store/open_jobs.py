"""How many jobs are open, by task and place; and what their queues may run."""

from __future__ import annotations

from typing import LiteralString

from adapter.domain.limits import Limits
from adapter.store.database import Connection, Schema, fetch

_OPEN: LiteralString = """
SELECT type, COALESCE(executor, 'nowhere yet') AS executor, count(*) AS jobs FROM {s}.worker_jobs_open GROUP BY 1, 2
ORDER BY 1, 2
"""
_LIMITS: LiteralString = "SELECT name, limits FROM {s}.job_queues WHERE limited"


async def by_task_and_executor(conn: Connection, schema: Schema) -> dict[str, dict[str, int]]:
    """Return how many jobs of each task are open where; ``nowhere yet``: not routed."""
    found: dict[str, dict[str, int]] = {}
    for row in await fetch(conn, schema, _OPEN):
        found.setdefault(row["type"], {})[row["executor"]] = row["jobs"]
    return found


async def limits(conn: Connection, schema: Schema) -> dict[str, Limits]:
    """Return the limits of every queue that has one, as they hold now."""
    return {row["name"]: Limits.from_json(row["limits"]) for row in await fetch(conn, schema, _LIMITS)}
