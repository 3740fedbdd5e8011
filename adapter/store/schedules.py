"""Schedules: rows with an expression and the time of their next tick, which is taken in the insert's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from adapter.domain.cron import Cron, Missed
from adapter.store.database import Connection, Schema, fetch
from adapter.store.steps import Row

#: Made by whoever declares the task, and followed by the declaration from then on.
DECLARED: LiteralString = "task:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One schedule. ``owner``: the executor that keeps its clock; ``problem``: why its ticks make no jobs now.

    ``next_at`` is None at an owner that does not say, and while it is paused. ``key``: a second one of the same
    key changes this one.
    """

    id: UUID
    task: str
    cron: str
    timezone: str
    missed: Missed
    active: bool
    owner: str
    next_at: datetime | None
    last_at: datetime | None
    data: Any
    tag: str | None
    user_id: str | None
    executor: str | None
    description: str | None
    persistent: bool
    key: str | None
    external_id: str | None
    window: str | None
    sends_tick: bool
    remote_schedule_id: str | None
    handover_state: str | None
    handover_to: str | None
    handover_cut: datetime | None
    problem: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def times(self) -> Cron:
        """Its fire times."""
        return Cron(self.cron, self.timezone)

    @property
    def is_declared(self) -> bool:
        """Whether the registry says it, so that a boot changes it with the code."""
        return self.key is not None and self.key.startswith(DECLARED)


#: A schedule, as `read_schedule` reads it.
COLUMNS: LiteralString = """id, task, cron, timezone, missed, active, owner, next_at, last_at, data, tag, user_id, executor,
  description, persistent, deduplication_key AS key, external_id, fire_window AS window, sends_tick, remote_schedule_id, handover_state, handover_to,
  handover_cut, extra ->> 'problem' AS problem, created_at, updated_at"""

#: What follows the code or the call; who paused it and what it has fired stays.
_PUT: LiteralString = (
    """
INSERT INTO {s}.job_schedules AS o (id, task, cron, timezone, missed, data, tag, user_id, executor, description, persistent,
  deduplication_key, external_id, fire_window, sends_tick, next_at)
VALUES (%(id)s, %(task)s, %(cron)s, %(timezone)s, %(missed)s, %(data)s, %(tag)s, %(user_id)s, %(executor)s, %(description)s,
  %(persistent)s, %(key)s, %(external_id)s, %(window)s, %(sends_tick)s, %(next_at)s)
ON CONFLICT (deduplication_key) DO UPDATE SET
  task = EXCLUDED.task, cron = EXCLUDED.cron, timezone = EXCLUDED.timezone, missed = EXCLUDED.missed, data = EXCLUDED.data,
  tag = EXCLUDED.tag, user_id = EXCLUDED.user_id, executor = EXCLUDED.executor, description = EXCLUDED.description,
  persistent = EXCLUDED.persistent, external_id = EXCLUDED.external_id,
  fire_window = EXCLUDED.fire_window, sends_tick = EXCLUDED.sends_tick,
  extra = o.extra - 'problem' - 'refused_until',
  next_at = CASE WHEN (o.cron, o.timezone) = (EXCLUDED.cron, EXCLUDED.timezone) AND o.next_at IS NOT NULL
    THEN o.next_at ELSE EXCLUDED.next_at END,
  updated_at = now()
WHERE o.owner = 'local' AND o.handover_state IS NULL AND
  (o.task, o.cron, o.timezone, o.missed, o.data, o.tag, o.user_id, o.executor, o.description, o.persistent, o.external_id,
    o.fire_window, o.sends_tick)
  IS DISTINCT FROM (EXCLUDED.task, EXCLUDED.cron, EXCLUDED.timezone, EXCLUDED.missed, EXCLUDED.data, EXCLUDED.tag,
    EXCLUDED.user_id, EXCLUDED.executor, EXCLUDED.description, EXCLUDED.persistent, EXCLUDED.external_id,
    EXCLUDED.fire_window, EXCLUDED.sends_tick)
RETURNING """
    + COLUMNS
)

_GET: LiteralString = "SELECT " + COLUMNS + " FROM {s}.job_schedules WHERE id = %(id)s"
_LOCK: LiteralString = _GET + " FOR UPDATE"
_BY_KEY: LiteralString = (
    "SELECT " + COLUMNS + " FROM {s}.job_schedules WHERE deduplication_key = %(key)s FOR UPDATE"
)
_LIST: LiteralString = (
    "SELECT "
    + COLUMNS
    + """ FROM {s}.job_schedules
WHERE (%(task)s::text IS NULL OR task = %(task)s) AND (NOT %(elsewhere)s OR owner <> 'local' AND handover_state IS NULL) ORDER BY task, id
"""
)

_PAGE: LiteralString = (
    "SELECT " + COLUMNS + " FROM {s}.job_schedules ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s"
)
_COUNT: LiteralString = "SELECT count(*) AS total FROM {s}.job_schedules"

#: A paused one stays so, and a tick that is due already is not lost to a change of something else.
_CHANGE: LiteralString = (
    """
UPDATE {s}.job_schedules o SET task = %(task)s, cron = %(cron)s, timezone = %(timezone)s, external_id = %(external_id)s,
  fire_window = %(window)s, extra = o.extra - 'problem' - 'refused_until',
  next_at = CASE WHEN NOT o.active THEN NULL
    WHEN (o.cron, o.timezone) = (%(cron)s, %(timezone)s) AND o.next_at IS NOT NULL THEN o.next_at
    ELSE %(next_at)s::timestamptz END,
  updated_at = now()
WHERE id = %(id)s RETURNING """
    + COLUMNS
)

#: Nobody else has them until this transaction ends; tasks that are not known here wait for who knows them.
_DUE: LiteralString = (
    "SELECT "
    + COLUMNS
    + """ FROM {s}.job_schedules
WHERE active AND owner = 'local' AND next_at <= now() AND task = ANY(%(tasks)s) AND (%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s))
  AND COALESCE((extra ->> 'refused_until')::timestamptz <= now(), true)
ORDER BY next_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
)

#: The second belt: a tick is taken once and never again, whatever becomes of the schedule's next time.
_TAKE: LiteralString = """
INSERT INTO {s}.schedule_ticks (schedule_id, fire_time, job_id)
SELECT * FROM unnest(%(schedules)s::uuid[], %(times)s::timestamptz[], %(jobs)s::uuid[]) ORDER BY 1, 2
ON CONFLICT DO NOTHING RETURNING schedule_id, fire_time
"""
_TICK_OF: LiteralString = """
UPDATE {s}.schedule_ticks t SET job_id = g.job_id
FROM unnest(%(schedules)s::uuid[], %(times)s::timestamptz[], %(jobs)s::uuid[]) AS g (schedule_id, fire_time, job_id)
WHERE (t.schedule_id, t.fire_time) = (g.schedule_id, g.fire_time)
"""

_ADVANCE: LiteralString = """
UPDATE {s}.job_schedules o SET next_at = g.next_at, last_at = COALESCE(g.last_at, o.last_at), updated_at = now(),
  extra = CASE WHEN g.problem IS NULL THEN o.extra - 'problem' - 'refused_until'
    ELSE COALESCE(o.extra, '{}') || jsonb_build_object('problem', g.problem) END
FROM unnest(%(ids)s::uuid[], %(nexts)s::timestamptz[], %(lasts)s::timestamptz[], %(problems)s::text[])
  AS g (id, next_at, last_at, problem)
WHERE o.id = g.id
"""

_ACTIVATE: LiteralString = (
    """
UPDATE {s}.job_schedules SET active = %(active)s, next_at = %(next_at)s, updated_at = now(),
  extra = CASE WHEN %(undeclared)s THEN COALESCE(extra, '{}') || '{"undeclared": true}' ELSE extra - 'undeclared' END
WHERE id = %(id)s RETURNING """
    + COLUMNS
)
_DELETE: LiteralString = "DELETE FROM {s}.job_schedules WHERE id = %(id)s"

_OF_KEYS: LiteralString = (
    "SELECT "
    + COLUMNS
    + """ FROM {s}.job_schedules
WHERE deduplication_key = ANY(%(keys)s) AND active <> %(resting)s AND (active OR extra ? 'undeclared')
  AND owner = 'local' AND handover_state IS NULL ORDER BY id FOR UPDATE
"""
)

_ELSEWHERE: LiteralString = (
    "SELECT "
    + COLUMNS
    + """ FROM {s}.job_schedules
WHERE deduplication_key = ANY(%(keys)s) AND (owner <> 'local' OR handover_state IS NOT NULL) ORDER BY id
"""
)

_NOTE: LiteralString = """
INSERT INTO {s}.schedule_changes (actor, source, schedule_id, task, kind, before, after, reason)
VALUES (%(actor)s, %(source)s, %(id)s, %(task)s, %(kind)s, %(before)s, %(after)s, %(reason)s)
"""
_SOONEST: LiteralString = """
SELECT extract(epoch FROM min(next_at) - now())::float8 AS seconds FROM {s}.job_schedules
WHERE active AND owner = 'local' AND task = ANY(%(tasks)s)
  AND COALESCE((extra ->> 'refused_until')::timestamptz <= now(), true)
"""
#: Only while its tick is due: another process may have fired it meanwhile.
_PUT_ASIDE: LiteralString = """
UPDATE {s}.job_schedules SET updated_at = now(), extra = COALESCE(extra, '{}')
  || jsonb_build_object('problem', %(problem)s::text, 'refused_until', now() + %(wait)s)
WHERE id = %(id)s AND next_at <= now()
"""


def read_schedule(row: Row) -> Schedule:
    """Return a schedule from its `COLUMNS`."""
    return Schedule(**row)


async def put(conn: Connection, schema: Schema, values: Mapping[str, Any]) -> Schedule | None:
    """Make a schedule, or change the one of its key.

    None: that one says the same already, or its clock is kept elsewhere or changes hands.
    """
    parameters = {**values, "data": None if values["data"] is None else Jsonb(values["data"])}
    rows = await fetch(conn, schema, _PUT, parameters)
    return read_schedule(rows[0]) if rows else None


async def get(conn: Connection, schema: Schema, schedule_id: UUID, *, lock: bool = False) -> Schedule | None:
    """Return a schedule or None; locked until the end of the transaction if asked for."""
    rows = await fetch(conn, schema, _LOCK if lock else _GET, {"id": schedule_id})
    return read_schedule(rows[0]) if rows else None


async def by_key(conn: Connection, schema: Schema, key: str) -> Schedule | None:
    """Return the schedule of a key, locked, or None."""
    rows = await fetch(conn, schema, _BY_KEY, {"key": key})
    return read_schedule(rows[0]) if rows else None


async def listed(
    conn: Connection, schema: Schema, *, task: str | None = None, elsewhere: bool = False
) -> list[Schedule]:
    """Return the schedules of a task, or all; ``elsewhere``: only those whose clock another executor keeps for good."""
    return [
        read_schedule(row) for row in await fetch(conn, schema, _LIST, {"task": task, "elsewhere": elsewhere})
    ]


async def page(conn: Connection, schema: Schema, *, limit: int, offset: int) -> tuple[list[Schedule], int]:
    """Return some of all schedules, the newest first, and how many there are."""
    rows = await fetch(conn, schema, _PAGE, {"limit": limit, "offset": offset})
    total = (await fetch(conn, schema, _COUNT))[0]["total"]
    return [read_schedule(row) for row in rows], total


async def change(conn: Connection, schema: Schema, schedule: Schedule, next_at: datetime) -> Schedule:
    """Write what can be changed of a locked schedule, whose new times begin with ``next_at``."""
    values = {
        name: getattr(schedule, name) for name in ("id", "task", "cron", "timezone", "external_id", "window")
    }
    return read_schedule((await fetch(conn, schema, _CHANGE, {**values, "next_at": next_at}))[0])


async def due(
    conn: Connection, schema: Schema, tasks: Sequence[str], *, limit: int, only: Sequence[UUID] | None = None
) -> list[Schedule]:
    """Return schedules of these tasks with a tick that is due, locked until the end of the transaction."""
    parameters = {"tasks": list(tasks), "limit": limit, "ids": None if only is None else list(only)}
    return [read_schedule(row) for row in await fetch(conn, schema, _DUE, parameters)]


async def put_aside(
    conn: Connection, schema: Schema, schedule_id: UUID, problem: str, wait: timedelta
) -> None:
    """Say why a tick that stays due has made no job, and let nobody try it for so long."""
    await fetch(conn, schema, _PUT_ASIDE, {"id": schedule_id, "problem": problem, "wait": wait})


async def take(
    conn: Connection, schema: Schema, ticks: Sequence[tuple[UUID, datetime, UUID | None]]
) -> set[tuple[UUID, datetime]]:
    """Take ticks, as (schedule, fire time, job); returns those that nobody had taken before."""
    return {
        (row["schedule_id"], row["fire_time"]) for row in await fetch(conn, schema, _TAKE, _columns(ticks))
    }


async def note_jobs(
    conn: Connection, schema: Schema, ticks: Sequence[tuple[UUID, datetime, UUID | None]]
) -> None:
    """Say which job a tick that was taken has come to."""
    await fetch(conn, schema, _TICK_OF, _columns(ticks))


def _columns(ticks: Sequence[tuple[UUID, datetime, UUID | None]]) -> dict[str, Any]:
    return {
        "schedules": [each[0] for each in ticks],
        "times": [each[1] for each in ticks],
        "jobs": [each[2] for each in ticks],
    }


@dataclass(frozen=True, slots=True)
class Advance:
    """A schedule's next tick, the last one it fired, and why it fired none, each None where nothing is to be said."""

    id: UUID
    next_at: datetime
    last_at: datetime | None
    problem: str | None = None


async def advance(conn: Connection, schema: Schema, advances: Sequence[Advance]) -> None:
    """Move schedules that are locked to their next tick."""
    parameters = {
        "ids": [each.id for each in advances],
        "nexts": [each.next_at for each in advances],
        "lasts": [each.last_at for each in advances],
        "problems": [each.problem for each in advances],
    }
    await fetch(conn, schema, _ADVANCE, parameters)


async def activate(
    conn: Connection,
    schema: Schema,
    schedule_id: UUID,
    *,
    active: bool,
    next_at: datetime | None,
    undeclared: bool = False,
) -> Schedule | None:
    """Let a schedule fire or rest. ``undeclared``: it rests since the registry does not name it any more."""
    parameters = {"id": schedule_id, "active": active, "next_at": next_at, "undeclared": undeclared}
    rows = await fetch(conn, schema, _ACTIVATE, parameters)
    return read_schedule(rows[0]) if rows else None


async def delete(conn: Connection, schema: Schema, schedule_id: UUID) -> None:
    """Remove a schedule; its ticks stay taken."""
    await fetch(conn, schema, _DELETE, {"id": schedule_id})


async def of_keys(conn: Connection, schema: Schema, keys: Sequence[str], *, resting: bool) -> list[Schedule]:
    """Return the schedules of these keys, locked: those that rest since nobody declares them, or those that fire."""
    rows = await fetch(conn, schema, _OF_KEYS, {"keys": list(keys), "resting": resting})
    return [read_schedule(row) for row in rows]


async def kept_elsewhere(conn: Connection, schema: Schema, keys: Sequence[str]) -> list[Schedule]:
    """Return the schedules of these keys whose clock is not ours alone."""
    return [read_schedule(row) for row in await fetch(conn, schema, _ELSEWHERE, {"keys": list(keys)})]


async def note(
    conn: Connection,
    schema: Schema,
    schedule: Schedule,
    *,
    what: str,
    author: Mapping[str, str],
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Write a change down, with ``actor``, ``source`` and ``reason``."""
    said = {"id": schedule.id, "task": schedule.task, "kind": what}
    shown = {
        name: None if each is None else Jsonb(each) for name, each in (("before", before), ("after", after))
    }
    await fetch(conn, schema, _NOTE, {**author, **said, **shown})


async def soonest(conn: Connection, schema: Schema, tasks: Sequence[str]) -> float | None:
    """Return the seconds until the next tick of these tasks' schedules, None without one."""
    return (await fetch(conn, schema, _SOONEST, {"tasks": list(tasks)}))[0]["seconds"]
