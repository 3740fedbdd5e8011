"""Ends tries that ran past their time on a worker that does not notice: its loop is blocked, or it hangs."""

from __future__ import annotations

from datetime import timedelta
from typing import LiteralString

from adapter.domain.job import Job
from adapter.store.database import Connection, Schema, fetch
from adapter.store.finishing import ending
from adapter.store.rows import job_from_row

#: The deadline is that of the very claim: a row that was claimed anew meanwhile has another one.
IS_OVERRUN: LiteralString = (
    "status = 'EXECUTING' AND executor = 'local' AND deadline < now() - %(margin)s::interval"
)
_END: LiteralString = (
    """
WITH late AS MATERIALIZED (
  SELECT id FROM {s}.worker_jobs_open
  WHERE """
    + IS_OVERRUN
    + """
  ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM {s}.worker_jobs_open o USING late WHERE o.id = late.id RETURNING o.*
)"""
    + ending(
        "CASE WHEN cancel_requested THEN 'CANCELED' ELSE 'TIMED_OUT' END",
        name="TimedOut",
        message="It ran longer than its max_duration, and its worker did not end it.",
        kind="overrun",
    )
)


async def end_overruns(conn: Connection, schema: Schema, margin: timedelta, limit: int = 500) -> list[Job]:
    """End jobs whose try is over its ``max_duration`` by more than ``margin``; whoever runs them has lost them."""
    return [job_from_row(row) for row in await fetch(conn, schema, _END, {"margin": margin, "limit": limit})]
