"""What the workers out there can run, and what comes in for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString

from adapter.domain.limits import Limits
from adapter.store.database import Connection, Schema, fetch
from adapter.store.flags import ADVERTISED_FOR

# Workers say it anew once a minute.
_ADVERTISED: LiteralString = """
SELECT task, COALESCE(schema_hash, '') AS schema_hash, seen_at > now() - interval '3 minutes' AS fresh
FROM {s}.advertised_tasks WHERE task = ANY(%(tasks)s)
"""
_RUNNABLE: LiteralString = (
    "SELECT task FROM {s}.advertised_tasks WHERE seen_at > now() - interval '" + ADVERTISED_FOR + "'"
)
_ALIVE: LiteralString = (
    "SELECT count(*) AS workers FROM {s}.workers WHERE seen_at > now() - lease AND stopping_at IS NULL"
)
_LOAD: LiteralString = """
SELECT type AS task, sum(arrived)::bigint AS arrived, sum(seconds)::float8 / NULLIF(sum(ran), 0) AS mean_seconds FROM (
  SELECT type, count(*) AS arrived, 0 AS ran, 0::float8 AS seconds FROM {s}.worker_jobs_open
  WHERE type = ANY(%(tasks)s) AND created_at > now() - %(window)s::interval GROUP BY 1
  UNION ALL
  SELECT type, count(*) FILTER (WHERE created_at > now() - %(window)s::interval), count(started),
    sum(extract(epoch FROM finished - started))
  FROM {s}.worker_jobs_finished WHERE type = ANY(%(tasks)s) AND finished > now() - %(window)s::interval GROUP BY 1
) AS both_heaps GROUP BY 1
"""
_QUEUES: LiteralString = """
SELECT name, paused_at IS NOT NULL AS paused, limits FROM {s}.job_queues WHERE name = ANY(%(queues)s)
"""


@dataclass(frozen=True, slots=True)
class Advertised:
    """A task that workers had a handler for, with the hash of its payload's schema. ``fresh``: in the last minutes."""

    task: str
    schema_hash: str
    fresh: bool


@dataclass(frozen=True, slots=True)
class Load:
    """What came in for a task in the window, and how long its jobs ran on the average; None: none has ended."""

    task: str
    arrived: int
    mean_seconds: float | None


@dataclass(frozen=True, slots=True)
class LocalQueue:
    """What a queue lets through here."""

    name: str
    paused: bool
    limits: Limits


async def advertised(conn: Connection, schema: Schema, tasks: Sequence[str]) -> dict[str, Advertised]:
    """Return what was advertised of these tasks."""
    rows = await fetch(conn, schema, _ADVERTISED, {"tasks": list(tasks)})
    return {row["task"]: Advertised(**row) for row in rows}


async def runnable(conn: Connection, schema: Schema) -> frozenset[str]:
    """Return every task that some worker had a handler for, living or not."""
    return frozenset(row["task"] for row in await fetch(conn, schema, _RUNNABLE))


async def alive(conn: Connection, schema: Schema) -> int:
    """Return how many workers are alive and take jobs."""
    return (await fetch(conn, schema, _ALIVE))[0]["workers"]


async def load(conn: Connection, schema: Schema, tasks: Sequence[str], window: timedelta) -> dict[str, Load]:
    """Return what came in for these tasks, wherever it went."""
    rows = await fetch(conn, schema, _LOAD, {"tasks": list(tasks), "window": window})
    return {row["task"]: Load(**row) for row in rows}


async def local_queues(conn: Connection, schema: Schema, queues: Sequence[str]) -> dict[str, LocalQueue]:
    """Return these queues as they are now."""
    rows = await fetch(conn, schema, _QUEUES, {"queues": list(queues)})
    return {
        row["name"]: LocalQueue(row["name"], row["paused"], Limits.from_json(row["limits"])) for row in rows
    }
