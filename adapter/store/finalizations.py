"""Executors that were left for good: who said so, by which gates; and what is still there of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from adapter.domain.errors import ExecutorFinalizedError
from adapter.store.database import Connection, Schema, fetch

# All flags, so that none is turned to the executor, and no drill begun, in between.
_LOCK: LiteralString = "SELECT version FROM {s}.flags_state FOR UPDATE"
_DRILL: LiteralString = """
SELECT task FROM {s}.drills WHERE state = 'running' AND (%(task)s = '*' OR task = %(task)s) LIMIT 1
"""
_WRITE: LiteralString = """
INSERT INTO {s}.finalizations (executor, task, actor, source, reason, gates, accepted)
VALUES (%(executor)s, %(task)s, %(actor)s, %(source)s, %(reason)s, %(gates)s, %(accepted)s)
ON CONFLICT (executor, task) WHERE reopened_at IS NULL DO NOTHING
RETURNING *
"""
_REOPEN: LiteralString = """
UPDATE {s}.finalizations SET reopened_at = now(), reopened_by = %(actor)s, reopened_from = %(source)s, reopen_reason = %(reason)s
WHERE executor = %(executor)s AND task = %(task)s AND reopened_at IS NULL RETURNING *
"""
_STANDING: LiteralString = "SELECT * FROM {s}.finalizations WHERE reopened_at IS NULL ORDER BY executor, task"
#: Of the task, of every task; and for a flag of every task, of any.
_COVERS: LiteralString = """
SELECT task FROM {s}.finalizations WHERE executor = %(executor)s AND reopened_at IS NULL
  AND (task IN (%(task)s, '*') OR %(task)s = '*') ORDER BY task LIMIT 1
"""
_WEBHOOKS: LiteralString = """
SELECT COALESCE(secret_id, '?') AS secret, count(*) AS times, max(received_at) AS last_at FROM {s}.webhook_inbox
WHERE split_part(source, ':', 1) = %(executor)s AND received_at > now() - %(window)s::interval GROUP BY 1 ORDER BY 1
"""
_CALLS: LiteralString = "SELECT max(refilled_at) AS at FROM {s}.remote_budgets WHERE executor = %(executor)s"
_SCHEDULES: LiteralString = """
SELECT task, id::text AS id, COALESCE(remote_schedule_id, '') AS there,
  owner <> 'local' AND owner = %(executor)s OR handover_to = %(executor)s AS lives_there
FROM {s}.job_schedules
WHERE (owner = %(executor)s AND owner <> 'local' OR handover_to = %(executor)s OR executor = %(executor)s)
  AND (%(tasks)s::text[] IS NULL OR task = ANY(%(tasks)s))
ORDER BY task, id
"""
_FAILBACKS: LiteralString = """
SELECT task, executor, max(at) AS at FROM {s}.flag_changes
WHERE kind = 'circuit' AND source = 'auto' AND after IS NOT NULL AND executor <> %(executor)s
  AND at > now() - %(window)s::interval AND task = ANY(%(tasks)s)
GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalization:
    """One executor that one task (``*``: every task) has left for good. ``accepted``: gates that had not passed, and why."""

    id: int
    at: datetime
    executor: str
    task: str
    actor: str
    source: str
    reason: str
    gates: list[dict[str, Any]]
    accepted: dict[str, str]
    reopened_at: datetime | None
    reopened_by: str | None
    reopened_from: str | None
    reopen_reason: str | None


@dataclass(frozen=True, slots=True)
class OwnedSchedule:
    """A schedule that lives at an executor, or whose jobs go there by its own word."""

    task: str
    id: str
    there: str
    lives_there: bool


async def refuse_finalized(conn: Connection, schema: Schema, executor: str, task: str) -> None:
    """Refuse to send jobs to an executor that was left for good; called with the flags locked.

    Raises:
        ExecutorFinalizedError: it was, for this task.
    """
    rows = await fetch(conn, schema, _COVERS, {"executor": executor, "task": task})
    if rows:
        raise ExecutorFinalizedError(executor, rows[0]["task"])


async def write(conn: Connection, schema: Schema, values: Mapping[str, Any]) -> Finalization | str:
    """Write down that an executor was left for good, if the flags still have ``version``; or return why not."""
    async with conn.transaction():
        if (await fetch(conn, schema, _LOCK))[0]["version"] != values["version"]:
            return "flags were turned meanwhile, so the gates have to be asked again"
        if rows := await fetch(conn, schema, _DRILL, values):
            return f"a drill of {rows[0]['task']!r} is running"
        noted = {name: Jsonb(values[name]) for name in ("gates", "accepted")}
        rows = await fetch(conn, schema, _WRITE, {**values, **noted})
    return Finalization(**rows[0]) if rows else "it was finalized already"


async def reopen(conn: Connection, schema: Schema, values: Mapping[str, Any]) -> Finalization | None:
    """Take a finalization back; None when there is none."""
    rows = await fetch(conn, schema, _REOPEN, values)
    return Finalization(**rows[0]) if rows else None


async def standing(conn: Connection, schema: Schema) -> list[Finalization]:
    """Return those that hold."""
    return [Finalization(**row) for row in await fetch(conn, schema, _STANDING)]


async def webhooks(
    conn: Connection, schema: Schema, executor: str, window: timedelta
) -> list[tuple[str, int, datetime]]:
    """Return (id of the secret, how many, the last) of the webhooks an executor signed."""
    rows = await fetch(conn, schema, _WEBHOOKS, {"executor": executor, "window": window})
    return [(row["secret"], row["times"], row["last_at"]) for row in rows]


async def last_call(conn: Connection, schema: Schema, executor: str) -> datetime | None:
    """Return when our key was last used there, as far as its rate limit was counted."""
    return (await fetch(conn, schema, _CALLS, {"executor": executor}))[0]["at"]


async def schedules(
    conn: Connection, schema: Schema, executor: str, tasks: Sequence[str] | None
) -> list[OwnedSchedule]:
    """Return the schedules that live there, or send their jobs there."""
    parameters = {"executor": executor, "tasks": None if tasks is None else list(tasks)}
    return [OwnedSchedule(**row) for row in await fetch(conn, schema, _SCHEDULES, parameters)]


async def failbacks(
    conn: Connection, schema: Schema, executor: str, tasks: Sequence[str], window: timedelta
) -> list[tuple[str, str, datetime]]:
    """Return (task, executor, when) of circuits that opened by themselves elsewhere than at ``executor``."""
    parameters = {"executor": executor, "tasks": list(tasks), "window": window}
    return [
        (row["task"], row["executor"], row["at"]) for row in await fetch(conn, schema, _FAILBACKS, parameters)
    ]
