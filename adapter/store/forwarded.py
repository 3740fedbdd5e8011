"""What was passed on to upstream, counted per day, endpoint and task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from adapter.store.database import Connection, Schema, fetch

#: So many names of tasks are told apart in a day; what comes on top counts without a name.
MOST_TASKS = 1000

_ADD: LiteralString = """
WITH given AS (
  SELECT endpoint, CASE WHEN (SELECT count(DISTINCT task) FROM {s}.forwarded_requests
      WHERE day = (now() AT TIME ZONE 'UTC')::date) >= %(most)s THEN '' ELSE task END AS task,
    sum(requests) AS requests, sum(refused) AS refused, sum(failed) AS failed
  FROM jsonb_to_recordset(%(rows)s::jsonb)
    AS r(endpoint text, task text, requests bigint, refused bigint, failed bigint)
  GROUP BY 1, 2 ORDER BY 1, 2
)
INSERT INTO {s}.forwarded_requests AS f (day, endpoint, task, requests, refused, failed, last_at)
SELECT (now() AT TIME ZONE 'UTC')::date, endpoint, task, requests, refused, failed, now() FROM given
ON CONFLICT (day, endpoint, task) DO UPDATE SET requests = f.requests + EXCLUDED.requests,
  refused = f.refused + EXCLUDED.refused, failed = f.failed + EXCLUDED.failed, last_at = now()
"""

_LAST: LiteralString = """
SELECT endpoint, task, sum(requests)::bigint AS requests, sum(refused)::bigint AS refused,
  sum(failed)::bigint AS failed, max(last_at) AS last_at
FROM {s}.forwarded_requests WHERE day > (now() AT TIME ZONE 'UTC')::date - %(days)s::int
GROUP BY endpoint, task ORDER BY requests DESC, endpoint, task
"""

#: Where an id with this prefix is kept. Others are believed by their looks.
_KEPT_IN: dict[str, LiteralString] = {
    "run": """SELECT EXISTS (SELECT FROM {s}.worker_jobs_open WHERE id = %(id)s)
      OR EXISTS (SELECT FROM {s}.worker_jobs_finished WHERE id = %(id)s) AS found""",
    "batch": "SELECT EXISTS (SELECT FROM {s}.batches WHERE id = %(id)s) AS found",
    "bulk": "SELECT EXISTS (SELECT FROM {s}.bulk_actions WHERE id = %(id)s) AS found",
    "waitpoint": "SELECT EXISTS (SELECT FROM {s}.wait_tokens WHERE id = %(id)s) AS found",
    "sched": "SELECT EXISTS (SELECT FROM {s}.job_schedules WHERE id = %(id)s) AS found",
}


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What was passed on. ``task`` is empty where the endpoint names none.

    ``refused``: of the ``requests``, those that upstream answered with a 4xx. ``failed``: with a 5xx, or not at all.
    """

    endpoint: str
    task: str
    requests: int
    refused: int
    failed: int
    last_at: datetime


async def add(conn: Connection, schema: Schema, counts: Mapping[tuple[str, str], list[int]]) -> None:
    """Add to today's counts: per (endpoint, task) requests, refused, failed."""
    rows = [
        {"endpoint": endpoint, "task": task, "requests": n[0], "refused": n[1], "failed": n[2]}
        for (endpoint, task), n in counts.items()
    ]
    await fetch(conn, schema, _ADD, {"rows": json.dumps(rows), "most": MOST_TASKS})


async def last_days(conn: Connection, schema: Schema, days: int) -> list[Forwarded]:
    """Return what was passed on in the last ``days`` days, today included, the most frequent first."""
    return [Forwarded(**row) for row in await fetch(conn, schema, _LAST, {"days": days})]


async def is_here(conn: Connection, schema: Schema, prefix: str, id_: UUID) -> bool:
    """Whether there is a run, batch, bulk action, wait token or schedule of this id."""
    statement = _KEPT_IN.get(prefix)
    return statement is None or bool((await fetch(conn, schema, statement, {"id": id_}))[0]["found"])
