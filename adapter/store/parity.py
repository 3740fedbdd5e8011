"""What ended in a window, per task and executor: jobs, the repairs they needed, and copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, LiteralString

from adapter.domain.parity import Mismatch, Spread
from adapter.store.database import Connection, Schema, fetch

#: The latest mismatches of a task at an executor that are shown, the most frequent paths, and errors.
_MOST_SHOWN = 10

#: ``due`` is moved by a retry: one that is later than the start is not when the job could start.
_ENDED: LiteralString = """
WITH ended AS MATERIALIZED (
  SELECT id, type, executor, status, attempt, error ->> 'name' AS error, started, finished, first_try_at,
    greatest(created_at, CASE WHEN started IS NULL OR due <= started THEN due END) AS ready
  FROM {s}.worker_jobs_finished
  WHERE type = ANY(%(tasks)s) AND finished >= %(since)s AND finished < %(until)s AND executor IS NOT NULL
    AND NOT COALESCE(extra ? 'shadow_of', false)
)
"""
_COUNTS: LiteralString = (
    _ENDED
    + "SELECT type, executor, status, error, count(*) AS jobs FROM ended GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 4"
)
_TIMES: LiteralString = (
    _ENDED
    + """
SELECT type, executor, avg(attempt) FILTER (WHERE started IS NOT NULL)::float8 AS attempts,
  COALESCE(sum(extract(epoch FROM finished - started)), 0)::float8 AS seconds,
  percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM first_try_at - ready)::float8)
    FILTER (WHERE executor <> 'local' AND first_try_at IS NOT NULL) AS lag,
  percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM started - ready)::float8)
    FILTER (WHERE started IS NOT NULL) AS wait,
  percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM finished - started)::float8)
    FILTER (WHERE started IS NOT NULL) AS run
FROM ended GROUP BY 1, 2
"""
)
_REPAIRS: LiteralString = (
    _ENDED
    + """
SELECT type, executor, kind, count(*) AS times FROM ended JOIN {s}.job_events e ON e.job_id = ended.id
WHERE kind = ANY(%(kinds)s) GROUP BY 1, 2, 3 ORDER BY 3
"""
)
#: What is left behind by a run too many, a report too late, a try without an answer, a worker that died.
REPAIRS = ("conflict", "duplicate_run", "orphaned", "redispatched", "rescued", "revived", "submit_unknown")

_SHADOWS: LiteralString = """
SELECT task, executor, COALESCE(verdict, 'open') AS verdict, count(*) AS times FROM {s}.shadows
WHERE task = ANY(%(tasks)s) AND made_at >= %(since)s AND made_at < %(until)s GROUP BY 1, 2, 3
"""
_TOOK: LiteralString = """
SELECT task, executor, percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM took)::float8) AS took
FROM {s}.shadows WHERE task = ANY(%(tasks)s) AND made_at >= %(since)s AND made_at < %(until)s AND took IS NOT NULL
  AND verdict <> 'void' GROUP BY 1, 2
"""
_PATHS: LiteralString = """
SELECT task, executor, path, count(*) AS times FROM {s}.shadows CROSS JOIN unnest(paths) AS path
WHERE task = ANY(%(tasks)s) AND made_at >= %(since)s AND made_at < %(until)s AND verdict = 'different'
GROUP BY 1, 2, 3 ORDER BY 4 DESC, 3
"""
_MISMATCHES: LiteralString = """
SELECT * FROM (
  SELECT *, row_number() OVER (PARTITION BY task, executor ORDER BY judged_at DESC, job_id) AS place FROM {s}.shadows
  WHERE task = ANY(%(tasks)s) AND made_at >= %(since)s AND made_at < %(until)s AND verdict = 'different'
) AS latest WHERE place <= %(most)s ORDER BY task, executor, place
"""
_DROPPED: LiteralString = """
SELECT task, executor, dropped FROM {s}.shadow_progress WHERE task = ANY(%(tasks)s)
"""


@dataclass(slots=True)
class Ended:
    """The jobs of a task that ended at one executor. ``seconds``: how long they ran altogether."""

    statuses: dict[str, int] = field(default_factory=lambda: defaultdict[str, int](int))
    errors: dict[str, int] = field(default_factory=lambda: defaultdict[str, int](int))
    attempts: float | None = None
    seconds: float = 0.0
    lag: Spread | None = None
    wait: Spread | None = None
    run: Spread | None = None
    repairs: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(slots=True)
class Copied:
    """The copies of a task's jobs at one executor; ``verdicts`` has ``open``, too."""

    verdicts: dict[str, int] = field(default_factory=dict[str, int])
    took: Spread | None = None
    paths: dict[str, int] = field(default_factory=dict[str, int])
    mismatches: list[Mismatch] = field(default_factory=list[Mismatch])
    dropped: int = 0


async def now(conn: Connection, schema: Schema) -> datetime:
    """Return the database's time."""
    return (await fetch(conn, schema, "SELECT now() AS at"))[0]["at"]


async def ended(
    conn: Connection, schema: Schema, tasks: Sequence[str], since: datetime, until: datetime
) -> dict[tuple[str, str], Ended]:
    """Return what ended in a window, by (task, executor); shadows are left out."""
    window = {"tasks": list(tasks), "since": since, "until": until}
    found: defaultdict[tuple[str, str], Ended] = defaultdict(Ended)
    for row in await fetch(conn, schema, _COUNTS, window):
        one = found[row["type"], row["executor"]]
        one.statuses[row["status"]] += row["jobs"]
        if row["status"] not in {"COMPLETED", "CANCELED", "EXPIRED"} and len(one.errors) < _MOST_SHOWN:
            one.errors[row["error"] or row["status"]] += row["jobs"]
    for row in await fetch(conn, schema, _TIMES, window):
        one = found[row["type"], row["executor"]]
        one.attempts, one.seconds = row["attempts"], row["seconds"]
        one.lag, one.wait, one.run = (_spread(row[name]) for name in ("lag", "wait", "run"))
    for row in await fetch(conn, schema, _REPAIRS, window | {"kinds": list(REPAIRS)}):
        found[row["type"], row["executor"]].repairs[row["kind"]] = row["times"]
    return found


async def copied(
    conn: Connection, schema: Schema, tasks: Sequence[str], since: datetime, until: datetime
) -> dict[tuple[str, str], Copied]:
    """Return the copies that were made in a window, by (task, executor)."""
    window = {"tasks": list(tasks), "since": since, "until": until}
    found: defaultdict[tuple[str, str], Copied] = defaultdict(Copied)
    for row in await fetch(conn, schema, _SHADOWS, window):
        found[row["task"], row["executor"]].verdicts[row["verdict"]] = row["times"]
    for row in await fetch(conn, schema, _TOOK, window):
        found[row["task"], row["executor"]].took = _spread(row["took"])
    for row in await fetch(conn, schema, _PATHS, window):
        paths = found[row["task"], row["executor"]].paths
        if len(paths) < _MOST_SHOWN:
            paths[row["path"]] = row["times"]
    for row in await fetch(conn, schema, _MISMATCHES, window | {"most": _MOST_SHOWN}):
        kept = ("job_id", "shadow_id", "paths", "record_hash", "shadow_hash", "detail")
        one = Mismatch(at=row["judged_at"], **{name: row[name] for name in kept})
        found[row["task"], row["executor"]].mismatches.append(one)
    for row in await fetch(conn, schema, _DROPPED, {"tasks": list(tasks)}):
        if row["dropped"] or (row["task"], row["executor"]) in found:
            found[row["task"], row["executor"]].dropped = row["dropped"]
    return found


def _spread(places: list[Any] | None) -> Spread | None:
    return None if places is None else Spread(*places)
