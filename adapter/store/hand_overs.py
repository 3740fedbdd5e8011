"""Whose clock a schedule has: the stored steps of a hand-over, and the ticks that others have fired."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from adapter.store.database import Connection, Schema, fetch
from adapter.store.schedules import COLUMNS, Schedule, read_schedule

#: Local ticks stop with the first word of a hand-over; whoever comes second begins nothing, and so does
#: who comes before a tick that is still to be fired here, since nobody would fire it.
_BEGIN: LiteralString = (
    """
UPDATE {s}.job_schedules SET handover_state = %(state)s, handover_to = %(to)s, handover_cut = %(cut)s,
  next_at = CASE WHEN %(to)s = 'local' THEN next_at END, extra = extra - 'problem', updated_at = now()
WHERE id = %(id)s AND active AND owner = %(owner)s AND handover_state IS NULL
  AND (%(to)s = 'local' OR next_at = %(cut)s) RETURNING """
    + COLUMNS
)
_STEP: LiteralString = (
    """
UPDATE {s}.job_schedules SET handover_state = %(state)s,
  remote_schedule_id = COALESCE(%(remote)s, remote_schedule_id),
  extra = COALESCE(extra, '{}') || jsonb_build_object('handover_until', now() + %(wait)s), updated_at = now()
WHERE id = %(id)s AND handover_state = %(was)s RETURNING """
    + COLUMNS
)
_END: LiteralString = (
    """
UPDATE {s}.job_schedules SET handover_state = NULL, handover_to = NULL, owner = %(owner)s, next_at = %(next_at)s,
  extra = CASE WHEN %(problem)s::text IS NULL THEN extra - 'handover_until' - 'problem'
    ELSE COALESCE(extra, '{}') - 'handover_until' || jsonb_build_object('problem', %(problem)s::text) END, updated_at = now()
WHERE id = %(id)s AND handover_state = %(was)s RETURNING """
    + COLUMNS
)
_UNDER_WAY: LiteralString = (
    "SELECT "
    + COLUMNS
    + """ FROM {s}.job_schedules
WHERE handover_state IS NOT NULL AND COALESCE((extra ->> 'handover_until')::timestamptz <= now(), true) ORDER BY id
"""
)
_ADOPT: LiteralString = """
WITH taken AS (
  INSERT INTO {s}.schedule_ticks (schedule_id, fire_time, job_id)
  SELECT %(schedule_id)s, %(at)s, %(job_id)s
  WHERE NOT EXISTS (SELECT FROM {s}.remote_runs WHERE executor = %(executor)s AND run_id = %(run_id)s)
  ON CONFLICT DO NOTHING RETURNING job_id
), known AS (
  INSERT INTO {s}.remote_runs (executor, run_id, job_id, epoch, environment)
  SELECT %(executor)s, %(run_id)s, job_id, 1, %(environment)s FROM taken
), made AS (
  INSERT INTO {s}.worker_jobs_open (id, type, status, data, executor, route_reason, submit_state, queue, user_id, persistent,
    remote_run_id, remote_status, remote_environment, schedule_id, extra)
  SELECT job_id, %(task)s, 'QUEUED', %(data)s, %(executor)s, 'a tick of its schedule there', 'accepted', %(queue)s,
    %(user_id)s, %(persistent)s, %(run_id)s, 'QUEUED', %(environment)s, %(schedule_id)s, %(extra)s FROM taken
), seen AS (
  UPDATE {s}.job_schedules SET last_at = greatest(last_at, %(at)s) WHERE id = %(schedule_id)s
)
SELECT job_id FROM taken
"""


async def begin(
    conn: Connection, schema: Schema, schedule: Schedule, *, state: str, to: str, cut: datetime
) -> Schedule | None:
    """Say that a schedule changes hands; None when it does already, or has."""
    parameters = {"id": schedule.id, "owner": schedule.owner, "state": state, "to": to, "cut": cut}
    rows = await fetch(conn, schema, _BEGIN, parameters)
    return read_schedule(rows[0]) if rows else None


async def step(
    conn: Connection,
    schema: Schema,
    schedule: Schedule,
    state: str,
    *,
    remote: str | None = None,
    wait: timedelta = timedelta(0),
) -> Schedule | None:
    """Go on to the next state of a hand-over, after ``wait``; None when somebody else has."""
    parameters = {
        "id": schedule.id,
        "was": schedule.handover_state,
        "state": state,
        "remote": remote,
        "wait": wait,
    }
    rows = await fetch(conn, schema, _STEP, parameters)
    return read_schedule(rows[0]) if rows else None


async def end(
    conn: Connection,
    schema: Schema,
    schedule: Schedule,
    *,
    owner: str,
    next_at: datetime | None,
    problem: str | None = None,
) -> Schedule | None:
    """End a hand-over; None when somebody else has."""
    parameters = {"id": schedule.id, "was": schedule.handover_state, "owner": owner, "next_at": next_at}
    rows = await fetch(conn, schema, _END, parameters | {"problem": problem})
    return read_schedule(rows[0]) if rows else None


async def under_way(conn: Connection, schema: Schema) -> list[Schedule]:
    """Return the schedules that change hands and need not wait now."""
    return [read_schedule(row) for row in await fetch(conn, schema, _UNDER_WAY)]


async def adopt(conn: Connection, schema: Schema, values: Mapping[str, Any]) -> bool:
    """Write the job of a tick that another executor has fired; False when it is known, or was fired here."""
    shown = {name: None if values[name] is None else Jsonb(values[name]) for name in ("data", "extra")}
    return bool(await fetch(conn, schema, _ADOPT, {**values, **shown}))
