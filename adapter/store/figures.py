"""Figures: how many jobs are open where and in which state, how many have ended how, what else waits.

Ended jobs are never counted twice: each look adds those of the stretch of time since the last one to
``finished_counts``, found by (type, finished). A stretch ends ten seconds ago, when what ended in it is visible.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString
from uuid import UUID

from adapter.store.database import Connection, Schema, fetch

_BEGIN: LiteralString = "INSERT INTO {s}.finished_counted DEFAULT VALUES ON CONFLICT DO NOTHING"

#: Every type there is, from one to the next in the index: no other way to ask for them is as quick.
_TYPES: LiteralString = """types AS (
  (SELECT type FROM {s}.worker_jobs_finished ORDER BY type LIMIT 1)
  UNION ALL
  SELECT (SELECT f.type FROM {s}.worker_jobs_finished f WHERE f.type > t.type ORDER BY f.type LIMIT 1)
  FROM types t WHERE t.type IS NOT NULL
)"""
_NO_SHADOW: LiteralString = "(extra IS NULL OR NOT extra ? 'shadow_of')"

_COUNT: LiteralString = (
    "WITH RECURSIVE "
    + _TYPES
    + """, stretch AS MATERIALIZED (
  SELECT counted_to, least(now() - interval '10 seconds', counted_to + interval '1 hour') AS upto
  FROM {s}.finished_counted FOR UPDATE SKIP LOCKED
), counted AS (
  SELECT f.type AS task, f.queue, COALESCE(f.executor, '') AS executor, f.status, count(*) AS jobs
  FROM stretch CROSS JOIN types t CROSS JOIN LATERAL (
    SELECT * FROM {s}.worker_jobs_finished f WHERE f.type = t.type
      AND f.finished > stretch.counted_to AND f.finished <= stretch.upto AND """
    + _NO_SHADOW
    + """) AS f
  GROUP BY 1, 2, 3, 4
), moved AS (
  UPDATE {s}.finished_counted c SET counted_to = stretch.upto FROM stretch WHERE stretch.upto > c.counted_to
)
INSERT INTO {s}.finished_counts AS n (task, queue, executor, status, jobs)
SELECT task, queue, executor, status, jobs FROM counted
ON CONFLICT (task, queue, executor, status) DO UPDATE SET jobs = n.jobs + EXCLUDED.jobs
"""
)

_FINISHED: LiteralString = (
    "SELECT task, queue, executor, status, jobs FROM {s}.finished_counts ORDER BY 1, 2, 3, 4"
)

_OPEN: LiteralString = (
    """
SELECT type AS task, queue, COALESCE(executor, '') AS executor, status, submit_state, count(*) AS jobs,
  now() - min(updated_at) AS oldest,
  now() - min(COALESCE(last_synced_at, updated_at)) FILTER (WHERE remote_run_id IS NOT NULL) AS unsynced
FROM {s}.worker_jobs_open WHERE """
    + _NO_SHADOW
    + " GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5"
)

_REST: LiteralString = """
SELECT
  (SELECT count(*) FROM {s}.webhook_inbox WHERE state = 'pending') AS inbox_pending,
  (SELECT now() - min(received_at) FROM {s}.webhook_inbox WHERE state = 'pending') AS inbox_oldest,
  (SELECT count(*) FROM {s}.webhook_inbox WHERE state = 'dead') AS inbox_dead,
  (SELECT count(*) FROM {s}.workers WHERE seen_at > now() - lease) AS workers,
  (SELECT now() - counted_to FROM {s}.finished_counted) AS uncounted
"""

_RECALLS: LiteralString = """
SELECT r.id, r.task, r.state, count(j.job_id) AS jobs, count(j.outcome) AS settled
FROM {s}.recalls r LEFT JOIN {s}.recall_jobs j ON j.recall_id = r.id
WHERE r.state IN ('planned', 'running', 'stopping') GROUP BY r.id ORDER BY r.id
"""

_RECENT: LiteralString = (
    "WITH RECURSIVE "
    + _TYPES
    + """
SELECT f.type AS task, count(*) AS ended,
  count(*) FILTER (WHERE f.status NOT IN ('COMPLETED', 'CANCELED')) AS failed
FROM types t CROSS JOIN LATERAL (
  SELECT * FROM {s}.worker_jobs_finished f
  WHERE f.type = t.type AND f.finished > now() - %(window)s::interval AND """
    + _NO_SHADOW
    + ") AS f GROUP BY 1 ORDER BY 1"
)


@dataclass(frozen=True, slots=True)
class OpenCount:
    """Open jobs that have this much in common; ``executor`` is empty for those that are not routed yet.

    ``oldest``: how long the first has been as it is. ``unsynced``: how long the remote that holds them has not
    been heard of, None for jobs that no remote has.
    """

    task: str
    queue: str
    executor: str
    status: str
    submit_state: str
    jobs: int
    oldest: timedelta
    unsynced: timedelta | None


@dataclass(frozen=True, slots=True)
class EndedCount:
    """Jobs that have ended, since counting began."""

    task: str
    queue: str
    executor: str
    status: str
    jobs: int


@dataclass(frozen=True, slots=True)
class RecallProgress:
    """A recall that goes on: how many jobs it takes back, and of how many it is known what became of them."""

    id: UUID
    task: str
    state: str
    jobs: int
    settled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything at one moment. ``uncounted``: how long ago the ended jobs were counted to."""

    open: list[OpenCount]
    ended: list[EndedCount]
    recalls: list[RecallProgress]
    inbox_pending: int
    inbox_dead: int
    inbox_oldest: timedelta | None
    workers: int
    uncounted: timedelta


@dataclass(frozen=True, slots=True)
class RecentEnds:
    """How jobs of a task ended of late; canceled ones did not fail."""

    task: str
    ended: int
    failed: int


async def look(conn: Connection, schema: Schema) -> Figures:
    """Count what has ended since the last look, by whomever, and return the figures."""
    await fetch(conn, schema, _BEGIN)
    await fetch(conn, schema, _COUNT)
    rest = (await fetch(conn, schema, _REST))[0]
    return Figures(
        open=[OpenCount(**row) for row in await fetch(conn, schema, _OPEN)],
        ended=[EndedCount(**row) for row in await fetch(conn, schema, _FINISHED)],
        recalls=[RecallProgress(**row) for row in await fetch(conn, schema, _RECALLS)],
        **rest,
    )


async def recent(conn: Connection, schema: Schema, window: timedelta) -> list[RecentEnds]:
    """Return how jobs ended within the window, per task."""
    return [RecentEnds(**row) for row in await fetch(conn, schema, _RECENT, {"window": window})]
