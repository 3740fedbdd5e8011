"""A person ends a wait that no machine can end: what became of an uncertain submit is now assumed."""

from __future__ import annotations

from typing import LiteralString
from uuid import UUID

from adapter.domain.job import Job
from adapter.store.database import Connection, Schema, fetch
from adapter.store.finishing import FINISHED_COLUMNS, RELEASE_KEYS
from adapter.store.rows import job_from_row

_UNCERTAIN: LiteralString = """id = %(id)s AND executor <> 'local' AND submit_state IN ('unknown', 'accepted')
    AND (dispatch_lease_until IS NULL OR dispatch_lease_until < now())"""

_NOT_STARTED: LiteralString = (
    """
WITH moved AS (
  UPDATE {s}.worker_jobs_open SET epoch = epoch + 1, status = 'PENDING', waiting_for = NULL, submit_state = 'never',
    submit_tries = 0, first_try_at = NULL, next_try_at = now(), dispatch_lease = NULL, dispatch_lease_until = NULL,
    remote_run_id = NULL, remote_status = NULL, remote_attempt = NULL, remote_event_at = NULL, remote_rank = 0,
    remote_environment = NULL, confirm_at = NULL, updated_at = now()
  WHERE """
    + _UNCERTAIN
    + """ AND started IS NULL AND NOT cancel_requested RETURNING *
), unwanted AS (
  UPDATE {s}.remote_runs r SET wanted = 'canceled' FROM moved
  WHERE r.job_id = moved.id AND r.epoch < moved.epoch AND r.ended_at IS NULL
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, actor, detail)
  SELECT id, epoch, 'assumed_not_started', %(actor)s, jsonb_build_object('reason', %(reason)s::text) FROM moved
)
SELECT * FROM moved
"""
)

_LOST: LiteralString = (
    """
WITH gone AS (
  DELETE FROM {s}.worker_jobs_open WHERE """
    + _UNCERTAIN
    + """ RETURNING *
), given AS (
  SELECT gone.*, 'SYSTEM_FAILURE' AS new_status, NULL::jsonb AS new_result, false AS new_cancel,
    jsonb_build_object('name', 'AssumedLost', 'message', %(reason)s::text) AS new_error, started AS new_started, attempt AS new_attempt,
    submit_state AS new_submit_state, remote_run_id AS new_run_id, remote_attempt AS new_remote_attempt,
    remote_status AS new_remote_status, true AS new_orphaned
  FROM gone
), unwanted AS (
  UPDATE {s}.remote_runs r SET wanted = 'canceled' FROM gone WHERE r.job_id = gone.id AND r.ended_at IS NULL
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, actor, detail)
  SELECT id, epoch, 'assumed_lost', %(actor)s, jsonb_build_object('reason', %(reason)s::text) FROM given
), """
    + RELEASE_KEYS
    + FINISHED_COLUMNS
    + " RETURNING *"
)


async def assume_not_started(
    conn: Connection, schema: Schema, job_id: UUID, *, reason: str, actor: str
) -> Job | None:
    """Open a new epoch: the person is sure that no run of the old one has started or will."""
    rows = await fetch(conn, schema, _NOT_STARTED, {"id": job_id, "reason": reason, "actor": actor})
    return job_from_row(rows[0]) if rows else None


async def assume_lost(
    conn: Connection, schema: Schema, job_id: UUID, *, reason: str, actor: str
) -> Job | None:
    """End the job as an orphan: if its run reports after all, that still counts."""
    rows = await fetch(conn, schema, _LOST, {"id": job_id, "reason": reason, "actor": actor})
    return job_from_row(rows[0]) if rows else None
