"""What local workers write about their tries: ended, to be tried again, given back.

Every write names its holder (id, epoch, worker, claim number) in the WHERE. A write of somebody who
lost the job changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from adapter.domain.job import Job, JobStatus
from adapter.domain.outcome import Lease
from adapter.store.database import Connection, Schema, fetch
from adapter.store.direct import Direct
from adapter.store.finishing import AS_IT_WAS, FINISHED_COLUMNS, RELEASE_KEYS, USUAL_END
from adapter.store.rows import job_from_row


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A try that ends its job."""

    job_id: UUID
    epoch: int
    lease: Lease
    status: JobStatus
    result: Any = None
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GivingBack:
    """A try that leaves its job open: retried or snoozed until ``delay`` is over or ``at``, or returned.

    ``kind`` is the event it leaves; ``snoozed`` is counted on the row.
    """

    job_id: UUID
    epoch: int
    lease: Lease
    kind: str
    error: dict[str, Any] | None = None
    delay: timedelta | None = None
    at: datetime | None = None
    reason: str | None = None
    unspent: bool = False
    waits_for_executor: bool = False
    #: Its handler never began, so its time to live still counts.
    unbegun: bool = False


_GIVEN: LiteralString = """
WITH want AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(
    id uuid, epoch int, worker_id uuid, claim_number bigint, new_status text, new_result jsonb, new_error jsonb,
    kind text, delay interval, at timestamptz, reason text, unspent boolean, waits boolean, unbegun boolean)
), held AS MATERIALIZED (
  SELECT o.id FROM {s}.worker_jobs_open o JOIN want w USING (id)
  WHERE o.epoch = w.epoch AND o.worker_id = w.worker_id AND o.claim_number = w.claim_number
    AND (o.status = 'EXECUTING' OR o.waiting_for IN ('children', 'token'))
  ORDER BY o.id FOR UPDATE OF o
)"""

_END: LiteralString = (
    _GIVEN
    + """, gone AS (
  DELETE FROM {s}.worker_jobs_open o USING held WHERE o.id = held.id RETURNING o.*
), given AS (
  SELECT gone.*, w.new_status, w.new_result, w.new_error, w.new_status = 'CANCELED' AS new_cancel, """
    + AS_IT_WAS
    + """ FROM gone JOIN want w USING (id)
  WHERE w.epoch = gone.epoch AND w.worker_id = gone.worker_id AND w.claim_number = gone.claim_number
), """
    + RELEASE_KEYS
    + FINISHED_COLUMNS
)
_FINISH: LiteralString = _END + " RETURNING *"
_FINISH_UNSEEN: LiteralString = _END + " RETURNING id"

_GIVE_BACK: LiteralString = (
    _GIVEN
    + """, back AS (
  UPDATE {s}.worker_jobs_open o SET
    status = CASE WHEN w.waits OR o.waiting_for IN ('children', 'token') AND w.kind = 'returned' THEN 'WAITING' WHEN COALESCE(w.at, now() + w.delay) > now() THEN 'DELAYED'
      ELSE 'QUEUED' END,
    waiting_for = CASE WHEN w.waits THEN 'executor' WHEN w.kind = 'returned' THEN o.waiting_for END,
    awaiting = CASE WHEN w.kind = 'returned' THEN o.awaiting END,
    due = CASE WHEN COALESCE(w.at, now() + w.delay) > now() THEN COALESCE(w.at, now() + w.delay) ELSE o.due END,
    attempt = o.attempt - w.unspent::int,
    started = CASE WHEN w.unbegun AND o.started = o.updated_at THEN NULL ELSE o.started END,
    error = COALESCE(w.new_error, o.error), deadline = NULL,
    extra = CASE WHEN w.kind = 'snoozed' THEN COALESCE(o.extra, '{}')
      || jsonb_build_object('snoozes', COALESCE((o.extra ->> 'snoozes')::int, 0) + 1) ELSE o.extra END,
    seq = nextval('{s}.worker_jobs_seq'), worker_id = NULL, claim_number = NULL, updated_at = now()
  FROM held JOIN want w USING (id)
  WHERE o.id = held.id AND NOT o.cancel_requested
    AND o.epoch = w.epoch AND o.worker_id = w.worker_id AND o.claim_number = w.claim_number
  RETURNING o.id, o.epoch, o.queue, o.extra, w.kind, w.new_error, w.delay, w.at, w.reason
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, detail)
  SELECT id, epoch, kind, jsonb_strip_nulls(jsonb_build_object(
    'error', new_error -> 'name', 'delay_s', extract(epoch FROM delay), 'at', at, 'reason', reason,
    'count', CASE WHEN kind = 'snoozed' THEN extra -> 'snoozes' END)) FROM back
)
SELECT id, queue FROM back
"""
)


#: The common end, cheap: no locks taken beforehand (the rows are asked for in the order of their ids), no
#: keys to release, arrays that are made as text.
_COMPLETE: LiteralString = (
    """
WITH gone AS (
  DELETE FROM {s}.worker_jobs_open o
  USING unnest(%(ids)s::uuid[], %(epochs)s::int[], %(claim_numbers)s::bigint[], %(results)s::jsonb[])
    AS w(done_id, epoch, claim_number, new_result)
  WHERE o.id = w.done_id AND o.epoch = w.epoch AND o.worker_id = %(worker_id)s
    AND o.claim_number = w.claim_number AND (o.status = 'EXECUTING' OR o.waiting_for IN ('children', 'token'))
  RETURNING o.*, w.new_result
), given AS (
  SELECT gone.*, 'COMPLETED' AS new_status, NULL::jsonb AS new_error, false AS new_cancel, """
    + AS_IT_WAS
    + " FROM gone), "
    + USUAL_END
    + FINISHED_COLUMNS
)

#: What a worker holds without knowing it: the reply to its claim was lost, so no handler began.
_RETURN_UNKNOWN: LiteralString = """
WITH lost AS MATERIALIZED (
  SELECT id FROM {s}.worker_jobs_open
  WHERE worker_id = %(worker_id)s AND status = 'EXECUTING' AND executor = 'local' AND id <> ALL(%(known)s::uuid[])
  ORDER BY id FOR UPDATE
), back AS (
  UPDATE {s}.worker_jobs_open o SET status = 'QUEUED', attempt = o.attempt - 1, deadline = NULL, started = CASE WHEN o.started < o.updated_at THEN o.started END,
    seq = nextval('{s}.worker_jobs_seq'), worker_id = NULL, claim_number = NULL, updated_at = now()
  FROM lost WHERE o.id = lost.id RETURNING o.id, o.epoch
)
INSERT INTO {s}.job_events (job_id, epoch, kind, detail)
SELECT id, epoch, 'returned', '{"why": "the reply to its claim was lost"}' FROM back RETURNING job_id
"""


async def return_unknown(conn: Connection, schema: Schema, worker_id: UUID, known: Sequence[str]) -> int:
    """Give back unspent what the worker holds beside ``known``; returns how many that were."""
    parameters = {"worker_id": worker_id, "known": _array(list(known))}
    return len(await fetch(conn, schema, _RETURN_UNKNOWN, parameters))


@dataclass(slots=True)
class Completion:
    """A try whose handler returned; ``result`` is JSON text, None for none."""

    key: str
    epoch: int
    claim_number: int
    result: str | None = None


async def complete(conn: Direct, schema: Schema, worker_id: UUID, completions: Sequence[Completion]) -> int:
    """End completed jobs of one worker; returns how many were still its own."""
    done = sorted(completions, key=_key_of)
    parameters = {
        "worker_id": worker_id,
        "ids": _array([each.key for each in done]),
        "epochs": _array([str(each.epoch) for each in done]),
        "claim_numbers": _array([str(each.claim_number) for each in done]),
        "results": _array([_quoted(each.result) for each in done]),
    }
    return (await conn.run(schema.sql(_COMPLETE), parameters)).command_tuples or 0


def _key_of(completion: Completion) -> str:
    return completion.key


def _array(items: list[str]) -> str:
    # As PostgreSQL writes arrays: for a thousand items a tenth of what the driver takes for a list.
    return "{" + ",".join(items) + "}"


def _quoted(text: str | None) -> str:
    if text is None:
        return "NULL"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


async def finish(conn: Connection, schema: Schema, endings: Sequence[Ending]) -> list[Job]:
    """End jobs in one statement; returns those that were ended, as finished."""
    return [job_from_row(row) for row in await fetch(conn, schema, _FINISH, _endings(endings))]


async def finish_unseen(conn: Connection, schema: Schema, endings: Sequence[Ending]) -> int:
    """Do what `finish` does, for a caller who need not see the rows; returns how many were ended."""
    return len(await fetch(conn, schema, _FINISH_UNSEEN, _endings(endings)))


def _endings(endings: Sequence[Ending]) -> dict[str, Any]:
    rows = [
        {"new_status": each.status.value, "new_result": each.result, "new_error": each.error} | _key(each)
        for each in endings
    ]
    return {"rows": _dump(rows)}


async def give_back(conn: Connection, schema: Schema, tries: Sequence[GivingBack]) -> dict[UUID, str]:
    """Retry or return jobs in one statement; returns the queue of each that was given back.

    A job that somebody wants canceled is not given back.
    """
    rows = [
        {
            "kind": each.kind,
            "new_error": each.error,
            "delay": f"{each.delay.total_seconds():.6f} seconds" if each.delay else None,
            "at": each.at.isoformat() if each.at else None,
            "reason": each.reason,
            "unspent": each.unspent,
            "waits": each.waits_for_executor,
            "unbegun": each.unbegun,
        }
        | _key(each)
        for each in tries
    ]
    return {row["id"]: row["queue"] for row in await fetch(conn, schema, _GIVE_BACK, {"rows": _dump(rows)})}


def _key(each: Ending | GivingBack) -> dict[str, Any]:
    return {
        "id": str(each.job_id),
        "epoch": each.epoch,
        "worker_id": str(each.lease.worker_id),
        "claim_number": each.lease.claim_number,
    }


def _dump(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, allow_nan=False, separators=(",", ":"))
