"""Jobs that wait for an executor that can run them: at a remote that has not got their task, or here."""

from __future__ import annotations

from typing import LiteralString

from adapter.store.database import Connection, Schema, fetch
from adapter.store.outbox import REROUTE_PICKED, REROUTED


def _pairs(where: LiteralString) -> LiteralString:
    """From pair to pair, one probe each: during an incident there can be millions of rows behind a few pairs."""
    return (
        """
WITH RECURSIVE pair(executor, type) AS (
  (SELECT executor, type FROM {s}.worker_jobs_open WHERE """
        + where
        + """ ORDER BY executor, type LIMIT 1)
  UNION ALL
  SELECT next.executor, next.type FROM pair CROSS JOIN LATERAL (
    SELECT executor, type FROM {s}.worker_jobs_open
    WHERE """
        + where
        + """ AND (executor, type) > (pair.executor, pair.type)
    ORDER BY executor, type LIMIT 1) AS next
)
SELECT executor, type FROM pair
"""
    )


_STRANDED = _pairs("status = 'WAITING' AND waiting_for = 'executor'")
_UNSENT = _pairs("status IN ('PENDING', 'DELAYED') AND executor <> 'local' AND submit_state = 'never'")

#: Not what some dispatcher has tried: that one knows the task, and when to try again.
_STRAND: LiteralString = """
UPDATE {s}.worker_jobs_open SET status = 'WAITING', waiting_for = 'executor', next_try_at = NULL, updated_at = now()
WHERE id IN (
  SELECT id FROM {s}.worker_jobs_open
  WHERE status = 'PENDING' AND executor = %(executor)s AND executor <> 'local' AND type = %(task)s
    AND submit_state = 'never' AND submit_tries = 0 AND dispatch_lease IS NULL AND recall_id IS NULL
  ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id
"""

_ADMIT: LiteralString = """
UPDATE {s}.worker_jobs_open SET status = 'PENDING', waiting_for = NULL, next_try_at = now(), updated_at = now()
WHERE id IN (
  SELECT id FROM {s}.worker_jobs_open
  WHERE status = 'WAITING' AND waiting_for = 'executor' AND executor = %(executor)s AND executor <> 'local'
    AND type = %(task)s AND submit_state = 'never'
  ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id
"""

_MOVE: LiteralString = (
    REROUTE_PICKED
    + """status = 'WAITING' AND waiting_for = 'executor' AND started IS NULL
    AND (executor = 'local' OR submit_state = 'never' AND dispatch_lease IS NULL)"""
    + REROUTED
)


async def stranded_types(conn: Connection, schema: Schema) -> list[tuple[str, str]]:
    """Return (executor, task) of every job that waits for somebody who can run it there."""
    return [(row["executor"], row["type"]) for row in await fetch(conn, schema, _STRANDED)]


async def unsent_types(conn: Connection, schema: Schema) -> list[tuple[str, str]]:
    """Return (executor, task) of every remote row no try has left for."""
    return [(row["executor"], row["type"]) for row in await fetch(conn, schema, _UNSENT)]


async def strand(conn: Connection, schema: Schema, executor: str, task: str, limit: int = 1000) -> int:
    """Let the jobs of a task wait that are due at a remote which lacks it; returns how many."""
    return len(await fetch(conn, schema, _STRAND, {"executor": executor, "task": task, "limit": limit}))


async def admit(conn: Connection, schema: Schema, executor: str, task: str, limit: int = 1000) -> int:
    """Let the jobs of a task go to a remote that can run them after all; returns how many."""
    return len(await fetch(conn, schema, _ADMIT, {"executor": executor, "task": task, "limit": limit}))


async def move(
    conn: Connection, schema: Schema, *, executor: str, task: str, to: str, reason: str, limit: int = 1000
) -> list[str]:
    """Open a new epoch at ``to``, where they can run, for those that have never started; returns their queues."""
    parameters = {
        "executor": executor,
        "types": [task],
        "to": to,
        "reason": reason,
        "runnable": True,
        "limit": limit,
    }
    return [row["queue"] for row in await fetch(conn, schema, _MOVE, parameters)]
