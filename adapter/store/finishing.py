"""The one statement that ends jobs: out of the open table, into the finished one, keys released.

Every ending statement has a CTE ``given`` with the deleted open rows and their ``new_*`` columns; the
pieces here do the rest (`USUAL_END` is a CTE, part of `RELEASE_KEYS`). A finished row is kept at least as long as its idempotency key is held.
"""

from __future__ import annotations

from typing import LiteralString

#: Columns that move over as they are.
_KEPT: LiteralString = """id, type, tag, user_id, data, executor, route_reason, epoch, queue,
  concurrency_key, priority, due, expires_at, max_duration, max_attempts, retry, metadata,
  tags, remote_environment, schedule_id, idempotency_key, submit_group, first_try_at, worker_id, claim_number, last_synced_at, parent_id, root_id, batch_id, persistent, extra, created_at"""

#: The ``new_*`` columns of a job that ends where our own workers or nobody had it.
AS_IT_WAS: LiteralString = """started AS new_started, attempt AS new_attempt, submit_state AS new_submit_state,
  remote_run_id AS new_run_id, remote_attempt AS new_remote_attempt, remote_status AS new_remote_status,
  false AS new_orphaned"""

#: Behind it stands what is told to others of ``given`` while anybody listens (`Schema.tell`), else nothing.
#: Until when a job is kept that says nothing of it, and with which partition it goes: the same for all rows
#: of a statement, so it is looked up once.
USUAL_END: LiteralString = """usual AS MATERIALIZED (
  SELECT week.later AS until, (SELECT min(p.day) FROM {s}.finished_partitions p
    WHERE p.day > (week.later AT TIME ZONE 'UTC')::date OR p.day = '9999-12-31') AS day
  FROM (SELECT now() + interval '7 days' AS later) AS week
){told}"""

#: Releases the idempotency key of a failed-like end (Trigger.dev's rule) while it is still this job's.
RELEASE_KEYS: LiteralString = (
    USUAL_END
    + """, released AS (
  DELETE FROM {s}.job_keys k USING given g
  WHERE g.idempotency_key IS NOT NULL AND k.task = g.type AND k.key = 'key:' || g.idempotency_key
    AND k.job_id = g.id AND NOT g.new_orphaned
    AND g.new_status IN ('FAILED', 'CRASHED', 'SYSTEM_FAILURE', 'TIMED_OUT', 'EXPIRED')
)"""
)

_REMOVE_AT: LiteralString = """CASE
    WHEN NOT g.persistent AND g.keep_for IS NULL AND g.idempotency_key IS NULL
      AND g.keep_failed_for IS NULL AND g.remove_at IS NULL THEN usual.until
    WHEN g.persistent AND g.keep_for IS NULL THEN NULL
    ELSE greatest(g.remove_at,
      now() + COALESCE(g.keep_for, CASE WHEN g.remove_at IS NULL THEN interval '7 days' ELSE interval '0' END),
      CASE WHEN g.new_status NOT IN ('COMPLETED', 'CANCELED') THEN now() + g.keep_failed_for END,
      (SELECT k.expires_at FROM {s}.job_keys k WHERE g.idempotency_key IS NOT NULL
        AND k.task = g.type AND k.key = 'key:' || g.idempotency_key AND k.job_id = g.id
        AND (g.new_status IN ('COMPLETED', 'CANCELED') OR g.new_orphaned)))
  END"""

#: Inserts ``given`` into the finished table.
FINISHED_COLUMNS: LiteralString = (
    "INSERT INTO {s}.worker_jobs_finished ("
    + _KEPT
    + """, status, success, result, error, cancel_requested, started, attempt, submit_state, remote_run_id,
  remote_attempt, remote_status, orphaned, finished, updated_at, remove_at, drop_on)
SELECT """
    + _KEPT
    + """, new_status, new_status = 'COMPLETED', new_result, new_error,
  cancel_requested OR new_cancel, new_started, new_attempt, new_submit_state, new_run_id, new_remote_attempt,
  new_remote_status, new_orphaned, now(), now(), kept.until,
  CASE WHEN kept.until = usual.until THEN usual.day ELSE (SELECT min(p.day) FROM {s}.finished_partitions p
    WHERE p.day > (kept.until AT TIME ZONE 'UTC')::date OR p.day = '9999-12-31') END
FROM given g CROSS JOIN usual CROSS JOIN LATERAL (SELECT """
    + _REMOVE_AT
    + """ AS until) AS kept"""
)


def ending(
    status: LiteralString, *, name: LiteralString, message: LiteralString, kind: LiteralString = ""
) -> LiteralString:
    """Return the rest of a statement that ends the rows which its CTE ``gone`` has deleted; it returns them.

    ``status``: an expression over the row. ``name``, ``message``: of the error. ``kind``: of the event, if it leaves one.
    """
    noted: LiteralString = (
        """noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, detail)
  SELECT id, epoch, '"""
        + kind
        + """', jsonb_build_object('worker', worker_id, 'attempt', attempt) FROM given
), """
    )
    return (
        """, given AS (
  SELECT gone.*, """
        + status
        + """ AS new_status, NULL::jsonb AS new_result, false AS new_cancel,
    jsonb_build_object('name', '"""
        + name
        + "', 'message', '"
        + message
        + """') AS new_error, """
        + AS_IT_WAS
        + """ FROM gone
), """
        + (noted if kind else "")
        + RELEASE_KEYS
        + FINISHED_COLUMNS
        + " RETURNING *"
    )
