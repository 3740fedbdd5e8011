"""Copies of jobs that have ended: which were made, how far one has looked, and what they came to.

A row of ``shadows`` is a copy with its verdict, once it has one; a row of ``shadow_progress`` is one shadow
with the place up to which ended jobs were looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from adapter.domain.comparison import Outcome
from adapter.domain.shadow import ShadowMode
from adapter.store.database import Connection, Schema, fetch

#: A copy without a verdict after this gets none: it says nothing.
GIVEN_UP_AFTER: Final[timedelta] = timedelta(days=1)
_LAST: Final = UUID(int=2**128 - 1)

_SWITCHES: LiteralString = """
SELECT task, executor, percent::float8 AS percent, salt, detail, version, updated_at
FROM {s}.executor_flags WHERE kind = 'shadow' ORDER BY task, executor
"""

_ARE_ANY: LiteralString = """
SELECT EXISTS (SELECT FROM {s}.executor_flags WHERE kind = 'shadow')
  OR EXISTS (SELECT FROM {s}.shadows WHERE verdict IS NULL) AS found
"""

_BEGIN: LiteralString = """
INSERT INTO {s}.shadow_progress (task, executor, flag_version, seen_at, seen_id)
VALUES (%(task)s, %(executor)s, %(version)s, %(from)s, %(last)s) ON CONFLICT DO NOTHING
"""

#: Whoever has the row makes the copies; the others have no need to.
_HOLD: LiteralString = """
SELECT flag_version, seen_at, seen_id, now() - %(settled)s::interval AS horizon, (SELECT count(*) FROM {s}.shadows w
  WHERE w.task = p.task AND w.executor = p.executor AND w.verdict IS NULL) AS open
FROM {s}.shadow_progress p WHERE task = %(task)s AND executor = %(executor)s FOR UPDATE SKIP LOCKED
"""

#: Jobs that ran, somewhere else, and came to something of their own.
_ENDED: LiteralString = """
SELECT id, finished FROM {s}.worker_jobs_finished
WHERE type = %(task)s AND (finished, id) > (%(seen_at)s, %(seen_id)s) AND finished <= %(horizon)s
  AND executor <> %(executor)s AND started IS NOT NULL AND NOT COALESCE(extra ? 'shadow_of', false)
  AND status IN ('COMPLETED', 'FAILED', 'TIMED_OUT', 'CRASHED')
ORDER BY finished, id LIMIT %(limit)s
"""

_TERMS: LiteralString = """
SELECT id, data::text AS payload, max_attempts, retry, max_duration, user_id
FROM {s}.worker_jobs_finished WHERE type = %(task)s AND id = ANY(%(ids)s)
"""

_ADD: LiteralString = """
INSERT INTO {s}.shadows (job_id, executor, shadow_id, task, mode)
SELECT job_id, %(executor)s, shadow_id, %(task)s, %(mode)s
FROM unnest(%(jobs)s::uuid[], %(shadows)s::uuid[]) AS made(job_id, shadow_id)
"""

_MOVE: LiteralString = """
UPDATE {s}.shadow_progress SET flag_version = %(version)s, seen_at = %(seen_at)s, seen_id = %(seen_id)s,
  dropped = CASE WHEN flag_version = %(version)s THEN dropped ELSE 0 END + %(dropped)s
WHERE task = %(task)s AND executor = %(executor)s
"""

_ENDED_COPIES: LiteralString = """
SELECT w.job_id, w.executor, w.shadow_id, w.task, w.mode, now() AS at, c.finished - c.created_at AS took,
  c.executor = w.executor AS stayed, c.status AS c_status, c.error ->> 'name' AS c_error, c.result AS c_result,
  r.status AS r_status, r.error ->> 'name' AS r_error, r.result AS r_result
FROM {s}.shadows w JOIN {s}.worker_jobs_finished c ON c.id = w.shadow_id
LEFT JOIN {s}.worker_jobs_finished r ON r.id = w.job_id
WHERE w.verdict IS NULL AND w.task = ANY(%(tasks)s) ORDER BY w.made_at LIMIT %(limit)s
"""

_JUDGE: LiteralString = """
UPDATE {s}.shadows SET verdict = %(verdict)s, judged_at = now(), took = %(took)s, paths = %(paths)s,
  record_hash = %(record_hash)s, shadow_hash = %(shadow_hash)s, detail = %(detail)s
WHERE job_id = %(job_id)s AND executor = %(executor)s AND verdict IS NULL RETURNING job_id
"""

_GIVE_UP: LiteralString = """
UPDATE {s}.shadows SET verdict = 'void', judged_at = now(), detail = '{"why": "it did not end in time"}'
WHERE verdict IS NULL AND made_at < now() - %(after)s::interval RETURNING shadow_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """A shadow as it is switched on: a share of a task's ended jobs is copied to ``executor``."""

    task: str
    executor: str
    mode: ShadowMode
    percent: float
    most_open: int
    salt: str
    version: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a shadow has looked, up to where it may look now, and how many copies have no verdict yet."""

    seen_at: datetime
    seen_id: UUID
    horizon: datetime
    open: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """What a copy takes over of its job; ``payload`` is JSON text."""

    id: UUID
    payload: str | None
    max_attempts: int
    retry: dict[str, Any] | None
    max_duration: timedelta | None
    user_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedCopy:
    """A copy that has ended. ``stayed``: at its executor. ``record`` None: the job is not kept any more."""

    job_id: UUID
    executor: str
    shadow_id: UUID
    task: str
    mode: ShadowMode
    at: datetime
    took: timedelta
    stayed: bool
    shadow: Outcome
    record: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a copy came to: ``equal``, ``different``, ``taken``, ``refused``, or ``void``: it says nothing."""

    verdict: str
    paths: Sequence[str] = ()
    hashes: tuple[str, str] | None = None
    detail: Mapping[str, Any] | None = None


async def are_any(conn: Connection, schema: Schema) -> bool:
    """Whether a shadow is on, or a copy has no verdict yet."""
    return (await fetch(conn, schema, _ARE_ANY))[0]["found"]


async def switches(conn: Connection, schema: Schema) -> list[Shadow]:
    """Return every shadow that is on."""
    return [
        Shadow(
            task=row["task"],
            executor=row["executor"],
            mode=ShadowMode(row["detail"]["mode"]),
            percent=row["percent"],
            most_open=row["detail"]["most_open"],
            salt=row["salt"],
            version=row["version"],
            since=row["updated_at"],
        )
        for row in await fetch(conn, schema, _SWITCHES)
    ]


async def hold(conn: Connection, schema: Schema, shadow: Shadow, settled: timedelta) -> Progress | None:
    """Take a shadow until the end of the transaction; None when somebody else has it.

    ``settled``: how long ago a job must have ended to be looked at, so that none becomes visible behind us.
    """
    key = {"task": shadow.task, "executor": shadow.executor, "settled": settled}
    rows = await fetch(conn, schema, _HOLD, key)
    if not rows:
        begun = {"version": shadow.version, "from": shadow.since, "last": _LAST}
        await conn.execute(schema.sql(_BEGIN), key | begun)
        rows = await fetch(conn, schema, _HOLD, key)
    if not rows:
        return None
    row = rows[0]
    seen_at, seen_id = row["seen_at"], row["seen_id"]
    if row["flag_version"] != shadow.version and seen_at < shadow.since:
        # It was off meanwhile: what ended then is none of its business.
        seen_at, seen_id = shadow.since, _LAST
    return Progress(seen_at=seen_at, seen_id=seen_id, horizon=row["horizon"], open=row["open"])


async def ended_since(
    conn: Connection, schema: Schema, shadow: Shadow, progress: Progress, limit: int
) -> list[tuple[UUID, datetime]]:
    """Return jobs that ended since, the oldest end first, each with its end."""
    parameters = {
        "task": shadow.task,
        "executor": shadow.executor,
        "seen_at": progress.seen_at,
        "seen_id": progress.seen_id,
        "horizon": progress.horizon,
        "limit": limit,
    }
    return [(row["id"], row["finished"]) for row in await fetch(conn, schema, _ENDED, parameters)]


async def originals(conn: Connection, schema: Schema, task: str, ids: Sequence[UUID]) -> list[Original]:
    """Return what copies of these jobs take over."""
    rows = await fetch(conn, schema, _TERMS, {"task": task, "ids": list(ids)})
    return [Original(**row) for row in rows]


async def add(conn: Connection, schema: Schema, shadow: Shadow, copies: Mapping[UUID, UUID]) -> None:
    """Write down which copies were made: job to copy."""
    parameters = {
        "executor": shadow.executor,
        "task": shadow.task,
        "mode": shadow.mode.value,
        "jobs": list(copies),
        "shadows": list(copies.values()),
    }
    await conn.execute(schema.sql(_ADD), parameters)


async def move_on(
    conn: Connection, schema: Schema, shadow: Shadow, to: tuple[UUID, datetime] | datetime, dropped: int
) -> None:
    """Write down that all was looked at up to a job's end, or up to a moment."""
    seen_id, seen_at = (_LAST, to) if isinstance(to, datetime) else to
    parameters = {
        "task": shadow.task,
        "executor": shadow.executor,
        "version": shadow.version,
        "seen_at": seen_at,
        "seen_id": seen_id,
        "dropped": dropped,
    }
    await conn.execute(schema.sql(_MOVE), parameters)


async def ended_copies(conn: Connection, schema: Schema, tasks: Sequence[str], limit: int) -> list[EndedCopy]:
    """Return copies that have ended and have no verdict, the oldest first."""
    rows = await fetch(conn, schema, _ENDED_COPIES, {"tasks": list(tasks), "limit": limit})
    kept = ("job_id", "executor", "shadow_id", "task", "at", "took", "stayed")
    return [
        EndedCopy(
            **{name: row[name] for name in kept},
            mode=ShadowMode(row["mode"]),
            shadow=Outcome(row["c_status"], row["c_error"], row["c_result"]),
            record=Outcome(row["r_status"], row["r_error"], row["r_result"]) if row["r_status"] else None,
        )
        for row in rows
    ]


async def judge(conn: Connection, schema: Schema, copy: EndedCopy, judgement: Judgement) -> bool:
    """Write a copy's verdict; False when it has one."""
    hashes = judgement.hashes or (None, None)
    parameters = {
        "job_id": copy.job_id,
        "executor": copy.executor,
        "verdict": judgement.verdict,
        "took": copy.took,
        "paths": list(judgement.paths) or None,
        "record_hash": hashes[0],
        "shadow_hash": hashes[1],
        "detail": Jsonb(dict(judgement.detail)) if judgement.detail else None,
    }
    return bool(await fetch(conn, schema, _JUDGE, parameters))


async def give_up(conn: Connection, schema: Schema) -> list[UUID]:
    """Wait no longer for copies that have had a day; returns them."""
    rows = await fetch(conn, schema, _GIVE_UP, {"after": GIVEN_UP_AFTER})
    return [row["shadow_id"] for row in rows]
