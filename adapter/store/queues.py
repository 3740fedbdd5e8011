"""Queues as people see and turn them: pause, resume, limits over those of the registry. All of it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from adapter.domain.limits import Limits, Rate, stored
from adapter.store.database import Connection, Schema, fetch

_LIST: LiteralString = """
SELECT q.name, q.limits, q.declared, q.overrides, q.paused_at, c.reason, c.actor,
  count(o.id) FILTER (WHERE o.status = 'QUEUED') AS waiting, count(o.id) FILTER (WHERE o.status = 'EXECUTING') AS running,
  now() - min(o.updated_at) FILTER (WHERE o.status = 'QUEUED') AS oldest_wait
FROM {s}.job_queues q
LEFT JOIN {s}.worker_jobs_open o ON o.queue = q.name AND o.executor = 'local' AND o.status IN ('QUEUED', 'EXECUTING')
LEFT JOIN LATERAL (SELECT reason, actor FROM {s}.queue_changes WHERE queue = q.name AND q.paused_at IS NOT NULL
  AND kind = 'pause' ORDER BY id DESC LIMIT 1) AS c ON true
WHERE %(name)s::text IS NULL OR q.name = %(name)s
GROUP BY q.name, c.reason, c.actor ORDER BY q.name
"""

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

    ``waiting`` and ``running`` are local jobs; ``oldest_wait`` is how long the first has been ready.
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


async def entries(conn: Connection, schema: Schema, name: str | None = None) -> list[QueueInfo]:
    """Return every queue, or the one of that name."""
    return [
        QueueInfo(
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
        )
        for row in await fetch(conn, schema, _LIST, {"name": name})
    ]


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
