"""What remotes report, written to rows: accepted, progress, ends. Fenced by (epoch, run id)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from adapter.domain.job import Job, JobStatus
from adapter.domain.transitions import REPORT, START
from adapter.store.database import FLUSHED, Connection, Schema, fetch
from adapter.store.finishing import FINISHED_COLUMNS, RELEASE_KEYS
from adapter.store.rows import job_from_row

HOLDS: LiteralString = """id = %(id)s AND epoch = %(epoch)s AND executor = %(executor)s
    AND (remote_run_id IS NULL OR remote_run_id = %(run_id)s)
    AND NOT EXISTS (SELECT FROM {s}.remote_runs AS known WHERE known.executor = %(executor)s
      AND known.run_id = %(run_id)s AND known.role <> 'bound')"""

_BIND: LiteralString = """bound AS (
  INSERT INTO {s}.remote_runs AS r (executor, run_id, job_id, epoch, environment, started_at, wanted)
  SELECT %(executor)s, %(run_id)s, id, epoch, remote_environment, started,
    CASE WHEN cancel_requested THEN 'canceled' END FROM moved
  ON CONFLICT (executor, run_id) DO UPDATE SET
    started_at = COALESCE(r.started_at, EXCLUDED.started_at), wanted = COALESCE(r.wanted, EXCLUDED.wanted),
    missing_since = NULL
)"""

_ACCEPTED: LiteralString = (
    """
WITH moved AS (
  UPDATE {s}.worker_jobs_open SET
    remote_run_id = %(run_id)s, submit_state = 'accepted',
    status = CASE WHEN status <> 'PENDING' THEN status WHEN due > now() THEN 'DELAYED' ELSE 'QUEUED' END,
    remote_status = COALESCE(remote_status, 'PENDING'),
    dispatch_lease = NULL, dispatch_lease_until = NULL, next_try_at = NULL, updated_at = now()
  WHERE """
    + HOLDS
    + """ RETURNING *
), """
    + _BIND
    + " SELECT * FROM moved"
)

#: Progress moves a row forward by (event time, rank), or to whatever a retrieve saw that was begun
#: after the row last changed.
_PROGRESS: LiteralString = (
    """
WITH moved AS (
  UPDATE {s}.worker_jobs_open SET
    status = %(status)s, waiting_for = CASE WHEN %(status)s = 'WAITING' THEN 'executor' END,
    remote_run_id = %(run_id)s, submit_state = 'accepted', remote_status = %(remote_status)s,
    remote_attempt = COALESCE(%(attempt)s::int::text, remote_attempt),
    remote_event_at = COALESCE(%(at)s, remote_event_at), remote_rank = %(rank)s,
    attempt = greatest(attempt, COALESCE(%(attempt)s::int, 0)),
    started = CASE WHEN %(started)s THEN COALESCE(started, now()) ELSE started END,
    tag_held = tag_held AND NOT %(started)s,
    -- A hook speaks inside the run, so a retrieve may come before the end it told of: it is asked again,
    -- unless that attempt is over.
    confirm_at = CASE WHEN %(confirm)s THEN COALESCE(confirm_at, now())
      WHEN %(retrieved)s AND (%(attempt)s::int::text <> remote_attempt OR %(status)s NOT IN ('EXECUTING', 'WAITING')) THEN NULL
      WHEN %(retrieved)s THEN least(confirm_at, CASE WHEN confirm_at IS NOT NULL THEN now() + interval '2 seconds' END)
      ELSE confirm_at END,
    dispatch_lease = NULL, dispatch_lease_until = NULL, next_try_at = NULL,
    last_synced_at = now(), updated_at = now()
  WHERE """
    + HOLDS
    + """ AND status = ANY(%(sources)s)
    AND (%(read_began)s::timestamptz >= updated_at
         OR %(read_began)s IS NULL AND CASE
            WHEN %(at)s::timestamptz IS NULL OR remote_event_at IS NULL THEN %(rank)s > remote_rank
            ELSE (%(at)s, %(rank)s) > (remote_event_at, remote_rank) END)
    AND NOT (submit_state = 'accepted' AND remote_status IS NOT DISTINCT FROM %(remote_status)s
         AND status = %(status)s AND remote_attempt IS NOT DISTINCT FROM %(attempt)s::int::text AND NOT %(confirm)s)
  RETURNING *
), """
    + _BIND
    + " SELECT * FROM moved"
)

_FINISH: LiteralString = (
    """
WITH gone AS (
  DELETE FROM {s}.worker_jobs_open WHERE """
    + HOLDS
    + """
    -- What we canceled to take it back is no end; what somebody else wanted canceled is.
    AND NOT (recall_id IS NOT NULL AND NOT cancel_requested AND %(status)s = 'CANCELED')
    AND NOT (%(orphaned)s AND updated_at > %(read_began)s)
  RETURNING *
), given AS (
  SELECT gone.*, %(status)s::text AS new_status, %(result)s::jsonb AS new_result,
    COALESCE(%(error)s::jsonb, CASE WHEN %(status)s <> 'COMPLETED' THEN error END) AS new_error,
    false AS new_cancel, CASE WHEN %(started)s THEN COALESCE(started, now()) ELSE started END AS new_started,
    'accepted' AS new_submit_state, %(run_id)s::text AS new_run_id,
    COALESCE(%(attempt)s::int::text, remote_attempt) AS new_remote_attempt,
    greatest(attempt, COALESCE(%(attempt)s::int, 0)) AS new_attempt,
    %(remote_status)s::text AS new_remote_status, %(orphaned)s::boolean AS new_orphaned
  FROM gone
), ended AS (
  INSERT INTO {s}.remote_runs AS r (executor, run_id, job_id, epoch, environment, ended_at, final_status)
  SELECT %(executor)s, %(run_id)s, id, epoch, remote_environment, CASE WHEN NOT %(orphaned)s THEN now() END, %(status)s
  FROM gone
  ON CONFLICT (executor, run_id) DO UPDATE SET
    ended_at = EXCLUDED.ended_at, final_status = EXCLUDED.final_status
), """
    + RELEASE_KEYS
    + FINISHED_COLUMNS
    + " RETURNING *"
)

#: An orphan's own run reports after all: the one case in which a terminal row changes.
_REVIVE: LiteralString = """
WITH given AS (
  UPDATE {s}.worker_jobs_finished SET status = %(status)s, success = %(status)s = 'COMPLETED', result = %(result)s,
    error = %(error)s, remote_run_id = %(run_id)s, remote_status = %(remote_status)s, orphaned = false, updated_at = now()
  WHERE id = %(id)s AND epoch = %(epoch)s AND executor = %(executor)s AND orphaned
    AND (remote_run_id IS NULL OR remote_run_id = %(run_id)s)
  RETURNING *
), released AS (
  DELETE FROM {s}.job_keys k USING given g
  WHERE g.idempotency_key IS NOT NULL AND k.task = g.type AND k.key = 'key:' || g.idempotency_key
    AND k.job_id = g.id AND g.status IN ('FAILED', 'CRASHED', 'SYSTEM_FAILURE', 'TIMED_OUT', 'EXPIRED')
), ended AS (
  INSERT INTO {s}.remote_runs AS r (executor, run_id, job_id, epoch, environment, ended_at, final_status)
  SELECT executor, remote_run_id, id, epoch, remote_environment, now(), status FROM given
  ON CONFLICT (executor, run_id) DO UPDATE SET ended_at = now(), final_status = EXCLUDED.final_status
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, detail)
  SELECT id, epoch, 'revived', jsonb_build_object('status', status) FROM given
)
SELECT * FROM given
"""

#: The remote let it expire before the job's own expiry: it is known never to have started.
_EXPIRED_THERE: LiteralString = (
    """
WITH moved AS (
  UPDATE {s}.worker_jobs_open SET epoch = epoch + 1, status = 'PENDING', waiting_for = NULL,
    submit_state = 'never', submit_tries = 0, first_try_at = NULL, next_try_at = now(),
    dispatch_lease = NULL, dispatch_lease_until = NULL,
    remote_run_id = NULL, remote_status = NULL, remote_attempt = NULL, remote_event_at = NULL,
    remote_rank = 0, remote_environment = NULL, confirm_at = NULL, updated_at = now()
  WHERE """
    + HOLDS
    + """ AND started IS NULL AND (expires_at IS NULL OR expires_at > now())
    AND NOT cancel_requested AND recall_id IS NULL
  RETURNING *
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, detail)
  SELECT id, epoch, 'redispatched', jsonb_build_object('why', 'it expired at the remote before its own time') FROM moved
), ended AS (
  UPDATE {s}.remote_runs SET ended_at = now(), final_status = 'EXPIRED'
  WHERE executor = %(executor)s AND run_id = %(run_id)s
)
SELECT * FROM moved
"""
)

_START: LiteralString = (
    """
WITH moved AS (
  UPDATE {s}.worker_jobs_open SET
    status = 'EXECUTING', waiting_for = NULL, remote_run_id = %(run_id)s, submit_state = 'accepted',
    remote_status = 'EXECUTING', remote_attempt = %(attempt)s::int::text, attempt = greatest(attempt, %(attempt)s),
    started = COALESCE(started, now()), tag_held = false, remote_rank = greatest(remote_rank, %(rank)s),
    dispatch_lease = NULL, dispatch_lease_until = NULL, next_try_at = NULL,
    last_synced_at = now(), updated_at = now()
  WHERE id = %(id)s AND epoch = %(epoch)s AND executor <> 'local' AND status = ANY(%(sources)s)
    AND (remote_run_id IS NULL OR remote_run_id = %(run_id)s)
    AND NOT cancel_requested AND recall_id IS NULL AND """
    + FLUSHED
    + """
  RETURNING *
), bound AS (
  INSERT INTO {s}.remote_runs AS r (executor, run_id, job_id, epoch, environment, started_at)
  SELECT executor, %(run_id)s, id, epoch, remote_environment, now() FROM moved
  ON CONFLICT (executor, run_id) DO UPDATE SET started_at = COALESCE(r.started_at, now())
)
SELECT * FROM moved
"""
)

_STRANGER: LiteralString = """
WITH known AS (
  INSERT INTO {s}.remote_runs (executor, run_id, job_id, epoch, environment, role, wanted)
  VALUES (%(executor)s, %(run_id)s, %(id)s, %(epoch)s, %(environment)s, 'duplicate', 'canceled')
  ON CONFLICT (executor, run_id) DO UPDATE SET wanted = 'canceled'
    WHERE {s}.remote_runs.wanted IS NULL AND {s}.remote_runs.ended_at IS NULL
  RETURNING job_id
)
INSERT INTO {s}.job_events (job_id, epoch, kind, detail)
SELECT %(id)s, %(epoch)s, 'duplicate_run', jsonb_build_object('run', %(run_id)s::text) FROM known
"""

_NOTE: LiteralString = """
INSERT INTO {s}.job_events (job_id, epoch, kind, actor, detail)
VALUES (%(id)s, %(epoch)s, %(kind)s, %(actor)s, %(detail)s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report about one run, ready to be written."""

    job_id: UUID
    epoch: int
    executor: str
    run_id: str
    status: JobStatus
    remote_status: str
    rank: int = 0
    at: datetime | None = None
    attempt: int | None = None
    started: bool = False
    result: Any = None
    error: dict[str, Any] | None = None
    read_began: datetime | None = None
    confirm: bool = False
    orphaned: bool = False

    def parameters(self) -> dict[str, Any]:
        """Return what the statements of this module read."""
        return {
            "id": self.job_id,
            "epoch": self.epoch,
            "executor": self.executor,
            "run_id": self.run_id,
            "status": self.status.value,
            "remote_status": self.remote_status,
            "rank": self.rank,
            "at": self.at,
            "attempt": self.attempt,
            "started": self.started,
            "result": None if self.result is None else Jsonb(self.result),
            "error": None if self.error is None else Jsonb(self.error),
            "read_began": self.read_began,
            "retrieved": self.read_began is not None,
            "confirm": self.confirm,
            "orphaned": self.orphaned,
        }


async def _moved(
    conn: Connection, schema: Schema, template: LiteralString, parameters: dict[str, Any]
) -> Job | None:
    rows = await fetch(conn, schema, template, parameters)
    return job_from_row(rows[0]) if rows else None


async def accepted(
    conn: Connection, schema: Schema, *, job_id: UUID, epoch: int, executor: str, run_id: str
) -> Job | None:
    """Bind the run that a submit came back with; None when the row is not this run's any more."""
    parameters = {"id": job_id, "epoch": epoch, "executor": executor, "run_id": run_id}
    return await _moved(conn, schema, _ACCEPTED, parameters)


async def progress(conn: Connection, schema: Schema, report: Report) -> Job | None:
    """Move an open row to what the run reports; None when that is nothing new."""
    return await _moved(conn, schema, _PROGRESS, report.parameters() | {"sources": REPORT.guard})


async def finish(conn: Connection, schema: Schema, report: Report) -> Job | None:
    """End the job as its run ended; None when the row is not this run's any more."""
    return await _moved(conn, schema, _FINISH, report.parameters())


async def revive(conn: Connection, schema: Schema, report: Report) -> Job | None:
    """Replace an orphan's end by what its own run says."""
    return await _moved(conn, schema, _REVIVE, report.parameters())


async def expired_there(conn: Connection, schema: Schema, report: Report) -> Job | None:
    """Open a new epoch for a job that the remote expired before its time."""
    return await _moved(conn, schema, _EXPIRED_THERE, report.parameters())


async def start(
    conn: Connection, schema: Schema, *, job_id: UUID, epoch: int, run_id: str, attempt: int, rank: int
) -> Job | None:
    """The start fence: bind the run and let it begin. None is a refusal."""
    parameters = {"id": job_id, "epoch": epoch, "run_id": run_id, "attempt": attempt, "rank": rank}
    return await _moved(conn, schema, _START, parameters | {"sources": START.guard})


async def stranger(
    conn: Connection,
    schema: Schema,
    *,
    job_id: UUID,
    epoch: int,
    executor: str,
    run_id: str,
    environment: str | None,
) -> None:
    """Record a run that is not the job's: it is wanted canceled, and never applied."""
    parameters = {
        "id": job_id,
        "epoch": epoch,
        "executor": executor,
        "run_id": run_id,
        "environment": environment,
    }
    await fetch(conn, schema, _STRANGER, parameters)


async def note(
    conn: Connection,
    schema: Schema,
    *,
    job_id: UUID,
    epoch: int,
    kind: str,
    detail: dict[str, Any],
    actor: str | None = None,
) -> None:
    """Append one event to the job's history."""
    await fetch(
        conn,
        schema,
        _NOTE,
        {"id": job_id, "epoch": epoch, "kind": kind, "actor": actor, "detail": Jsonb(detail)},
    )
