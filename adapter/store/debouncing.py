"""Putting a job off that has not started, again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from adapter.domain.debounce import Debounce
from adapter.domain.job import Job
from adapter.store.inserting import UNSTARTED
from adapter.store.rows import found, job_from_row
from adapter.store.steps import Statement, Steps

#: What the call did not say stays as it was.
_LATEST: LiteralString = """, data = %(data)s::jsonb, metadata = COALESCE(%(metadata)s::jsonb, o.metadata),
  tags = COALESCE(%(tags)s::text[], o.tags), max_attempts = COALESCE(%(max_attempts)s::int, o.max_attempts),
  max_duration = COALESCE(%(max_duration)s::interval, o.max_duration),
  extra = CASE WHEN %(machine)s::text IS NULL THEN o.extra
    ELSE COALESCE(o.extra, '{}') || jsonb_build_object('machine', %(machine)s::text) END"""

_HELD: LiteralString = (
    """WHERE o.id = %(id)s AND o.status = 'DELAYED' AND o.tag_held AND """
    + UNSTARTED
    + """ AND (%(longest)s::interval IS NULL OR now() + %(delay)s <= o.created_at + %(longest)s)"""
)


def _putting_off(latest: LiteralString) -> LiteralString:
    return (
        """
WITH written AS (
  UPDATE {s}.worker_jobs_open o SET due = now() + %(delay)s,
    expires_at = o.expires_at + (now() + %(delay)s - o.due), updated_at = now()"""
        + latest
        + " "
        + _HELD
        + """ RETURNING o.*
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, detail)
  SELECT id, epoch, 'debounced', jsonb_build_object('due', due) FROM written
)
SELECT * FROM written
"""
    )


_FIRST_STAYS: LiteralString = _putting_off("")
_LAST_COUNTS: LiteralString = _putting_off(_LATEST)

_LET_GO: LiteralString = """
UPDATE {s}.worker_jobs_open SET tag_held = false, updated_at = now() WHERE id = %(id)s AND tag_held
"""


def put_off(holder: UUID, debounce: Debounce, payload: str, options: Mapping[str, Any]) -> Steps[Job | None]:
    """Put the job off by the debounce's delay from now; None when it has started, is due, or may wait no longer.

    ``payload`` (JSON text) and what ``options`` say take the place of the job's own when the last call counts.
    """
    parameters: dict[str, Any] = {"id": holder, "delay": debounce.delay, "longest": debounce.longest}
    if debounce.trailing:
        metadata, extra = options.get("metadata"), options.get("extra")
        parameters |= {
            "data": payload,
            "metadata": None if metadata is None else Jsonb(dict(metadata)),
            "tags": list(options["tags"]) if options.get("tags") else None,
            "max_attempts": options.get("max_attempts"),
            "max_duration": options.get("max_duration"),
            "machine": extra.get("machine") if extra else None,
        }
    rows = yield Statement(_LAST_COUNTS if debounce.trailing else _FIRST_STAYS, parameters)
    return found(job_from_row(rows[0])) if rows else None


def let_go(holder: UUID) -> Steps[None]:
    """End the job's hold of its tag: it starts as it is, and the next call makes a new one."""
    yield Statement(_LET_GO, {"id": holder})
