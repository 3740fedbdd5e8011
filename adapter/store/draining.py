"""What an executor still holds: jobs, uncertain submits, runs, schedules; and what was sent there of late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

from adapter.store.database import Connection, Schema, fetch

_OPEN: LiteralString = """
SELECT type AS task, status, submit_state IN ('trying', 'unknown') AS uncertain, count(*) AS jobs,
  min(created_at) AS oldest_at, max(due) FILTER (WHERE due > now()) AS furthest_due, max(created_at) AS last_at,
  count(*) FILTER (WHERE created_at > now() - %(window)s::interval) AS arrived
FROM {s}.worker_jobs_open
WHERE executor = %(executor)s AND (%(task)s::text IS NULL OR type = %(task)s) AND type <> ALL(%(apart)s)
GROUP BY 1, 2, 3
"""
# What was made in the window and has ended has ended in the window, so one index answers both.
_ENDED: LiteralString = """
SELECT type AS task, count(*) AS ended, count(*) FILTER (WHERE created_at > now() - %(window)s::interval) AS arrived,
  max(created_at) AS last_at
FROM {s}.worker_jobs_finished
WHERE type = ANY(%(types)s) AND finished > now() - %(window)s::interval AND executor = %(executor)s
GROUP BY 1
"""
#: A run whose job is past its retention is nobody's in particular: it counts for whichever task is asked for.
_RUNS: LiteralString = """
SELECT COALESCE(o.type, f.type, '') AS task, count(*) FILTER (WHERE r.ended_at IS NULL) AS runs, max(r.created_at) AS last_at
FROM (
  SELECT * FROM {s}.remote_runs WHERE executor = %(executor)s AND ended_at IS NULL
  UNION ALL
  SELECT * FROM {s}.remote_runs
  WHERE ended_at > now() - %(window)s::interval AND executor = %(executor)s AND created_at > now() - %(window)s::interval
) AS r
LEFT JOIN {s}.worker_jobs_open o ON o.id = r.job_id
LEFT JOIN LATERAL (
  SELECT type FROM {s}.worker_jobs_finished f WHERE f.id = r.job_id LIMIT 1) AS f ON o.id IS NULL
WHERE COALESCE(o.type, f.type, '') <> ALL(%(apart)s)
  AND (%(task)s::text IS NULL OR COALESCE(o.type, f.type, '') IN (%(task)s, ''))
GROUP BY 1
"""
_SCHEDULES: LiteralString = """
SELECT task, count(*) AS schedules FROM {s}.job_schedules
WHERE (owner = %(executor)s AND owner <> 'local' OR handover_to = %(executor)s)
  AND (%(task)s::text IS NULL OR task = %(task)s)
GROUP BY 1
"""
_NOW: LiteralString = "SELECT now() AS at"


@dataclass(slots=True)
class Holding:
    """What one executor holds of one task. ``arrived``, ``ended``: within the window that was asked for.

    ``last_at``: the newest job or run of those that are open or ended in the window.
    """

    executor: str
    task: str
    open: dict[str, int]
    uncertain: int = 0
    oldest_at: datetime | None = None
    furthest_due: datetime | None = None
    schedules: int = 0
    runs: int = 0
    last_at: datetime | None = None
    arrived: int = 0
    ended: int = 0

    def saw(self, moment: datetime | None) -> None:
        """Note a job or a run."""
        if moment is not None and (self.last_at is None or moment > self.last_at):
            self.last_at = moment


async def holdings(
    conn: Connection,
    schema: Schema,
    executor: str,
    *,
    task: str | None,
    types: Sequence[str],
    apart: Sequence[str],
    window: timedelta,
) -> tuple[list[Holding], datetime]:
    """Return what an executor holds per task, and the database's time.

    ``types``: the tasks whose ended jobs are looked at, beside those with open ones. ``apart``: not counted.
    """
    parameters = {"executor": executor, "task": task, "apart": list(apart), "window": window}
    found: dict[str, Holding] = {}

    def of(name: str) -> Holding:
        return found.setdefault(name, Holding(executor, name, {}))

    for row in await fetch(conn, schema, _OPEN, parameters):
        each = of(row["task"])
        each.open[row["status"]] = each.open.get(row["status"], 0) + row["jobs"]
        each.uncertain += row["jobs"] if row["uncertain"] else 0
        each.arrived += row["arrived"]
        each.oldest_at = min(filter(None, (each.oldest_at, row["oldest_at"])))
        each.furthest_due = max(filter(None, (each.furthest_due, row["furthest_due"])), default=None)
        each.saw(row["last_at"])
    for row in await fetch(conn, schema, _RUNS, parameters):
        of(row["task"]).runs += row["runs"]
        of(row["task"]).saw(row["last_at"])
    for row in await fetch(conn, schema, _SCHEDULES, parameters):
        of(row["task"]).schedules += row["schedules"]
    looked_at = [task] if task is not None else sorted({*types, *found} - {*apart})
    for row in await fetch(conn, schema, _ENDED, {**parameters, "types": looked_at}):
        each = of(row["task"])
        each.ended += row["ended"]
        each.arrived += row["arrived"]
        each.saw(row["last_at"])
    now = (await fetch(conn, schema, _NOW))[0]["at"]
    return [found[name] for name in sorted(found)], now
