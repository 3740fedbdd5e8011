"""What a statement is made of that opens a new epoch for a job that comes back."""

from __future__ import annotations

from typing import LiteralString

#: No try has left: nobody was given it.
UNSENT: LiteralString = (
    "status IN ('PENDING', 'DELAYED') AND submit_state = 'never' AND dispatch_lease IS NULL"
)

UNSTARTED: LiteralString = "started IS NULL AND status IN ('PENDING', 'DELAYED', 'QUEUED')"


#: From ``old``: attempt, recall_to.
NEW_EPOCH: LiteralString = """
    epoch = o.epoch + 1, executor = old.recall_to, submit_state = 'never', submit_tries = 0,
    dispatch_lease = NULL, dispatch_lease_until = NULL, first_try_at = NULL, remote_environment = NULL,
    remote_run_id = NULL, remote_status = NULL, remote_attempt = NULL, remote_event_at = NULL, remote_rank = 0,
    confirm_at = NULL, next_try_at = CASE WHEN old.recall_to <> 'local' THEN now() END, waiting_for = NULL,
    status = CASE WHEN o.due > now() THEN 'DELAYED' WHEN old.recall_to <> 'local' THEN 'PENDING' ELSE 'QUEUED' END,
    -- The attempt that we cut off is spent; one more there is always.
    attempt = old.attempt, max_attempts = greatest(o.max_attempts, old.attempt + 1),
    recall_id = NULL, recall_to = NULL, seq = nextval('{s}.worker_jobs_seq'), updated_at = now()"""

#: From ``old`` and ``moved``: history, ledger, and what becomes of the runs of the epoch that was closed.
BESIDE: LiteralString = """
, told AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, actor, detail)
  SELECT m.id, m.epoch, 'recalled', r.actor,
    jsonb_build_object('recall', r.id, 'from', old.executor, 'to', m.executor, 'why', old.why, 'reason', r.reason)
  FROM moved m JOIN old ON old.id = m.id AND NOT old.hit JOIN {s}.recalls r ON r.id = old.recall
), told_hit AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, actor, detail)
  SELECT m.id, m.epoch, 'recall_hit_running', r.actor,
    jsonb_build_object('recall', r.id, 'from', old.executor, 'to', m.executor, 'why', old.why, 'reason', r.reason)
  FROM moved m JOIN old ON old.id = m.id AND old.hit JOIN {s}.recalls r ON r.id = old.recall
), kept AS (
  INSERT INTO {s}.recall_jobs AS j (recall_id, job_id, epoch, executor, run_id, outcome, settled_at)
  SELECT old.recall, old.id, old.epoch, old.executor, old.run_id, old.outcome, now() FROM moved m JOIN old ON old.id = m.id
  ON CONFLICT (recall_id, job_id) DO UPDATE SET outcome = EXCLUDED.outcome, settled_at = now(), epoch = EXCLUDED.epoch
)"""


def never_started(
    why: LiteralString,
    where: LiteralString,
    *,
    to: LiteralString = "recall_to",
    recall: LiteralString = "recall_id",
) -> LiteralString:
    """Return the beginning of a statement that moves rows of which no run has started: ``old`` and ``moved``.

    ``where``: which rows, with their order and limit. ``to``, ``recall``: where they go, and by which recall.
    """
    return (
        """
WITH old AS MATERIALIZED (
  SELECT id, epoch, executor, attempt, remote_run_id AS run_id, remote_environment AS environment, """
        + to
        + " AS recall_to, "
        + recall
        + " AS recall, false AS hit, '"
        + why
        + """' AS why, 'moved' AS outcome
  FROM {s}.worker_jobs_open WHERE """
        + where
        + """ FOR UPDATE
), moved AS (
  UPDATE {s}.worker_jobs_open o SET """
        + NEW_EPOCH
        + """ FROM old WHERE o.id = old.id RETURNING o.*
)"""
    )
