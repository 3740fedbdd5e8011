"""Recalls as stored operations: begun, held by one process at a time, stopped; and the ledger of their jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

from adapter.domain.job import Job
from adapter.domain.recall import NewRecall, Recall, RecallMode, RecallOutcome, RecallState
from adapter.store.database import Connection, Schema, fetch
from adapter.store.rows import job_from_row

_BEGIN: LiteralString = """
INSERT INTO {s}.recalls (id, task, source, target, mode, types, idempotent, reason, actor, batch, per_second)
VALUES (%(id)s, %(task)s, %(source)s, %(target)s, %(mode)s, %(types)s, %(idempotent)s, %(reason)s, %(actor)s, %(batch)s, %(per_second)s)
ON CONFLICT (task) WHERE state IN ('planned', 'running', 'stopping') DO NOTHING
RETURNING *
"""

_OPEN_FOR: LiteralString = """
SELECT * FROM {s}.recalls WHERE task = %(task)s AND state IN ('planned', 'running', 'stopping')
"""
_GET: LiteralString = "SELECT * FROM {s}.recalls WHERE id = %(id)s"
_LIST: LiteralString = "SELECT * FROM {s}.recalls ORDER BY created_at DESC, id DESC LIMIT %(limit)s"

#: A recall that nobody works on: its process died, or was interrupted.
_UNHELD: LiteralString = """
SELECT id FROM {s}.recalls WHERE state IN ('planned', 'running', 'stopping')
  AND (held_until IS NULL OR held_until < now()) AND (source = '*' OR source = ANY(%(executors)s))
ORDER BY created_at LIMIT 1
"""

_HOLD: LiteralString = """
UPDATE {s}.recalls SET holder = %(holder)s, held_until = now() + %(lease)s,
  calls = calls + %(calls)s, seconds = seconds + %(seconds)s
WHERE id = %(id)s AND state IN ('planned', 'running', 'stopping')
  AND (holder = %(holder)s OR held_until IS NULL OR held_until < now())
RETURNING *
"""

_RELEASE: LiteralString = """
UPDATE {s}.recalls SET holder = NULL, held_until = NULL, calls = calls + %(calls)s, seconds = seconds + %(seconds)s
WHERE id = %(id)s AND holder = %(holder)s
"""

_TURN: LiteralString = """
UPDATE {s}.recalls SET state = %(to)s,
  finished_at = CASE WHEN %(to)s IN ('done', 'stopped') THEN now() END
WHERE id = %(id)s AND state = ANY(%(sources)s)
  AND (%(to)s NOT IN ('done', 'stopped') OR NOT EXISTS (
    SELECT FROM {s}.recall_jobs j WHERE j.recall_id = %(id)s AND j.outcome IS NULL))
RETURNING *
"""

#: Each row of the ledger that is due, with its job while it is open.
_DUE: LiteralString = """
SELECT j.job_id AS of_job, j.epoch AS of_epoch, j.executor AS of_executor, j.asked_at,
  o.recall_id IS NOT DISTINCT FROM j.recall_id AS is_ours, now() - o.first_try_at AS try_age,
  COALESCE(o.dispatch_lease_until > now(), false) AS is_trying, o.*
FROM {s}.recall_jobs j LEFT JOIN {s}.worker_jobs_open o ON o.id = j.job_id
WHERE j.recall_id = %(id)s AND j.outcome IS NULL AND j.next_at <= now()
ORDER BY j.next_at, j.job_id LIMIT %(limit)s
"""

_SOONEST: LiteralString = """
SELECT extract(epoch FROM min(next_at) - now())::float8 AS seconds FROM {s}.recall_jobs
WHERE recall_id = %(id)s AND outcome IS NULL
"""

_LATER: LiteralString = """
UPDATE {s}.recall_jobs SET next_at = now() + %(delay)s
WHERE recall_id = %(id)s AND job_id = %(job)s AND outcome IS NULL
"""

#: The cancel may leave once this is committed, and only then.
_ASK: LiteralString = """
UPDATE {s}.recall_jobs j SET asked_at = COALESCE(j.asked_at, now())
WHERE j.recall_id = %(id)s AND j.job_id = %(job)s AND j.epoch = %(epoch)s AND j.outcome IS NULL
  AND EXISTS (SELECT FROM {s}.worker_jobs_open o WHERE o.id = j.job_id AND o.epoch = j.epoch
    AND o.recall_id = j.recall_id AND NOT o.cancel_requested)
  AND (j.asked_at IS NOT NULL OR EXISTS (SELECT FROM {s}.recalls r WHERE r.id = j.recall_id AND r.state = 'running'))
RETURNING asked_at
"""

#: Gives a job up that nothing was asked of, or that something else has taken care of.
_LEAVE: LiteralString = """
WITH held AS MATERIALIZED (
  -- Jobs before their ledger, as whoever settles them does.
  SELECT id FROM {s}.worker_jobs_open WHERE recall_id = %(id)s AND (%(job)s::uuid IS NULL OR id = %(job)s)
  ORDER BY id FOR UPDATE
), left_alone AS (
  UPDATE {s}.recall_jobs SET outcome = %(outcome)s, settled_at = now()
  WHERE recall_id = %(id)s AND (%(job)s::uuid IS NULL OR job_id = %(job)s) AND outcome IS NULL
    AND (NOT %(unasked)s OR asked_at IS NULL) AND (SELECT count(*) FROM held) >= 0
  RETURNING recall_id, job_id
), freed AS (
  UPDATE {s}.worker_jobs_open o SET recall_id = NULL, recall_to = NULL, updated_at = now()
  FROM left_alone l WHERE o.id = l.job_id AND o.recall_id = l.recall_id
)
SELECT job_id FROM left_alone
"""

#: What was left where it was because somebody stopped the recall is wanted again.
_AGAIN: LiteralString = "DELETE FROM {s}.recall_jobs WHERE recall_id = %(id)s AND outcome = 'left'"

#: Runs of closed epochs that a fence refuses; canceling them only spares the remote the trouble.
_UNWANTED: LiteralString = """
SELECT r.executor, r.run_id, r.job_id, r.epoch FROM {s}.remote_runs r
JOIN {s}.recall_jobs j ON j.job_id = r.job_id AND j.epoch = r.epoch
WHERE j.recall_id = %(id)s AND j.outcome = 'moved' AND r.wanted = 'canceled' AND r.ended_at IS NULL
  AND r.run_id <> ALL(%(seen)s)
ORDER BY r.created_at, r.run_id LIMIT %(limit)s
"""

_TALLY: LiteralString = """
SELECT COALESCE(outcome, 'open') AS outcome, count(*) AS n FROM {s}.recall_jobs WHERE recall_id = %(id)s GROUP BY 1
"""
_IDS: LiteralString = """
SELECT job_id, outcome FROM {s}.recall_jobs WHERE recall_id = %(id)s AND outcome = ANY(%(outcomes)s)
ORDER BY settled_at, job_id LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A job a recall wants, as the ledger has it, with its row while that is open.

    ``is_ours``: the intent of this recall still stands on it. ``is_trying``: a dispatcher holds it right now.
    ``try_age``: time since the first try of its epoch.
    """

    job_id: UUID
    epoch: int
    executor: str
    asked: bool
    is_ours: bool
    is_trying: bool
    try_age: timedelta | None
    job: Job | None


def _recall_from(row: Mapping[str, Any]) -> Recall:
    kept = {name: row[name] for name in ("id", "task", "source", "target", "reason", "actor", "batch")}
    kept |= {name: row[name] for name in ("per_second", "calls", "seconds", "created_at", "finished_at")}
    return Recall(
        **kept,
        mode=RecallMode(row["mode"]),
        state=RecallState(row["state"]),
        types=tuple(row["types"]),
        idempotent=tuple(row["idempotent"]),
    )


async def begin(conn: Connection, schema: Schema, new: NewRecall) -> Recall | None:
    """Store a recall; None while another one of the same task is not done."""
    parameters = asdict(new) | {"types": list(new.types), "idempotent": list(new.idempotent)}
    rows = await fetch(conn, schema, _BEGIN, parameters | {"mode": new.mode.value})
    return _recall_from(rows[0]) if rows else None


async def open_for(conn: Connection, schema: Schema, task: str) -> Recall | None:
    """Return the recall of this very task that is not done."""
    rows = await fetch(conn, schema, _OPEN_FOR, {"task": task})
    return _recall_from(rows[0]) if rows else None


async def get(conn: Connection, schema: Schema, recall_id: UUID) -> Recall | None:
    """Return a recall or None."""
    rows = await fetch(conn, schema, _GET, {"id": recall_id})
    return _recall_from(rows[0]) if rows else None


async def latest(conn: Connection, schema: Schema, limit: int) -> list[Recall]:
    """Return recalls, the newest first."""
    return [_recall_from(row) for row in await fetch(conn, schema, _LIST, {"limit": limit})]


async def unheld(conn: Connection, schema: Schema, executors: Sequence[str]) -> UUID | None:
    """Return a recall that is not done and that nobody works on, at one of ``executors``."""
    rows = await fetch(conn, schema, _UNHELD, {"executors": list(executors)})
    return rows[0]["id"] if rows else None


async def hold(
    conn: Connection,
    schema: Schema,
    recall_id: UUID,
    holder: UUID,
    lease: timedelta,
    *,
    calls: int = 0,
    seconds: float = 0.0,
) -> Recall | None:
    """Take or keep the recall for a while, and add what was spent on it; None: it is done, or another's."""
    parameters = {"id": recall_id, "holder": holder, "lease": lease, "calls": calls, "seconds": seconds}
    rows = await fetch(conn, schema, _HOLD, parameters)
    return _recall_from(rows[0]) if rows else None


async def release(
    conn: Connection, schema: Schema, recall_id: UUID, holder: UUID, *, calls: int, seconds: float
) -> None:
    """Give the recall to whoever comes next."""
    parameters = {"id": recall_id, "holder": holder, "calls": calls, "seconds": seconds}
    await fetch(conn, schema, _RELEASE, parameters)


async def turn(
    conn: Connection, schema: Schema, recall_id: UUID, to: RecallState, *sources: RecallState
) -> Recall | None:
    """Move it to another state from one of ``sources``; it is done or stopped only when no job is open."""
    parameters = {"id": recall_id, "to": to.value, "sources": [each.value for each in sources]}
    rows = await fetch(conn, schema, _TURN, parameters)
    return _recall_from(rows[0]) if rows else None


async def go_on(conn: Connection, schema: Schema, recall_id: UUID) -> Recall | None:
    """Let a recall that was stopped run again, also over what it had left where it was."""
    async with conn.transaction():
        sources = (RecallState.STOPPED, RecallState.STOPPING)
        running = await turn(conn, schema, recall_id, RecallState.RUNNING, *sources)
        if running is not None:
            await fetch(conn, schema, _AGAIN, {"id": recall_id})
    return running


async def due(conn: Connection, schema: Schema, recall_id: UUID, limit: int) -> list[Wanted]:
    """Return the jobs that are to be looked at now."""
    rows = await fetch(conn, schema, _DUE, {"id": recall_id, "limit": limit})
    return [
        Wanted(
            job_id=row["of_job"],
            epoch=row["of_epoch"],
            executor=row["of_executor"],
            asked=row["asked_at"] is not None,
            is_ours=row["id"] is not None and row["is_ours"] and row["epoch"] == row["of_epoch"],
            is_trying=row["is_trying"],
            try_age=row["try_age"],
            job=job_from_row(row) if row["id"] is not None else None,
        )
        for row in rows
    ]


async def soonest(conn: Connection, schema: Schema, recall_id: UUID) -> float | None:
    """Return the seconds until the next job is to be looked at; None when none is left."""
    return (await fetch(conn, schema, _SOONEST, {"id": recall_id}))[0]["seconds"]


async def later(conn: Connection, schema: Schema, recall_id: UUID, job_id: UUID, delay: timedelta) -> None:
    """Look at a job again after ``delay``."""
    await fetch(conn, schema, _LATER, {"id": recall_id, "job": job_id, "delay": delay})


async def ask(conn: Connection, schema: Schema, recall_id: UUID, job_id: UUID, epoch: int) -> bool:
    """Record that a cancel is about to leave; False: it must not, the job is not the recall's any more."""
    parameters = {"id": recall_id, "job": job_id, "epoch": epoch}
    return bool(await fetch(conn, schema, _ASK, parameters))


async def leave(
    conn: Connection,
    schema: Schema,
    recall_id: UUID,
    outcome: RecallOutcome,
    *,
    job_id: UUID | None = None,
    unasked: bool = False,
) -> int:
    """Take the intent off a job, or off all: it stays where it is. ``unasked``: only while no cancel has left."""
    parameters = {"id": recall_id, "job": job_id, "outcome": outcome.value, "unasked": unasked}
    return len(await fetch(conn, schema, _LEAVE, parameters))


async def unwanted(
    conn: Connection, schema: Schema, recall_id: UUID, seen: Sequence[str], limit: int
) -> list[tuple[str, str, UUID, int]]:
    """Return (executor, run, job, epoch) of runs that were left behind and not seen to end, but for ``seen``."""
    rows = await fetch(conn, schema, _UNWANTED, {"id": recall_id, "seen": list(seen), "limit": limit})
    return [(row["executor"], row["run_id"], row["job_id"], row["epoch"]) for row in rows]


async def tally(conn: Connection, schema: Schema, recall_id: UUID) -> dict[str, int]:
    """Return how many jobs have come to each outcome; ``open``: to none yet."""
    rows = await fetch(conn, schema, _TALLY, {"id": recall_id})
    return {row["outcome"]: row["n"] for row in rows}


async def ids(
    conn: Connection, schema: Schema, recall_id: UUID, outcomes: Sequence[RecallOutcome], limit: int
) -> dict[RecallOutcome, list[UUID]]:
    """Return the jobs that came to these outcomes, ``limit`` in all."""
    parameters = {"id": recall_id, "outcomes": [each.value for each in outcomes], "limit": limit}
    found: dict[RecallOutcome, list[UUID]] = {each: [] for each in outcomes}
    for row in await fetch(conn, schema, _IDS, parameters):
        found[RecallOutcome(row["outcome"])].append(row["job_id"])
    return found
