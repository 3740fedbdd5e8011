"""Finding jobs, by id and by what they hold, and ending the ones nobody was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from adapter.domain.job import Job, NewJob
from adapter.domain.transitions import CANCEL_UNGIVEN
from adapter.store.database import Connection, Schema, fetch
from adapter.store.finishing import AS_IT_WAS, FINISHED_COLUMNS, RELEASE_KEYS
from adapter.store.rows import job_from_row
from adapter.store.steps import Row, Statement, Steps

_HELD: LiteralString = """
SELECT k.task AS type, k.key AS held, k.job_id FROM {s}.job_keys k
WHERE (k.task, k.key) IN (SELECT * FROM unnest(%(key_types)s::text[], %(keys)s::text[])) AND k.expires_at > now()
UNION ALL
SELECT type, 'tag:' || tag, id FROM {s}.worker_jobs_open
WHERE (type, tag) IN (SELECT * FROM unnest(%(tag_types)s::text[], %(tags)s::text[])) AND tag_held
"""

_FREE_KEYS: LiteralString = """
DELETE FROM {s}.job_keys k WHERE k.job_id = ANY(%(ids)s)
  AND NOT EXISTS (SELECT FROM {s}.worker_jobs_open o WHERE o.id = k.job_id)
  AND NOT EXISTS (SELECT FROM {s}.worker_jobs_finished f WHERE f.id = k.job_id)
"""

_OPEN_BY_ID: LiteralString = "SELECT * FROM {s}.worker_jobs_open WHERE id = ANY(%(ids)s)"
_FINISHED_BY_ID: LiteralString = "SELECT * FROM {s}.worker_jobs_finished WHERE id = ANY(%(ids)s)"


@dataclass(frozen=True, slots=True)
class Holder:
    """A job that holds a key or tag of a new one. ``by``: request, throttle, key or tag."""

    job: Job
    by: str


def find_held(jobs: Sequence[NewJob]) -> Steps[dict[UUID, Holder]]:
    """Return, for each job whose key or tag is held, who holds it."""
    keys = [(job.terms.type, key) for job in jobs for key in job.terms.keys]
    tags = [(job.terms.type, job.terms.tag) for job in jobs if job.terms.tag is not None]
    if not (keys or tags):
        return {}
    rows = yield Statement(
        _HELD,
        {
            "key_types": [each[0] for each in keys],
            "keys": [each[1] for each in keys],
            "tag_types": [each[0] for each in tags],
            "tags": [each[1] for each in tags],
        },
    )
    holders: dict[tuple[str, str], UUID] = {(row["type"], row["held"]): row["job_id"] for row in rows}
    held = yield from by_ids(list(holders.values()))
    gone = [
        holder for (_, name), holder in holders.items() if not name.startswith("tag:") and holder not in held
    ]
    if gone:
        # The job is past its retention: its key holds nothing any more.
        yield Statement(_FREE_KEYS, {"ids": gone})
    result: dict[UUID, Holder] = {}
    for job in jobs:
        tag = [] if job.terms.tag is None else [f"tag:{job.terms.tag}"]
        for name in (*job.terms.keys, *tag):
            holder = held.get(holders.get((job.terms.type, name), UUID(int=0)))
            if holder is not None:
                result[job.id] = Holder(holder, name.partition(":")[0])
                break
    return result


def by_ids(ids: Sequence[UUID]) -> Steps[dict[UUID, Job]]:
    """Return jobs by id, open or finished. Two statements in this order: a job moves only one way."""
    result: dict[UUID, Job] = {}
    if not ids:
        return result
    rows: Sequence[Row] = yield Statement(_OPEN_BY_ID, {"ids": list(ids)})
    result.update((row["id"], job_from_row(row)) for row in rows)
    left = [each for each in ids if each not in result]
    if left:
        rows = yield Statement(_FINISHED_BY_ID, {"ids": left})
        result.update((row["id"], job_from_row(row)) for row in rows)
    return result


_CANCEL_UNGIVEN: LiteralString = (
    """
WITH gone AS (
  DELETE FROM {s}.worker_jobs_open
  WHERE id = %(id)s AND status = ANY(%(sources)s)
    -- A local job between two tries is in nobody's hands.
    AND (started IS NULL OR executor = 'local' AND COALESCE(waiting_for IN ('executor', 'key')
      OR waiting_for IN ('children', 'token') AND worker_id IS NULL, true))
    AND (executor IS NULL OR executor = 'local'
         OR (submit_state = 'never' AND dispatch_lease IS NULL))
  RETURNING *
), given AS (
  SELECT gone.*, 'CANCELED' AS new_status, NULL::jsonb AS new_result,
    jsonb_build_object('name', 'Canceled', 'message', %(reason)s::text) AS new_error, true AS new_cancel,
    """
    + AS_IT_WAS
    + """ FROM gone
), """
    + RELEASE_KEYS
    + """, noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, actor, detail)
  SELECT id, epoch, 'canceled', %(actor)s, jsonb_build_object('reason', %(reason)s::text) FROM given
), below AS (
  INSERT INTO {s}.family_cancels (job_id, reason, actor)
  SELECT id, %(reason)s, %(actor)s FROM given WHERE started IS NOT NULL ON CONFLICT DO NOTHING
)
"""
    + FINISHED_COLUMNS
    + " RETURNING *"
)

_REQUEST_CANCEL: LiteralString = """
WITH asked AS (
  UPDATE {s}.worker_jobs_open SET cancel_requested = true, updated_at = now()
  WHERE id = %(id)s AND NOT cancel_requested RETURNING *
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, actor, detail)
  SELECT id, epoch, 'cancel_requested', %(actor)s, jsonb_build_object('reason', %(reason)s::text) FROM asked
), below AS (
  INSERT INTO {s}.family_cancels (job_id, reason, actor)
  SELECT id, %(reason)s, %(actor)s FROM asked WHERE started IS NOT NULL ON CONFLICT DO NOTHING
), wanted AS (
  UPDATE {s}.remote_runs r SET wanted = 'canceled' FROM asked
  WHERE r.job_id = asked.id AND r.ended_at IS NULL
)
SELECT * FROM asked
"""


async def cancel(conn: Connection, schema: Schema, job_id: UUID, *, reason: str, actor: str) -> Job | None:
    """End the job if no executor was ever given it, else record the wish. Returns it as it now is.

    Returns None when there is no such job. A job that has ended is returned unchanged.
    """
    parameters: dict[str, Any] = {"id": job_id, "reason": reason, "actor": actor}
    rows = await fetch(conn, schema, _CANCEL_UNGIVEN, parameters | {"sources": CANCEL_UNGIVEN.guard})
    if not rows:
        rows = await fetch(conn, schema, _REQUEST_CANCEL, parameters)
        if rows:
            # It may have left its holder between the two looks; whoever takes it from now on knows.
            ended = await fetch(conn, schema, _CANCEL_UNGIVEN, parameters | {"sources": CANCEL_UNGIVEN.guard})
            rows = ended or rows
    if not rows:
        rows = await fetch(conn, schema, _OPEN_BY_ID, {"ids": [job_id]})
    if not rows:
        rows = await fetch(conn, schema, _FINISHED_BY_ID, {"ids": [job_id]})
    return job_from_row(rows[0]) if rows else None


async def get(conn: Connection, schema: Schema, job_id: UUID) -> Job | None:
    """Return the job, open or finished, or None."""
    rows = await fetch(conn, schema, _OPEN_BY_ID, {"ids": [job_id]})
    if not rows:
        rows = await fetch(conn, schema, _FINISHED_BY_ID, {"ids": [job_id]})
    return job_from_row(rows[0]) if rows else None
