"""Jobs that SQL producers wrote and nobody has routed: found, routed, refused."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from adapter.domain.job import Job
from adapter.store.database import Connection, Schema, fetch
from adapter.store.finishing import AS_IT_WAS, FINISHED_COLUMNS, RELEASE_KEYS
from adapter.store.rows import job_from_row

#: Rows that another router holds are skipped, and so is what this process has to leave to others: tasks that
#: are disabled here, or known only elsewhere, and what nobody knows until it has had time to become known.
_UNROUTED: LiteralString = """
SELECT * FROM {s}.worker_jobs_open o
WHERE o.executor IS NULL AND o.epoch = 0
  AND (o.type = ANY(%(known)s) OR o.type <> ALL(%(elsewhere)s) AND o.created_at <= now() - %(grace)s::interval)
ORDER BY o.seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""

_ARE_ANY: LiteralString = (
    "SELECT EXISTS (SELECT FROM {s}.worker_jobs_open WHERE executor IS NULL AND epoch = 0) AS found"
)

_REFUSE: LiteralString = (
    """
WITH gone AS (
  DELETE FROM {s}.worker_jobs_open WHERE id = %(id)s AND epoch = 0 AND executor IS NULL RETURNING *
), given AS (
  SELECT gone.*, 'FAILED' AS new_status, NULL::jsonb AS new_result, %(error)s::jsonb AS new_error,
    false AS new_cancel, """
    + AS_IT_WAS
    + """ FROM gone
), """
    + RELEASE_KEYS
    + FINISHED_COLUMNS
    + " RETURNING *"
)


async def are_any(conn: Connection, schema: Schema) -> bool:
    """Whether there are unrouted jobs, for whomever."""
    return (await fetch(conn, schema, _ARE_ANY))[0]["found"]


async def unrouted(
    conn: Connection,
    schema: Schema,
    *,
    known: Collection[str],
    elsewhere: Collection[str],
    grace: timedelta,
    limit: int = 100,
) -> list[Job]:
    """Lock and return unrouted jobs, oldest first: of ``known`` tasks, and of tasks nobody has heard of.

    ``elsewhere``: tasks to leave alone. ``grace``: how long an unheard-of task may take to become known.
    """
    parameters: dict[str, Any] = {"known": list(known), "elsewhere": list(elsewhere), "limit": limit}
    rows = await fetch(conn, schema, _UNROUTED, parameters | {"grace": grace})
    return [job_from_row(row) for row in rows]


async def refuse(conn: Connection, schema: Schema, job_id: UUID, error: dict[str, str]) -> Job | None:
    """End an unrouted job as FAILED; None when it is not there any more."""
    rows = await fetch(conn, schema, _REFUSE, {"id": job_id, "error": Jsonb(error)})
    return job_from_row(rows[0]) if rows else None
