"""The transactional outbox: what a dispatcher does to rows that a remote has not accepted yet.

``trying`` is committed before the first byte leaves. Every later write carries the dispatch lease, but
`accepted`: that one is written by (epoch, run id) alone, so a late reply is never lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

from adapter.domain.job import Job
from adapter.store.database import FLUSHED, Connection, Schema, fetch
from adapter.store.finishing import AS_IT_WAS, FINISHED_COLUMNS, RELEASE_KEYS
from adapter.store.rows import job_from_row


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A row in the hands of one dispatcher.

    ``looked_up``: an earlier try may have got through, so this one must keep to its environment and keys.
    ``age`` is the time since the epoch's first try, by the database's clock.
    """

    job: Job
    lease: UUID
    first: bool
    tries: int
    age: timedelta
    ttl: timedelta | None
    recalled: bool


_CLAIM: LiteralString = (
    """
WITH picked AS MATERIALIZED (
  SELECT id, submit_state AS was FROM {s}.worker_jobs_open
  WHERE executor = %(executor)s AND executor <> 'local' AND status = 'PENDING' AND submit_state <> 'accepted'
    AND next_try_at <= now() AND (dispatch_lease_until IS NULL OR dispatch_lease_until < now())
    AND (remote_environment IS NULL OR remote_environment = %(environment)s)
    AND (submit_state <> 'never' OR cancel_requested OR (recall_id IS NULL AND (expires_at IS NULL OR expires_at > now()) AND type <> ALL(%(held)s)
         AND (SELECT version FROM {s}.flags_state) = %(flags_version)s))
    AND (%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s))
    AND (%(types)s::text[] IS NULL OR type = ANY(%(types)s))
  ORDER BY next_try_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), taken AS (
  UPDATE {s}.worker_jobs_open o SET
    submit_state = CASE picked.was WHEN 'never' THEN 'trying' ELSE 'unknown' END,
    dispatch_lease = %(lease)s, dispatch_lease_until = now() + %(lease_for)s,
    remote_environment = %(environment)s, first_try_at = COALESCE(o.first_try_at, now()),
    submit_tries = o.submit_tries + 1, updated_at = now()
  FROM picked WHERE o.id = picked.id AND """
    + FLUSHED
    + """
  RETURNING o.*, picked.was
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, detail)
  SELECT id, epoch, 'submit_unknown', '{"why": "the dispatcher died while it tried"}' FROM taken WHERE was = 'trying'
)
SELECT *, now() - first_try_at AS age, expires_at - now() AS ttl_left FROM taken
"""
)

_NOT_SENT: LiteralString = """
UPDATE {s}.worker_jobs_open SET
  submit_state = CASE submit_state WHEN 'trying' THEN 'never' ELSE submit_state END,
  first_try_at = CASE submit_state WHEN 'trying' THEN NULL ELSE first_try_at END,
  remote_environment = CASE submit_state WHEN 'trying' THEN NULL ELSE remote_environment END,
  dispatch_lease = NULL, dispatch_lease_until = NULL,
  next_try_at = now() + %(delay)s, updated_at = now()
WHERE id = %(id)s AND epoch = %(epoch)s AND dispatch_lease = %(lease)s
RETURNING *
"""

_UNKNOWN: LiteralString = """
WITH tried AS (
  UPDATE {s}.worker_jobs_open SET submit_state = 'unknown', dispatch_lease = NULL, dispatch_lease_until = NULL,
    next_try_at = now() + %(delay)s, updated_at = now()
  WHERE id = %(id)s AND epoch = %(epoch)s AND dispatch_lease = %(lease)s
  RETURNING *
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, detail)
  SELECT id, epoch, 'submit_unknown', jsonb_build_object('why', %(why)s::text) FROM tried WHERE %(first)s
)
SELECT * FROM tried
"""

#: Refused or not wanted any more, and no try of the epoch has got through: none left before this one, or
#: it is proven.
_ENDED_UNSENT: LiteralString = (
    """
WITH gone AS (
  DELETE FROM {s}.worker_jobs_open
  WHERE id = %(id)s AND epoch = %(epoch)s AND dispatch_lease = %(lease)s
    AND (submit_state = 'trying' OR submit_state = 'unknown' AND cancel_requested AND %(proven)s)
    AND (recall_id IS NULL OR cancel_requested)
  RETURNING *
), given AS (
  SELECT gone.*, CASE WHEN cancel_requested THEN 'CANCELED' ELSE 'FAILED' END AS new_status,
    NULL::jsonb AS new_result, false AS new_cancel,
    jsonb_build_object('name', %(name)s::text, 'message', %(why)s::text) AS new_error, """
    + AS_IT_WAS
    + """ FROM gone
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, detail)
  SELECT id, epoch, %(kind)s, jsonb_build_object('why', %(why)s::text) FROM given
), """
    + RELEASE_KEYS
    + FINISHED_COLUMNS
    + " RETURNING *"
)

#: A new epoch on another executor for rows that nobody was given: the rows are picked in between.
REROUTE_PICKED: LiteralString = """
WITH old AS MATERIALIZED (
  -- Only a remote that holds jobs until they are due may have one before that; another place may not.
  SELECT id, executor, epoch, status = 'DELAYED' OR COALESCE(due > now(), false) AS is_early
  FROM {s}.worker_jobs_open
  WHERE executor = %(executor)s AND recall_id IS NULL AND NOT cancel_requested
    AND (%(types)s::text[] IS NULL OR type = ANY(%(types)s)) AND """
REROUTED: LiteralString = """
  ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), moved AS (
  UPDATE {s}.worker_jobs_open o SET
    epoch = o.epoch + 1, executor = %(to)s, submit_state = 'never', submit_tries = 0,
    dispatch_lease = NULL, dispatch_lease_until = NULL, first_try_at = NULL, remote_environment = NULL,
    next_try_at = CASE WHEN %(to)s <> 'local' THEN now() END,
    status = CASE WHEN old.is_early THEN 'DELAYED' WHEN NOT %(runnable)s THEN 'WAITING'
      WHEN %(to)s <> 'local' THEN 'PENDING' ELSE 'QUEUED' END,
    waiting_for = CASE WHEN NOT old.is_early AND NOT %(runnable)s THEN 'executor' END,
    seq = nextval('{s}.worker_jobs_seq'), updated_at = now()
  FROM old WHERE o.id = old.id
  RETURNING o.id, o.epoch, o.queue, old.executor
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, actor, detail)
  SELECT id, epoch, 'rerouted', 'adapter', jsonb_build_object('from', executor, 'to', %(to)s::text, 'reason', %(reason)s::text)
  FROM moved
)
SELECT id, queue FROM moved
"""

#: Allowed only from a row no try has left for: `never` untouched, or `trying` in the hands of the dispatcher
#: that got a definite no.
_REROUTE: LiteralString = (
    REROUTE_PICKED
    + """status IN ('PENDING', 'DELAYED') AND executor <> 'local'
    AND (submit_state = 'never' AND dispatch_lease IS NULL
         OR submit_state = 'trying' AND dispatch_lease = %(lease)s)
    AND (%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s))
    AND NOT (%(spare_strict)s AND COALESCE(extra ? 'strict', false))"""
    + REROUTED
)

_NEXT_TRY: LiteralString = """
SELECT extract(epoch FROM min(greatest(next_try_at, dispatch_lease_until)) - now())::float8 AS seconds
FROM {s}.worker_jobs_open
WHERE executor = %(executor)s AND executor <> 'local' AND status = 'PENDING' AND submit_state <> 'accepted'
"""


async def claim(
    conn: Connection,
    schema: Schema,
    *,
    executor: str,
    environment: str,
    lease: UUID,
    lease_for: timedelta,
    limit: int,
    held: Sequence[str],
    flags_version: int,
    only: Sequence[UUID] | None = None,
    types: Sequence[str] | None = None,
) -> list[Outgoing]:
    """Take rows to try. ``held`` are tasks that must not be submitted from ``never`` now.

    ``types``: only these tasks, whose names at the executor are known; None: whatever they are.
    A row whose former dispatcher died in ``trying`` becomes ``unknown``. Rows that were first sent to
    another environment are left alone.
    """
    rows = await fetch(
        conn,
        schema,
        _CLAIM,
        {
            "executor": executor,
            "environment": environment,
            "lease": lease,
            "lease_for": lease_for,
            "limit": limit,
            "held": list(held),
            "flags_version": flags_version,
            "ids": list(only) if only is not None else None,
            "types": list(types) if types is not None else None,
        },
    )
    return [
        Outgoing(
            job=job_from_row(row),
            lease=lease,
            first=row["was"] == "never",
            tries=row["submit_tries"],
            age=row["age"],
            ttl=row["ttl_left"],
            recalled=row["recall_id"] is not None,
        )
        for row in rows
    ]


def _try_key(row: Outgoing) -> dict[str, Any]:
    return {"id": row.job.id, "epoch": row.job.epoch, "lease": row.lease}


async def not_sent(conn: Connection, schema: Schema, row: Outgoing, *, delay: timedelta) -> bool:
    """Record that nothing left, or that the remote said not now. An ``unknown`` row stays unknown."""
    return bool(await fetch(conn, schema, _NOT_SENT, _try_key(row) | {"delay": delay}))


async def unknown(conn: Connection, schema: Schema, row: Outgoing, *, why: str, delay: timedelta) -> bool:
    """Record a try without a definite answer; sticky for the epoch."""
    parameters = _try_key(row) | {"why": why, "delay": delay, "first": row.first}
    return bool(await fetch(conn, schema, _UNKNOWN, parameters))


async def rejected(conn: Connection, schema: Schema, row: Outgoing, *, why: str) -> Job | None:
    """End a job the remote refused on a first try; None when a recall wants it, or it is not this try's any more."""
    return await _ended_unsent(conn, schema, row, {"kind": "rejected", "name": "Rejected", "why": why})


async def canceled(conn: Connection, schema: Schema, row: Outgoing, *, proven: bool = False) -> Job | None:
    """End a job that somebody canceled before anything left; None when something may have.

    ``proven``: something left, and it is proven that it never arrived.
    """
    why = (
        "It was canceled; its submit never arrived." if proven else "It was canceled before it was submitted."
    )
    said = {"kind": "canceled", "name": "Canceled", "why": why}
    return await _ended_unsent(conn, schema, row, said, proven=proven)


async def _ended_unsent(
    conn: Connection, schema: Schema, row: Outgoing, said: dict[str, Any], *, proven: bool = False
) -> Job | None:
    rows = await fetch(conn, schema, _ENDED_UNSENT, _try_key(row) | said | {"proven": proven})
    return job_from_row(rows[0]) if rows else None


async def reroute(
    conn: Connection,
    schema: Schema,
    *,
    executor: str,
    to: str,
    reason: str,
    runnable: bool,
    types: Sequence[str] | None = None,
    row: Outgoing | None = None,
    limit: int = 1000,
    spare_strict: bool = False,
) -> list[str]:
    """Open a new epoch at ``to`` for rows no try has left for; returns their queues.

    ``runnable``: whether these tasks can run there, else they wait for somebody who can.
    ``spare_strict``: leave those alone that were scheduled for this executor or none.
    """
    rows = await fetch(
        conn,
        schema,
        _REROUTE,
        {
            "executor": executor,
            "to": to,
            "reason": reason,
            "runnable": runnable,
            "types": list(types) if types is not None else None,
            "ids": [row.job.id] if row is not None else None,
            "lease": row.lease if row is not None else None,
            "limit": limit,
            "spare_strict": spare_strict,
        },
    )
    return [each["queue"] for each in rows]


async def next_try(conn: Connection, schema: Schema, executor: str) -> float | None:
    """Return the seconds until the next row of ``executor`` may be tried, None without one."""
    return (await fetch(conn, schema, _NEXT_TRY, {"executor": executor}))[0]["seconds"]
