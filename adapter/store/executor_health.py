"""What executors were seen to do, per task: their last outcomes and tries, and their canaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString
from uuid import UUID

from adapter.domain.failback import IN_A_ROW, WINDOW
from adapter.store.database import Connection, Schema, fetch
from adapter.store.steps import Row

#: One character per outcome and per try, the newest last.
GOOD, BAD = ".", "x"

#: Pairs in one order, so that two processes cannot wait for each other.
_NOTE: LiteralString = """
INSERT INTO {s}.executor_health AS h (executor, task, outcomes, tries)
SELECT * FROM unnest(%(executors)s::text[], %(tasks)s::text[], %(outcomes)s::text[], %(tries)s::text[])
ORDER BY 1, 2
ON CONFLICT (executor, task) DO UPDATE SET
  outcomes = right(h.outcomes || EXCLUDED.outcomes, %(window)s),
  tries = right(h.tries || EXCLUDED.tries, %(in_a_row)s), updated_at = now()
RETURNING *
"""

_ALL: LiteralString = "SELECT * FROM {s}.executor_health ORDER BY executor, task"

#: What was seen before a person closed a circuit does not open it again.
FORGET: LiteralString = """
WITH gone AS (
  DELETE FROM {s}.executor_health WHERE executor = %(executor)s AND %(task)s IN (task, '*')
)
UPDATE {s}.canaries SET counted_from = now() WHERE executor = %(executor)s AND %(task)s = '*'
"""

_KEEP_CANARY: LiteralString = """
INSERT INTO {s}.canaries AS c (executor, task, every) VALUES (%(executor)s, %(task)s, %(every)s)
ON CONFLICT (executor) DO UPDATE SET task = EXCLUDED.task, every = EXCLUDED.every, next_at = least(c.next_at, now() + EXCLUDED.every),
  counted_from = CASE WHEN c.next_at < now() - 2 * EXCLUDED.every THEN now() ELSE c.counted_from END
WHERE (c.task, c.every) IS DISTINCT FROM (EXCLUDED.task, EXCLUDED.every) OR c.next_at < now() - 2 * EXCLUDED.every
"""

_BEAT: LiteralString = """
UPDATE {s}.canaries SET next_at = now() + every, last_job_id = %(job_id)s
WHERE executor = %(executor)s AND next_at <= now() RETURNING executor
"""

#: An end that a canary came to is in its row; the last ones are found by (type, finished).
_CANARIES: LiteralString = """
SELECT c.*, e.finished AS last_success_at, e.took, now() AS at
FROM {s}.canaries c
LEFT JOIN LATERAL (
  SELECT finished, finished - created_at AS took FROM {s}.worker_jobs_finished
  WHERE type = c.task AND executor = c.executor AND success AND finished > now() - greatest(100 * c.every, interval '1 day')
  ORDER BY finished DESC LIMIT 1
) AS e ON true
ORDER BY c.executor
"""


@dataclass(frozen=True, slots=True)
class Health:
    """One task at one executor. ``outcomes`` and ``tries``: see `GOOD` and `BAD`, the newest last."""

    executor: str
    task: str
    outcomes: str
    tries: str
    updated_at: datetime

    @property
    def failures(self) -> int:
        """How many of the outcomes were the executor's own failures."""
        return self.outcomes.count(BAD)

    @property
    def in_a_row(self) -> int:
        """How many of the last tries did not surely arrive, back to the last that did."""
        return len(self.tries) - len(self.tries.rstrip(BAD))


@dataclass(frozen=True, slots=True)
class Canary:
    """The heartbeat of one executor. ``age``: since it last came back, or since it was first awaited."""

    executor: str
    task: str
    every: timedelta
    next_at: datetime
    last_job_id: UUID | None
    last_success_at: datetime | None
    took: timedelta | None
    age: timedelta
    is_due: bool


async def note(
    conn: Connection, schema: Schema, seen: Mapping[tuple[str, str], tuple[str, str]]
) -> list[Health]:
    """Append outcomes and tries, by (executor, task); return what is known of those pairs now."""
    pairs = sorted(seen)
    parameters = {
        "executors": [executor for executor, _ in pairs],
        "tasks": [task for _, task in pairs],
        "outcomes": [seen[pair][0] for pair in pairs],
        "tries": [seen[pair][1] for pair in pairs],
        "window": WINDOW,
        "in_a_row": IN_A_ROW,
    }
    return [Health(**row) for row in await fetch(conn, schema, _NOTE, parameters)]


async def known(conn: Connection, schema: Schema) -> list[Health]:
    """Return what is known of every task at every executor."""
    return [Health(**row) for row in await fetch(conn, schema, _ALL)]


async def keep_canary(conn: Connection, schema: Schema, executor: str, task: str, every: timedelta) -> None:
    """Make the canary of an executor known, or change it. One that rested is awaited from now on."""
    await fetch(conn, schema, _KEEP_CANARY, {"executor": executor, "task": task, "every": every})


async def beat(conn: Connection, schema: Schema, executor: str, job_id: UUID) -> bool:
    """Take the beat that is due for this job; False when another process has taken it."""
    return bool(await fetch(conn, schema, _BEAT, {"executor": executor, "job_id": job_id}))


async def canaries(conn: Connection, schema: Schema) -> list[Canary]:
    """Return every canary there is."""
    return [_canary(row) for row in await fetch(conn, schema, _CANARIES)]


def _canary(row: Row) -> Canary:
    success: datetime | None = row["last_success_at"]
    since = max(row["counted_from"], success) if success is not None else row["counted_from"]
    return Canary(
        executor=row["executor"],
        task=row["task"],
        every=row["every"],
        next_at=row["next_at"],
        last_job_id=row["last_job_id"],
        last_success_at=success,
        took=row["took"],
        age=row["at"] - since,
        is_due=row["next_at"] <= row["at"],
    )
