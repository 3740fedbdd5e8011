"""Taking jobs back from workers that were judged dead: run again, or buried when no attempt is left."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import DictRow

from adapter.domain.job import Job
from adapter.store.database import Connection, Schema, fetch
from adapter.store.finishing import ending
from adapter.store.liveness import HELD, LOCK_IS_FREE
from adapter.store.rows import job_from_row

logger = logging.getLogger("adapter.maintenance")

#: A verdict holds only for the heartbeat it was passed on, and not before the server is up for a lease. The
#: worker's row is locked, so a beat waits; a second rescuer goes on. A job is locked in the very claim that
#: was looked at: one that meanwhile was rescued and claimed anew is in the hands of somebody alive.
_DEAD: LiteralString = (
    """
WITH judged AS MATERIALIZED (
  SELECT w.id FROM {s}.workers w
  JOIN unnest(%(workers)s::uuid[], %(seen)s::float8[], %(early)s::boolean[]) AS j(id, seen, early) ON w.id = j.id
  WHERE extract(epoch FROM w.seen_at)::float8 = j.seen AND now() > pg_postmaster_start_time() + w.lease
    AND (NOT j.early OR """
    + LOCK_IS_FREE
    + """)
  ORDER BY w.id FOR UPDATE OF w SKIP LOCKED
), lost AS MATERIALIZED (
  SELECT id FROM judged UNION ALL
  SELECT g.id FROM unnest(%(unknown)s::uuid[]) AS g(id)
  WHERE now() > pg_postmaster_start_time() + %(lease)s::interval
    AND NOT EXISTS (SELECT FROM {s}.workers w WHERE w.id = g.id)
), silent AS MATERIALIZED (
  SELECT o.id, o.worker_id, o.claim_number FROM lost JOIN {s}.worker_jobs_open o ON o.worker_id = lost.id
  WHERE """
    + HELD
    + """ AND (%(only)s::uuid[] IS NULL OR o.id = ANY(%(only)s::uuid[]))
  ORDER BY o.id LIMIT %(limit)s
), dead AS MATERIALIZED (
  SELECT o.id, o.worker_id AS lost, o.max_attempts,
    (SELECT count(*) FROM {s}.job_events e WHERE e.job_id = o.id AND e.kind = 'rescued') AS rescues
  FROM {s}.worker_jobs_open o JOIN silent s USING (id)
  WHERE """
    + HELD
    + """ AND o.worker_id IS NOT DISTINCT FROM s.worker_id AND o.claim_number IS NOT DISTINCT FROM s.claim_number
  ORDER BY o.id FOR UPDATE OF o SKIP LOCKED
)"""
)

_FIND: LiteralString = _DEAD + " SELECT id FROM dead"

#: Asked once for both statements, since the first of them takes away what the second would have to count.
_CROWDED: LiteralString = (
    """
SELECT o.worker_id FROM {s}.worker_jobs_open o
WHERE o.worker_id = ANY(%(workers)s::uuid[] || %(unknown)s::uuid[]) AND """
    + HELD
    + """
GROUP BY o.worker_id HAVING count(*) > 1
"""
)

#: Nobody knows which of several jobs has killed their worker, so none of them pays, as often as it has
#: attempts. Who allows one attempt only does not want a second start, whoever was to blame.
_SPARED: LiteralString = """(dead.lost = ANY(%(crowded)s::uuid[]) AND dead.max_attempts > 1
    AND dead.rescues < dead.max_attempts)"""

#: Jobs that lose a worker once more come back apart from each other, two seconds each, but all within eight:
#: one of them may be what kills it, and the others are not to be there the next time.
_RESCUE: LiteralString = (
    _DEAD
    + """, apart AS MATERIALIZED (
  SELECT id, lost, spared, CASE WHEN again THEN make_interval(
    secs => least(2.0, 8.0 / count(*) OVER (PARTITION BY again)) * (row_number() OVER (PARTITION BY again ORDER BY id) - 1)) END AS delay
  FROM (SELECT id, lost, rescues > 0 AS again, """
    + _SPARED
    + """ AS spared FROM dead) AS d
), back AS (
  UPDATE {s}.worker_jobs_open o SET attempt = o.attempt - spared::int,
    status = CASE WHEN delay > interval '0' THEN 'DELAYED' ELSE 'QUEUED' END,
    due = CASE WHEN delay > interval '0' THEN now() + delay ELSE o.due END, waiting_for = NULL, awaiting = NULL,
    seq = nextval('{s}.worker_jobs_seq'), worker_id = NULL, claim_number = NULL, deadline = NULL, updated_at = now()
  FROM apart WHERE o.id = apart.id AND (spared OR o.attempt < o.max_attempts) AND NOT o.cancel_requested
  RETURNING o.id, o.epoch, o.queue, o.attempt + spared::int AS attempt, apart.lost, apart.delay, apart.spared
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, detail)
  SELECT id, epoch, 'rescued', jsonb_strip_nulls(jsonb_build_object('worker', lost, 'attempt', attempt,
    'spared', NULLIF(spared, false), 'delay_s', extract(epoch FROM NULLIF(delay, interval '0')))) FROM back
)
SELECT id, queue FROM back
"""
)

_BURY: LiteralString = (
    _DEAD
    + """, gone AS (
  DELETE FROM {s}.worker_jobs_open o USING dead
  WHERE o.id = dead.id AND (o.cancel_requested OR o.attempt >= o.max_attempts AND NOT """
    + _SPARED
    + """) RETURNING o.*
)"""
    + ending(
        "CASE WHEN cancel_requested THEN 'CANCELED' ELSE 'CRASHED' END",
        name="WorkerDied",
        message="Its worker died while it ran.",
        kind="buried",
    )
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A worker that counts as dead since the heartbeat ``seen``; ``early``: before its lease was over."""

    worker_id: UUID
    seen: float
    early: bool


@dataclass(frozen=True, slots=True)
class Rescued:
    """Jobs of dead workers: the queues of those that will run again, and those that ended."""

    queues: frozenset[str]
    count: int
    ended: list[Job]


async def rescue(
    conn: Connection,
    schema: Schema,
    verdicts: Sequence[Verdict],
    *,
    unknown: Sequence[UUID] = (),
    lease: timedelta,
    limit: int = 500,
) -> Rescued:
    """Take jobs back from workers that are dead, ``limit`` in a statement.

    ``unknown``: workers without a row, for whom ``lease`` counts. A row that cannot be written is logged
    and left; it costs the others nothing.
    """
    parameters: dict[str, Any] = {
        "workers": [each.worker_id for each in verdicts],
        "seen": [each.seen for each in verdicts],
        "early": [each.early for each in verdicts],
        "unknown": list(unknown),
        "lease": lease,
        "limit": limit,
        "only": None,
    }
    parameters["crowded"] = [row["worker_id"] for row in await fetch(conn, schema, _CROWDED, parameters)]
    back: list[DictRow] = []
    gone: list[DictRow] = []
    while True:
        moved = await _each_if_need_be(conn, schema, _RESCUE, parameters)
        ended = await _each_if_need_be(conn, schema, _BURY, parameters)
        back += moved
        gone += ended
        if len(moved) + len(ended) < limit:
            break
    jobs = [job for row in gone if (job := _read(row)) is not None]
    return Rescued(frozenset(row["queue"] for row in back), len(back), jobs)


async def _each_if_need_be(
    conn: Connection, schema: Schema, statement: LiteralString, parameters: dict[str, Any]
) -> list[DictRow]:
    try:
        return await fetch(conn, schema, statement, parameters)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        logger.warning("a batch of rescues was refused, taking its jobs one by one: %s", type(error).__name__)
    found = await fetch(conn, schema, _FIND, parameters)
    rows: list[DictRow] = []
    for each in found:
        try:
            rows += await fetch(conn, schema, statement, parameters | {"only": [each["id"]]})
        except psycopg.OperationalError:
            raise
        except psycopg.Error:
            logger.exception("a job cannot be rescued", extra={"job_id": str(each["id"])})
    return rows


def _read(row: DictRow) -> Job | None:
    try:
        return job_from_row(row)
    except Exception:
        logger.exception("a job that ended cannot be read", extra={"job_id": str(row["id"])})
        return None
