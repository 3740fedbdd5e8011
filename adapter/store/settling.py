"""One job under a recall: what its run came to, and the new epoch or the end that follows.

A new epoch opens here when the remote says that the run never started, when it is proven that no run exists, when
a start fence refuses the old run, or when it started and its task is idempotent.
"""

from __future__ import annotations

from typing import Any, LiteralString
from uuid import UUID

from adapter.domain.job import Job
from adapter.store.database import Connection, Schema, fetch
from adapter.store.finishing import FINISHED_COLUMNS, RELEASE_KEYS
from adapter.store.new_epochs import BESIDE, NEW_EPOCH, UNSTARTED, never_started
from adapter.store.reports import HOLDS, Report
from adapter.store.rows import job_from_row

#: The run of a job under a recall has ended without having done its work.
_SETTLED: LiteralString = (
    """
WITH held AS MATERIALIZED (
  SELECT *, %(started)s OR started IS NOT NULL AS began FROM {s}.worker_jobs_open WHERE """
    + HOLDS
    + """ AND recall_id IS NOT NULL AND NOT cancel_requested
    AND (%(status)s = 'CANCELED' OR %(status)s = 'EXPIRED' AND (expires_at IS NULL OR expires_at > now()))
  FOR UPDATE
), old AS MATERIALIZED (
  SELECT held.id, held.epoch, held.executor, %(run_id)s::text AS run_id, held.recall_to, held.recall_id AS recall,
    held.remote_environment AS environment, greatest(held.attempt, COALESCE(%(attempt)s::int, 0)) AS attempt,
    held.began AND r.mode <> 'recall-all' AS hit,
    CASE WHEN held.began THEN 'it was canceled at work' ELSE 'it never started' END AS why,
    CASE WHEN NOT held.began THEN 'moved' WHEN r.mode = 'recall-all' THEN 'moved_running' ELSE 'hit_running_moved' END AS outcome
  FROM held JOIN {s}.recalls r ON r.id = held.recall_id
  WHERE NOT held.began OR held.type = ANY(r.idempotent)
), moved AS (
  UPDATE {s}.worker_jobs_open o SET """
    + NEW_EPOCH
    + """,
    started = CASE WHEN %(started)s THEN COALESCE(o.started, now()) ELSE o.started END,
    tag_held = o.tag_held AND NOT %(started)s
  FROM old WHERE o.id = old.id RETURNING o.*
), ended AS (
  INSERT INTO {s}.remote_runs AS r (executor, run_id, job_id, epoch, environment, ended_at, final_status)
  SELECT old.executor, old.run_id, old.id, old.epoch, old.environment, now(), %(status)s FROM moved m JOIN old ON old.id = m.id
  ON CONFLICT (executor, run_id) DO UPDATE SET ended_at = now(), final_status = EXCLUDED.final_status
)"""
    + BESIDE
    + " SELECT * FROM moved"
)

#: It was canceled at work by us, and must not run a second time.
_HIT_FOR_GOOD: LiteralString = (
    """
WITH gone AS (
  DELETE FROM {s}.worker_jobs_open WHERE """
    + HOLDS
    + """ AND recall_id IS NOT NULL AND NOT cancel_requested AND %(status)s = 'CANCELED'
    AND (%(started)s OR started IS NOT NULL)
    AND NOT EXISTS (SELECT FROM {s}.recalls r WHERE r.id = recall_id AND type = ANY(r.idempotent))
  RETURNING *
), given AS (
  SELECT gone.*, 'CANCELED' AS new_status, NULL::jsonb AS new_result, false AS new_cancel,
    jsonb_build_object('name', 'RecallHitRunning', 'message',
      'It began between our look and our cancel, was canceled at work, and its task is not idempotent.') AS new_error,
    COALESCE(started, now()) AS new_started, 'accepted' AS new_submit_state, %(run_id)s::text AS new_run_id,
    COALESCE(%(attempt)s::int::text, remote_attempt) AS new_remote_attempt,
    greatest(attempt, COALESCE(%(attempt)s::int, 0)) AS new_attempt,
    %(remote_status)s::text AS new_remote_status, false AS new_orphaned
  FROM gone
), ended AS (
  INSERT INTO {s}.remote_runs AS r (executor, run_id, job_id, epoch, environment, ended_at, final_status)
  SELECT executor, %(run_id)s, id, epoch, remote_environment, now(), %(status)s FROM gone
  ON CONFLICT (executor, run_id) DO UPDATE SET ended_at = now(), final_status = EXCLUDED.final_status
), told AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, actor, detail)
  SELECT g.id, g.epoch, 'recall_hit_running', r.actor, jsonb_build_object('recall', r.id, 'from', g.executor,
    'why', 'its task is not idempotent: it ended', 'reason', r.reason)
  FROM gone g LEFT JOIN {s}.recalls r ON r.id = g.recall_id
), kept AS (
  UPDATE {s}.recall_jobs j SET outcome = 'hit_running_canceled', settled_at = now()
  FROM gone g WHERE j.recall_id = g.recall_id AND j.job_id = g.id
), """
    + RELEASE_KEYS
    + FINISHED_COLUMNS
    + " RETURNING *"
)

#: Somebody says it was canceled and not whether it had started: it is looked at.
_DOUBTFUL: LiteralString = (
    """
WITH moved AS (
  UPDATE {s}.worker_jobs_open SET remote_run_id = %(run_id)s, submit_state = 'accepted',
    dispatch_lease = NULL, dispatch_lease_until = NULL, next_try_at = NULL,
    status = CASE WHEN status <> 'PENDING' THEN status WHEN due > now() THEN 'DELAYED' ELSE 'QUEUED' END,
    confirm_at = COALESCE(confirm_at, now())
  WHERE """
    + HOLDS
    + """ AND recall_id IS NOT NULL AND NOT cancel_requested RETURNING *
), bound AS (
  INSERT INTO {s}.remote_runs (executor, run_id, job_id, epoch, environment)
  SELECT executor, %(run_id)s, id, epoch, remote_environment FROM moved ON CONFLICT DO NOTHING
)
SELECT id FROM moved
"""
)

#: A dispatcher has proven that the epoch has no run.
_PROVEN_ABSENT: LiteralString = (
    never_started(
        "its submit never arrived",
        """id = %(id)s AND epoch = %(epoch)s AND dispatch_lease = %(lease)s AND submit_state = 'unknown'
    AND recall_id IS NOT NULL AND NOT cancel_requested""",
    )
    + BESIDE
    + " SELECT * FROM moved"
)

#: A start fence refuses the old run from now on, whatever became of its submit.
_FENCED: LiteralString = (
    never_started(
        "a start fence refuses the old run",
        """id = %(id)s AND epoch = %(epoch)s AND NOT cancel_requested
    AND EXISTS (SELECT FROM {s}.recalls r WHERE r.id = recall_id)
    AND (%(run_id)s::text IS NULL OR remote_run_id IS NULL OR remote_run_id = %(run_id)s) AND """
        + UNSTARTED,
    )
    + """, unwanted AS (
  INSERT INTO {s}.remote_runs AS r (executor, run_id, job_id, epoch, environment, wanted)
  SELECT executor, COALESCE(run_id, %(run_id)s), id, epoch, environment, 'canceled' FROM old
  WHERE COALESCE(run_id, %(run_id)s) IS NOT NULL
  ON CONFLICT (executor, run_id) DO UPDATE SET wanted = 'canceled' WHERE r.ended_at IS NULL
)"""
    + BESIDE
    + " SELECT * FROM moved"
)


async def _one(
    conn: Connection, schema: Schema, template: LiteralString, parameters: dict[str, Any]
) -> Job | None:
    rows = await fetch(conn, schema, template, parameters)
    return job_from_row(rows[0]) if rows else None


async def settled(conn: Connection, schema: Schema, report: Report) -> Job | None:
    """Open a new epoch for a job under a recall whose run ended, never started, or started and may move.

    Returns None when it is under no recall, or must not move.
    """
    return await _one(conn, schema, _SETTLED, report.parameters())


async def hit_for_good(conn: Connection, schema: Schema, report: Report) -> Job | None:
    """End a job under a recall as CANCELED whose run had started and whose task is not idempotent."""
    return await _one(conn, schema, _HIT_FOR_GOOD, report.parameters())


async def doubtful(conn: Connection, schema: Schema, report: Report) -> bool:
    """Have a job under a recall looked at: it was canceled, and nobody says whether it had started."""
    return bool(await fetch(conn, schema, _DOUBTFUL, report.parameters()))


async def proven_absent(
    conn: Connection, schema: Schema, job_id: UUID, epoch: int, lease: UUID
) -> Job | None:
    """Open a new epoch for a job under a recall of which it is proven that its submit never arrived."""
    return await _one(conn, schema, _PROVEN_ABSENT, {"id": job_id, "epoch": epoch, "lease": lease})


async def fenced(
    conn: Connection, schema: Schema, job_id: UUID, epoch: int, run_id: str | None = None
) -> Job | None:
    """Open a new epoch for a job under a recall that has not claimed its start: its fence refuses the old run.

    ``run_id``: only while this is its run, or none is known. Returns None when it is under no recall.
    """
    return await _one(conn, schema, _FENCED, {"id": job_id, "epoch": epoch, "run_id": run_id})
