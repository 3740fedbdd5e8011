"""Drills as they are stored: an intent to put the flag back, by whoever comes first; and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from adapter.domain.drill import Drill, DrillState, Measured
from adapter.domain.errors import DrillConflictError
from adapter.store.database import Connection, Schema, fetch

_COLUMNS: LiteralString = """id, task, target, state, reason, actor, source, hold, flag_before, flag_version, started_at,
  held_until, finished_at, result"""
# The last statement of its transaction: from then on, but for the commit, the flag is turned.
_BEGIN: LiteralString = (
    """
INSERT INTO {s}.drills (id, task, target, reason, actor, source, hold, flag_before, flag_version, started_at, held_until)
VALUES (%(id)s, %(task)s, %(target)s, %(reason)s, %(actor)s, %(source)s, %(hold)s, %(flag_before)s, %(flag_version)s,
  clock_timestamp(), clock_timestamp() + %(lease)s::interval)
RETURNING """
    + _COLUMNS
)
_RENEW: LiteralString = """
UPDATE {s}.drills SET held_until = now() + %(lease)s::interval WHERE id = %(id)s AND state = 'running'
RETURNING extract(epoch FROM started_at + hold - now())::float8 AS left
"""
_VERSION: LiteralString = "SELECT version FROM {s}.executor_flags WHERE kind = 'kill' AND task = %(task)s"
_FINISH: LiteralString = """
UPDATE {s}.drills SET state = %(state)s, finished_at = now(), result = %(result)s WHERE id = %(id)s AND state = 'running'
RETURNING id
"""
_GET: LiteralString = "SELECT " + _COLUMNS + " FROM {s}.drills WHERE id = %(id)s"
_LATEST: LiteralString = (
    "SELECT "
    + _COLUMNS
    + """ FROM {s}.drills WHERE %(task)s::text IS NULL OR task = %(task)s
ORDER BY started_at DESC LIMIT %(limit)s
"""
)
_ABANDONED: LiteralString = (
    "SELECT " + _COLUMNS + " FROM {s}.drills WHERE state = 'running' AND held_until < now() ORDER BY id"
)
_PASSED: LiteralString = """
SELECT max(started_at) AS at FROM {s}.drills WHERE task = %(task)s AND target = %(target)s AND state = 'passed'
"""
_SEEN: LiteralString = """
SELECT id FROM {s}.worker_jobs_open WHERE type = %(task)s AND created_at >= %(since)s ORDER BY id LIMIT %(limit)s
"""
_LOST: LiteralString = """
SELECT id FROM unnest(%(ids)s::uuid[]) AS noted(id)
WHERE NOT EXISTS (SELECT FROM {s}.worker_jobs j WHERE j.id = noted.id) LIMIT 20
"""
#: Everything of the task that was open or ended while the drill ran; copies of shadows are no jobs of anybody's.
_MEASURE: LiteralString = """
WITH touched AS (
  SELECT id, executor, started, created_at, status, waiting_for FROM {s}.worker_jobs_open
  WHERE type = %(task)s AND NOT COALESCE(extra ? 'shadow_of', false)
  UNION ALL
  SELECT id, executor, started, created_at, status, NULL FROM {s}.worker_jobs_finished
  WHERE type = %(task)s AND finished >= %(since)s AND NOT COALESCE(extra ? 'shadow_of', false)
), arrived AS (
  SELECT t.created_at, COALESCE((SELECT e.detail ->> 'from' FROM {s}.job_events e
    WHERE e.job_id = t.id AND e.kind = 'rerouted' ORDER BY e.id LIMIT 1), t.executor) AS first_at
  FROM touched t WHERE t.created_at >= %(since)s
), runs AS (
  SELECT r.* FROM {s}.remote_runs r JOIN touched t ON t.id = r.job_id
), places AS (
  SELECT id, executor FROM touched WHERE started IS NOT NULL
  UNION
  SELECT job_id, executor FROM runs WHERE started_at IS NOT NULL
)
SELECT (SELECT count(*) FROM arrived) AS jobs,
  (SELECT extract(epoch FROM max(created_at) - %(since)s)::float8 FROM arrived WHERE first_at <> %(target)s) AS stopped_after,
  (SELECT extract(epoch FROM max(created_at) - %(since)s)::float8 FROM runs
    WHERE executor <> %(target)s AND role = 'bound' AND created_at >= %(since)s) AS last_run_after,
  (SELECT count(*) FROM (SELECT id FROM touched GROUP BY id HAVING count(*) > 1) AS twice) AS doubled,
  (SELECT count(*) FROM (SELECT id FROM places GROUP BY id HAVING count(*) > 1) AS several) AS started_twice,
  (SELECT count(*) FROM touched WHERE executor = %(target)s AND waiting_for = 'executor') AS stranded
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDrill:
    """A drill that is about to begin. ``flag_before``: the switch that it replaces, as the audit has it."""

    id: UUID
    task: str
    target: str
    reason: str
    actor: str
    source: str
    hold: timedelta
    flag_before: Mapping[str, Any] | None
    flag_version: int


async def begin(conn: Connection, schema: Schema, new: NewDrill, lease: timedelta) -> Drill:
    """Store a drill, last in the transaction that turns its flag.

    Raises:
        DrillConflictError: one of the task is running.
    """
    parameters = {name: getattr(new, name) for name in NewDrill.__slots__ if name != "flag_before"}
    before = None if new.flag_before is None else Jsonb(new.flag_before)
    try:
        rows = await fetch(conn, schema, _BEGIN, {**parameters, "flag_before": before, "lease": lease})
    except UniqueViolation:
        raise DrillConflictError(new.task) from None
    return _drill(rows[0])


async def renew(conn: Connection, schema: Schema, drill: Drill, lease: timedelta) -> float | None:
    """Say that somebody holds it; returns the seconds that are left, None when it is over for everybody."""
    rows = await fetch(conn, schema, _RENEW, {"id": drill.id, "lease": lease})
    return rows[0]["left"] if rows else None


async def is_turned(conn: Connection, schema: Schema, drill: Drill) -> bool:
    """Whether the flag is still the one that the drill has set."""
    rows = await fetch(conn, schema, _VERSION, {"task": drill.task})
    return bool(rows) and rows[0]["version"] == drill.flag_version


async def finish(
    conn: Connection, schema: Schema, drill_id: UUID, state: DrillState, measured: Measured | None
) -> bool:
    """End a drill; False when somebody else has."""
    result = None if measured is None else Jsonb(measured.as_json())
    return bool(await fetch(conn, schema, _FINISH, {"id": drill_id, "state": state.value, "result": result}))


async def get(conn: Connection, schema: Schema, drill_id: UUID) -> Drill | None:
    """Return a drill or None."""
    rows = await fetch(conn, schema, _GET, {"id": drill_id})
    return _drill(rows[0]) if rows else None


async def latest(conn: Connection, schema: Schema, task: str | None, limit: int) -> list[Drill]:
    """Return drills, the newest first."""
    return [_drill(row) for row in await fetch(conn, schema, _LATEST, {"task": task, "limit": limit})]


async def abandoned(conn: Connection, schema: Schema) -> list[Drill]:
    """Return drills that nobody holds any more, of which the flag is still to be put back."""
    return [_drill(row) for row in await fetch(conn, schema, _ABANDONED)]


async def last_passed(conn: Connection, schema: Schema, task: str, target: str) -> datetime | None:
    """Return when the last drill of a task to an executor began that passed."""
    return (await fetch(conn, schema, _PASSED, {"task": task, "target": target}))[0]["at"]


async def seen(conn: Connection, schema: Schema, drill: Drill, limit: int) -> list[UUID]:
    """Return open jobs that came since the drill began."""
    parameters = {"task": drill.task, "since": drill.started_at, "limit": limit}
    return [row["id"] for row in await fetch(conn, schema, _SEEN, parameters)]


async def lost(conn: Connection, schema: Schema, ids: Sequence[UUID]) -> list[UUID]:
    """Return which of these jobs are neither open nor finished."""
    return [row["id"] for row in await fetch(conn, schema, _LOST, {"ids": list(ids)})]


async def measure(conn: Connection, schema: Schema, drill: Drill) -> dict[str, Any]:
    """Return what the rows say of the time since the flag was turned; see `Measured`."""
    parameters = {"task": drill.task, "target": drill.target, "since": drill.started_at}
    return dict((await fetch(conn, schema, _MEASURE, parameters))[0])


def _drill(row: Mapping[str, Any]) -> Drill:
    given: dict[str, Any] = dict(row)
    result = given.pop("result")
    given["state"] = DrillState(given["state"])
    given["measured"] = None if result is None else Measured.from_json(result)
    return Drill(**given)
