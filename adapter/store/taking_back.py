"""Jobs on their way back, many at a time: those nobody was given, and the intent on the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

from adapter.domain.recall import Recall, RecallCounts, RecallMode
from adapter.store.database import Connection, Schema, fetch
from adapter.store.new_epochs import BESIDE, NEW_EPOCH, UNSENT, UNSTARTED, never_started

#: What a recall may take at all, with its columns as they are. A stopped one takes nothing.
_IN_REACH: LiteralString = """type = ANY(%(types)s) AND executor <> 'local' AND executor <> %(target)s
    AND (%(source)s = '*' OR executor = %(source)s) AND NOT cancel_requested
    AND NOT COALESCE(extra ? 'shadow_of', false) AND (recall_id IS NULL OR recall_id = %(recall)s::uuid)"""
_STANDS: LiteralString = "EXISTS (SELECT FROM {s}.recalls r WHERE r.id = %(recall)s AND r.state = 'running')"
_MOVE_UNSENT: LiteralString = (
    never_started(
        "no try has left",
        UNSENT + " AND " + _IN_REACH + " AND " + _STANDS + " ORDER BY id LIMIT %(limit)s",
        to="%(target)s::text",
        recall="%(recall)s::uuid",
    )
    + BESIDE
    + " SELECT id, queue FROM moved ORDER BY id"
)

_MARK: LiteralString = (
    """
WITH picked AS MATERIALIZED (
  SELECT id FROM {s}.worker_jobs_open
  WHERE NOT ("""
    + UNSENT
    + ") AND recall_id IS NULL AND (%(all)s OR "
    + UNSTARTED
    + ") AND "
    + _IN_REACH
    + " AND "
    + _STANDS
    + """
    -- What it has looked at in this epoch and let go stays.
    AND NOT EXISTS (SELECT FROM {s}.recall_jobs j
      WHERE j.recall_id = %(recall)s AND j.job_id = worker_jobs_open.id AND j.epoch = worker_jobs_open.epoch)
  ORDER BY id LIMIT %(limit)s FOR UPDATE
), marked AS (
  UPDATE {s}.worker_jobs_open o SET recall_id = %(recall)s, recall_to = %(target)s, updated_at = now(),
    next_try_at = CASE WHEN submit_state IN ('unknown', 'trying') THEN now() ELSE next_try_at END
  FROM picked WHERE o.id = picked.id RETURNING o.*
), kept AS (
  INSERT INTO {s}.recall_jobs AS j (recall_id, job_id, epoch, executor, run_id)
  SELECT recall_id, id, epoch, executor, remote_run_id FROM marked
  ON CONFLICT (recall_id, job_id) DO UPDATE SET epoch = EXCLUDED.epoch, executor = EXCLUDED.executor,
    run_id = EXCLUDED.run_id, asked_at = NULL, next_at = now(), outcome = NULL, settled_at = NULL
)
SELECT id, queue FROM marked ORDER BY id
"""
)

_COUNT: LiteralString = (
    """
SELECT type, executor, count(*) FILTER (WHERE """
    + UNSENT
    + """) AS unsent,
  count(*) FILTER (WHERE submit_state IN ('trying', 'unknown')) AS uncertain,
  count(*) FILTER (WHERE submit_state = 'accepted' AND """
    + UNSTARTED
    + """) AS accepted,
  count(*) FILTER (WHERE submit_state = 'accepted' AND NOT ("""
    + UNSTARTED
    + """)) AS started
FROM {s}.worker_jobs_open WHERE """
    + _IN_REACH
    + " GROUP BY 1, 2 ORDER BY 1, 2"
)


#: Nobody has it, and nothing has begun.
_PENDING: LiteralString = (
    """started IS NULL AND attempt = 0 AND (
      executor = 'local' AND (status IN ('DELAYED', 'QUEUED') OR status = 'WAITING' AND waiting_for = 'executor')
      OR executor <> 'local' AND """
    + UNSENT
    + ")"
)
_ELSEWHERE: LiteralString = """type = ANY(%(types)s) AND executor <> %(target)s
    AND (%(source)s = '*' OR executor = %(source)s) AND NOT cancel_requested AND recall_id IS NULL
    AND NOT COALESCE(extra ? 'shadow_of', false)"""

_MOVE_PENDING: LiteralString = (
    """
WITH old AS MATERIALIZED (
  SELECT id, epoch, executor, attempt, %(target)s::text AS recall_to FROM {s}.worker_jobs_open WHERE """
    + _ELSEWHERE
    + " AND "
    + _PENDING
    + " AND "
    + _STANDS
    + """ ORDER BY id LIMIT %(limit)s FOR UPDATE
), moved AS (
  UPDATE {s}.worker_jobs_open o SET """
    + NEW_EPOCH
    + """ FROM old WHERE o.id = old.id RETURNING o.id, o.epoch, o.queue, o.executor, old.executor AS was, old.epoch AS old_epoch
), told AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, actor, detail)
  SELECT m.id, m.epoch, 'rerouted', r.actor,
    jsonb_build_object('from', m.was, 'to', m.executor, 'reason', r.reason, 'recall', r.id)
  FROM moved m JOIN {s}.recalls r ON r.id = %(recall)s
), kept AS (
  INSERT INTO {s}.recall_jobs AS j (recall_id, job_id, epoch, executor, outcome, settled_at)
  SELECT %(recall)s, id, old_epoch, was, 'moved', now() FROM moved
  ON CONFLICT (recall_id, job_id) DO UPDATE SET outcome = 'moved', settled_at = now(), epoch = EXCLUDED.epoch
)
SELECT id, queue FROM moved ORDER BY id
"""
)

_COUNT_PENDING: LiteralString = (
    "SELECT type, executor, count(*) FILTER (WHERE "
    + _PENDING
    + ") AS unsent, count(*) FILTER (WHERE NOT ("
    + _PENDING
    + ")) AS started FROM {s}.worker_jobs_open WHERE "
    + _ELSEWHERE
    + " GROUP BY 1, 2 ORDER BY 1, 2"
)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one statement took: how many jobs, and their queues."""

    count: int
    queues: frozenset[str]


def _parameters(recall: Recall, limit: int) -> dict[str, Any]:
    return {
        "recall": recall.id,
        "types": list(recall.types),
        "source": recall.source,
        "target": recall.target,
        "all": recall.mode is RecallMode.ALL,
        "limit": limit,
    }


async def _batch(
    conn: Connection, schema: Schema, template: LiteralString, recall: Recall, limit: int
) -> Batch:
    rows = await fetch(conn, schema, template, _parameters(recall, limit))
    return Batch(len(rows), frozenset(row["queue"] for row in rows))


async def count(
    conn: Connection, schema: Schema, *, types: list[str], source: str, target: str
) -> dict[tuple[str, str], RecallCounts]:
    """Return what a recall would find, by (task, executor)."""
    parameters = {"types": types, "source": source, "target": target, "recall": None}
    return {
        (row["type"], row["executor"]): RecallCounts(
            unsent=row["unsent"],
            uncertain=row["uncertain"],
            accepted=row["accepted"],
            started=row["started"],
        )
        for row in await fetch(conn, schema, _COUNT, parameters)
    }


async def move_pending(conn: Connection, schema: Schema, recall: Recall, limit: int) -> Batch:
    """Open a new epoch at the target for jobs that have not started and that no remote was ever given."""
    return await _batch(conn, schema, _MOVE_PENDING, recall, limit)


async def count_pending(
    conn: Connection, schema: Schema, *, types: list[str], source: str, target: str
) -> dict[tuple[str, str], RecallCounts]:
    """Return what `move_pending` would move (``unsent``) and what it would not (``started``), by (task, executor)."""
    parameters = {"types": types, "source": source, "target": target}
    return {
        (row["type"], row["executor"]): RecallCounts(unsent=row["unsent"], started=row["started"])
        for row in await fetch(conn, schema, _COUNT_PENDING, parameters)
    }


async def move_unsent(conn: Connection, schema: Schema, recall: Recall, limit: int) -> Batch:
    """Open a new epoch at the target for jobs that no try has left for."""
    return await _batch(conn, schema, _MOVE_UNSENT, recall, limit)


async def mark(conn: Connection, schema: Schema, recall: Recall, limit: int) -> Batch:
    """Commit the recall's intent on jobs that a remote has, or may have."""
    return await _batch(conn, schema, _MARK, recall, limit)
