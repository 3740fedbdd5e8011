"""Queues as people see and turn them: pause, resume, limits over those of the registry. All of it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from adapter.domain.limits import Limits, Rate, stored
from adapter.store.database import Connection, Schema, fetch
from adapter.store.steps import Row

_READY: LiteralString = """
  FROM {s}.worker_jobs_open o WHERE o.queue = q.name AND o.executor = 'local' AND o.status = 'QUEUED'
"""
_SHOWN: LiteralString = """
SELECT q.name, q.limits, q.declared, q.overrides, q.paused_at, p.reason, p.actor, r.running, w.waiting, w.oldest_wait,
  l.at AS limits_set_at, l.actor AS limits_set_by, l.source AS limits_set_from
FROM (SELECT * FROM {s}.job_queues
  WHERE (%(name)s::text IS NULL OR name = %(name)s) ORDER BY name LIMIT %(limit)s OFFSET %(offset)s) AS q
LEFT JOIN LATERAL (SELECT reason, actor FROM {s}.queue_changes WHERE queue = q.name AND q.paused_at IS NOT NULL
  AND kind = 'pause' ORDER BY id DESC LIMIT 1) AS p ON true
LEFT JOIN LATERAL (SELECT at, actor, source FROM {s}.queue_changes WHERE queue = q.name AND q.overrides <> '{}'
  AND kind = 'limits' ORDER BY id DESC LIMIT 1) AS l ON true
CROSS JOIN LATERAL (SELECT count(*) AS running FROM {s}.worker_jobs_open o
  WHERE o.queue = q.name AND o.executor = 'local' AND o.status = 'EXECUTING') AS r
CROSS JOIN LATERAL ("""
_LIST: LiteralString = (
    _SHOWN
    + "SELECT count(*) AS waiting, now() - min(o.updated_at) AS oldest_wait"
    + _READY
    + ") AS w ORDER BY q.name"
)
#: Counts what is ready from the index alone: the age would be asked of every row.
_PAGE: LiteralString = (
    _SHOWN + "SELECT count(*) AS waiting, NULL::interval AS oldest_wait" + _READY + ") AS w ORDER BY q.name"
)
_NAMES: LiteralString = "SELECT name FROM {s}.job_queues ORDER BY name"

#: limit_override is for workers of the release before, who know no other limit and none that was lifted.
_CHANGE: LiteralString = """
WITH before AS MATERIALIZED (
  SELECT name, overrides, paused_at FROM {s}.job_queues WHERE name = %(queue)s FOR NO KEY UPDATE
), made AS MATERIALIZED (
  SELECT name, (overrides - %(reset)s::text[]) || %(set)s::jsonb AS overrides,
    CASE %(kind)s::text WHEN 'pause' THEN COALESCE(paused_at, now()) WHEN 'resume' THEN NULL ELSE paused_at END AS paused_at
  FROM before
), changed AS (
  UPDATE {s}.job_queues q SET overrides = made.overrides, paused_at = made.paused_at,
    limit_override = CASE WHEN made.overrides ? 'concurrency_limit'
      THEN COALESCE((made.overrides ->> 'concurrency_limit')::int, 2147483647) END
  FROM made WHERE q.name = made.name
)
INSERT INTO {s}.queue_changes (actor, source, queue, kind, before, after, reason)
SELECT %(actor)s, %(source)s, made.name, %(kind)s,
  jsonb_build_object('paused', before.paused_at IS NOT NULL, 'overrides', before.overrides),
  jsonb_build_object('paused', made.paused_at IS NOT NULL, 'overrides', made.overrides), %(reason)s
FROM before, made RETURNING queue
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """A queue: what holds, what the registry says, what a person set over it (None: lifted), and what is in it.

    ``waiting`` and ``running`` are local jobs; ``oldest_wait`` is how long the first has been ready, where that
    was asked for. ``limits_set_at``, ``_by`` and ``_from``: the last word on ``overrides``, while there are any.
    """

    name: str
    waiting: int
    running: int
    oldest_wait: timedelta | None
    limits: Limits
    declared: Limits
    overrides: dict[str, Any]
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    limits_set_at: datetime | None
    limits_set_by: str | None
    limits_set_from: str | None


async def entries(conn: Connection, schema: Schema, name: str | None = None) -> list[QueueInfo]:
    """Return every queue, or the one of that name."""
    return [
        _info(row) for row in await fetch(conn, schema, _LIST, {"name": name, "limit": None, "offset": 0})
    ]


async def page(
    conn: Connection, schema: Schema, *, name: str | None = None, limit: int = 1, offset: int = 0
) -> list[QueueInfo]:
    """Return some of the queues, by name, without ``oldest_wait``."""
    parameters = {"name": name, "limit": limit, "offset": offset}
    return [_info(row) for row in await fetch(conn, schema, _PAGE, parameters)]


async def names(conn: Connection, schema: Schema) -> list[str]:
    """Return the names of all queues, in order."""
    return [row["name"] for row in await fetch(conn, schema, _NAMES)]


def _info(row: Row) -> QueueInfo:
    return QueueInfo(
        name=row["name"],
        waiting=row["waiting"],
        running=row["running"],
        oldest_wait=row["oldest_wait"],
        limits=Limits.from_json(row["limits"]),
        declared=Limits.from_json(row["declared"]),
        overrides=row["overrides"],
        paused_at=row["paused_at"],
        paused_by=row["actor"],
        pause_reason=row["reason"],
        limits_set_at=row["limits_set_at"],
        limits_set_by=row["limits_set_by"],
        limits_set_from=row["limits_set_from"],
    )


async def change(
    conn: Connection,
    schema: Schema,
    queue: str,
    *,
    verb: str,
    reason: str,
    actor: str,
    source: str,
    limits: Mapping[str, int | Rate | None] | None = None,
    reset: Sequence[str] = (),
) -> bool:
    """Pause, resume, or set limits over the registry's; False when there is no such queue.

    ``verb``: pause, resume or limits. ``limits``: None lifts one. ``reset``: those that are the registry's again.
    """
    parameters = {
        "queue": queue,
        "kind": verb,
        "reason": reason,
        "actor": actor,
        "source": source,
        "set": Jsonb({name: stored(value) for name, value in (limits or {}).items()}),
        "reset": list(reset),
    }
    return bool(await fetch(conn, schema, _CHANGE, parameters))
