"""Every run id of every epoch: what reconciliation walks over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from adapter.domain.job import Job
from adapter.store.database import Connection, Schema, fetch
from adapter.store.rows import job_from_row

#: A run that ought to be canceled although nobody said so: of a closed epoch, or of a job that ended.
_PAGE: LiteralString = """
SELECT r.*, o.status AS job_status, o.updated_at AS job_updated_at, o.epoch AS job_epoch,
  o.remote_status AS job_remote_status, o.remote_run_id AS job_run_id, o.cancel_requested,
  r.wanted = 'canceled' OR r.role = 'duplicate' OR o.id IS NULL AND orphan.orphaned IS NULL
    OR o.epoch > r.epoch AS unwanted,
  CASE WHEN r.role = 'duplicate' AND o.epoch = r.epoch AND o.last_synced_at IS NULL AND NOT o.cancel_requested
    THEN o.remote_run_id END AS unheard_of
FROM {s}.remote_runs r LEFT JOIN {s}.worker_jobs_open o ON o.id = r.job_id
-- One look by id per run; as an EXISTS it would read every finished job of every partition.
LEFT JOIN LATERAL (
  SELECT orphaned FROM {s}.worker_jobs_finished f WHERE f.id = r.job_id AND f.orphaned LIMIT 1) AS orphan ON o.id IS NULL
WHERE r.executor = %(executor)s AND r.ended_at IS NULL AND (r.created_at, r.run_id) > (%(after_at)s, %(after_id)s)
  AND r.created_at < %(until)s
ORDER BY r.created_at, r.run_id LIMIT %(limit)s
"""

_COUNT: LiteralString = """
SELECT count(*) AS n FROM {s}.remote_runs WHERE executor = %(executor)s AND ended_at IS NULL
"""

_OWNER: LiteralString = """
SELECT job_id, epoch FROM {s}.remote_runs WHERE executor = %(executor)s AND run_id = %(run_id)s
"""

_UNCERTAIN: LiteralString = """
SELECT * FROM {s}.worker_jobs_open
WHERE executor = %(executor)s AND executor <> 'local' AND status = 'PENDING' AND submit_state <> 'accepted'
  AND submit_state <> 'never' AND (dispatch_lease_until IS NULL OR dispatch_lease_until < now()) AND id > %(after)s
ORDER BY id LIMIT %(limit)s
"""

_ENDED: LiteralString = """
UPDATE {s}.remote_runs r SET ended_at = COALESCE(ended_at, now()), final_status = %(status)s, missing_since = NULL, checked_at = now()
WHERE executor = %(executor)s AND run_id = %(run_id)s AND ended_at IS NULL
  AND NOT EXISTS (SELECT FROM {s}.worker_jobs_open o
    WHERE o.id = r.job_id AND o.epoch = r.epoch AND o.executor = r.executor AND o.remote_run_id = r.run_id)
RETURNING run_id
"""

_SEEN: LiteralString = """
UPDATE {s}.remote_runs SET checked_at = now(), missing_since = NULL,
  started_at = COALESCE(started_at, CASE WHEN run_id = ANY(%(started)s) THEN now() END)
WHERE executor = %(executor)s AND run_id = ANY(%(run_ids)s)
"""

_MISSING: LiteralString = """
UPDATE {s}.remote_runs SET checked_at = now(), missing_since = COALESCE(missing_since, now())
WHERE executor = %(executor)s AND run_id = %(run_id)s
RETURNING missing_since < now() - interval '10 minutes' AS for_long, missing_since
"""

#: Made to prove absence: never the job's run, and to be canceled whoever finds it.
_TOMBSTONE: LiteralString = """
INSERT INTO {s}.remote_runs (executor, run_id, job_id, epoch, environment, role, wanted)
VALUES (%(executor)s, %(run_id)s, %(job_id)s, %(epoch)s, %(environment)s, 'tombstone', 'canceled')
ON CONFLICT (executor, run_id) DO NOTHING
"""

#: A reply named a run that nobody has ever seen; the run that carries the epoch's tag is the job's.
_ADOPT: LiteralString = """
WITH moved AS (
  UPDATE {s}.worker_jobs_open o SET remote_run_id = %(run_id)s, updated_at = now()
  FROM {s}.remote_runs lost
  WHERE o.id = %(job_id)s AND o.epoch = %(epoch)s AND o.executor = %(executor)s AND o.remote_run_id = %(lost)s
    AND o.last_synced_at IS NULL AND o.updated_at <= %(seen)s
    AND lost.executor = %(executor)s AND lost.run_id = %(lost)s
    AND lost.missing_since < now() - interval '10 minutes'
  RETURNING o.*
), bound AS (
  INSERT INTO {s}.remote_runs (executor, run_id, job_id, epoch, environment, wanted)
  SELECT executor, remote_run_id, id, epoch, remote_environment, CASE WHEN cancel_requested THEN 'canceled' END FROM moved
  ON CONFLICT (executor, run_id) DO UPDATE SET role = 'bound', wanted = EXCLUDED.wanted, missing_since = NULL
), unbound AS (
  UPDATE {s}.remote_runs r SET role = 'duplicate', wanted = 'canceled' FROM moved
  WHERE r.executor = %(executor)s AND r.run_id = %(lost)s
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, detail)
  SELECT id, epoch, 'adopted_run', jsonb_build_object('run', remote_run_id, 'lost', %(lost)s::text) FROM moved
)
SELECT id FROM moved
"""

_CONFIRM: LiteralString = """
UPDATE {s}.worker_jobs_open SET confirm_at = now() + interval '10 seconds'
WHERE id IN (SELECT id FROM {s}.worker_jobs_open WHERE confirm_at <= now() ORDER BY confirm_at LIMIT %(limit)s
  FOR UPDATE SKIP LOCKED)
RETURNING *
"""

_NOW: LiteralString = "SELECT now() AS at"

EPOCH_START = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRun:
    """A run not known to have ended, with what its job looks like now."""

    executor: str
    run_id: str
    job_id: UUID
    epoch: int
    environment: str | None
    created_at: datetime
    missing_since: datetime | None
    #: It should not run (any more): cancel it there until that is confirmed.
    unwanted: bool
    #: Of a second run of an open job: the job's own run, while nothing was heard of that one.
    unheard_of: str | None
    #: Its job is open and this is the run it is bound to.
    is_current: bool
    job_status: str | None
    job_updated_at: datetime | None
    job_remote_status: str | None


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a walk over the runs of one executor stands."""

    at: datetime = EPOCH_START
    run_id: str = ""


async def page(
    conn: Connection, schema: Schema, executor: str, *, after: Cursor, until: datetime, limit: int
) -> list[KnownRun]:
    """Return the next runs that are not known to have ended, oldest first."""
    rows = await fetch(
        conn,
        schema,
        _PAGE,
        {
            "executor": executor,
            "after_at": after.at,
            "after_id": after.run_id,
            "until": until,
            "limit": limit,
        },
    )
    return [
        KnownRun(
            executor=row["executor"],
            run_id=row["run_id"],
            job_id=row["job_id"],
            epoch=row["epoch"],
            environment=row["environment"],
            created_at=row["created_at"],
            missing_since=row["missing_since"],
            unwanted=bool(row["unwanted"]),
            unheard_of=row["unheard_of"],
            is_current=row["job_epoch"] == row["epoch"] and row["job_run_id"] == row["run_id"],
            job_status=row["job_status"],
            job_updated_at=row["job_updated_at"],
            job_remote_status=row["job_remote_status"],
        )
        for row in rows
    ]


async def count_open(conn: Connection, schema: Schema, executor: str) -> int:
    """Return how many runs of the executor are not known to have ended."""
    return (await fetch(conn, schema, _COUNT, {"executor": executor}))[0]["n"]


async def uncertain(conn: Connection, schema: Schema, executor: str, after: UUID, limit: int) -> list[Job]:
    """Return open jobs of which a submit may or may not have got through, by id."""
    rows = await fetch(conn, schema, _UNCERTAIN, {"executor": executor, "after": after, "limit": limit})
    return [job_from_row(row) for row in rows]


async def tombstone(
    conn: Connection,
    schema: Schema,
    *,
    job_id: UUID,
    epoch: int,
    executor: str,
    run_id: str,
    environment: str | None,
) -> None:
    """Record a run that only proves that its epoch has no other; it is never applied to the job."""
    parameters: dict[str, Any] = {
        "job_id": job_id,
        "epoch": epoch,
        "executor": executor,
        "run_id": run_id,
        "environment": environment,
    }
    await fetch(conn, schema, _TOMBSTONE, parameters)


async def ended(conn: Connection, schema: Schema, executor: str, run_id: str, status: str) -> bool:
    """Record that a run has ended; False when that was known, or its job is open and still waits for its end."""
    parameters: dict[str, Any] = {"executor": executor, "run_id": run_id, "status": status}
    return bool(await fetch(conn, schema, _ENDED, parameters))


async def seen(
    conn: Connection, schema: Schema, executor: str, run_ids: Sequence[str], started: Sequence[str]
) -> None:
    """Record that the remote showed these runs, and which of them have started."""
    parameters = {"executor": executor, "run_ids": list(run_ids), "started": list(started)}
    await fetch(conn, schema, _SEEN, parameters)


async def missing(conn: Connection, schema: Schema, executor: str, run_id: str) -> bool:
    """Record that a retrieve did not find the run; True when it has been missing for 10 minutes."""
    rows = await fetch(conn, schema, _MISSING, {"executor": executor, "run_id": run_id})
    return bool(rows and rows[0]["for_long"])


async def adopt(conn: Connection, schema: Schema, lost: KnownRun, run_id: str) -> bool:
    """Bind a job to the run that carries its tag, in place of one that nobody has seen for 10 minutes."""
    parameters: dict[str, Any] = {
        "job_id": lost.job_id,
        "epoch": lost.epoch,
        "executor": lost.executor,
        "lost": lost.run_id,
        "run_id": run_id,
        "seen": lost.job_updated_at,
    }
    return bool(await fetch(conn, schema, _ADOPT, parameters))


async def to_confirm(conn: Connection, schema: Schema, limit: int) -> list[Job]:
    """Take jobs whose end was only told by a hook, oldest first; offered again after 10 s."""
    return [job_from_row(row) for row in await fetch(conn, schema, _CONFIRM, {"limit": limit})]


async def database_now(conn: Connection, schema: Schema) -> datetime:
    """Return the database's clock, the only one rows are compared by."""
    return (await fetch(conn, schema, _NOW))[0]["at"]


async def owner(conn: Connection, schema: Schema, executor: str, run_id: str) -> tuple[UUID, int] | None:
    """Return the job and the epoch of a run, None for a run of nobody here."""
    rows = await fetch(conn, schema, _OWNER, {"executor": executor, "run_id": run_id})
    return (rows[0]["job_id"], rows[0]["epoch"]) if rows else None
