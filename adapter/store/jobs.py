"""Writing jobs, finding them again, and ending the ones nobody was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from adapter.domain.job import Job, NewJob
from adapter.domain.transitions import CANCEL_UNGIVEN
from adapter.store.database import Connection, Schema, fetch
from adapter.store.finishing import AS_IT_WAS, FINISHED_COLUMNS, RELEASE_KEYS
from adapter.store.rows import found, inserted, job_from_row, records_of
from adapter.store.steps import Row, Savepoint, Statement, Steps

#: How many rows one INSERT carries at most.
MOST_ROWS = 1000

_GIVEN: LiteralString = """
WITH given AS MATERIALIZED (
  SELECT r.*, COALESCE(r.due, now() + r.delay) AS due_at
  FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(
    id uuid, type text, status text, tag text, user_id text, data jsonb, executor text, route_reason text,
    queue text, concurrency_key text, priority int, due timestamptz, delay interval, ttl interval,
    max_duration interval, max_attempts int, retry jsonb, metadata jsonb, tags text[],
    idempotency_key text, idempotency_ttl interval, request_key text, parent_id uuid, root_id uuid, batch_id uuid,
    persistent boolean, keep_for interval, extra jsonb)
  WHERE (SELECT version FROM {s}.flags_state) = %(flags_version)s
)"""

_KEYS: LiteralString = """, keys AS (
  INSERT INTO {s}.job_keys AS k (task, key, job_id, expires_at)
  SELECT type, 'key:' || idempotency_key, id, now() + idempotency_ttl
  FROM given WHERE idempotency_key IS NOT NULL
  UNION ALL
  SELECT type, 'request:' || request_key, id, now() + interval '24 hours'
  FROM given WHERE request_key IS NOT NULL
  ORDER BY 1, 2
  ON CONFLICT (task, key) DO UPDATE SET job_id = EXCLUDED.job_id, expires_at = EXCLUDED.expires_at
  WHERE k.expires_at <= now()
  RETURNING k.job_id
), free AS (
  SELECT g.* FROM given g
  WHERE (SELECT count(*) FROM keys WHERE keys.job_id = g.id)
      = (g.idempotency_key IS NOT NULL)::int + (g.request_key IS NOT NULL)::int
)"""

_INSERT: LiteralString = """
INSERT INTO {s}.worker_jobs_open (
  id, type, status, waiting_for, tag, tag_held, user_id, data, executor, route_reason, queue,
  concurrency_key, priority, due, expires_at, max_duration, max_attempts, retry, metadata, tags,
  idempotency_key, parent_id, root_id, batch_id, persistent, keep_for, extra, next_try_at)
SELECT id, type, now_status, CASE WHEN now_status = 'WAITING' THEN 'executor' END, tag, tag IS NOT NULL, user_id,
  data, executor, route_reason, queue, concurrency_key, COALESCE(priority, 0), due_at,
  COALESCE(due_at, now()) + ttl, max_duration, max_attempts, retry, metadata, tags, idempotency_key,
  parent_id, root_id, batch_id, COALESCE(persistent, false), keep_for, extra,
  CASE WHEN executor <> 'local' THEN now() END
FROM {from}
CROSS JOIN LATERAL (SELECT CASE
  WHEN due_at > now() AND NOT (executor <> 'local' AND COALESCE((extra ->> 'remote_delay')::boolean, false))
    THEN 'DELAYED'
  ELSE status END AS now_status) AS decided
-- Tags in one order for all, so that two calls cannot wait for each other; the rest as it was given.
ORDER BY tag, CASE WHEN tag IS NOT NULL THEN type END, id
ON CONFLICT (type, tag) WHERE tag_held DO NOTHING
RETURNING id, status, created_at, due, expires_at
"""

_INSERT_PLAIN: LiteralString = _GIVEN + _INSERT.replace("{from}", "given")
_INSERT_KEYED: LiteralString = _GIVEN + _KEYS + _INSERT.replace("{from}", "free")

_HELD: LiteralString = """
SELECT 'key' AS by, task AS type, substr(key, 5) AS held, job_id FROM {s}.job_keys
WHERE (task, key) IN (SELECT t, 'key:' || k FROM unnest(%(key_types)s::text[], %(keys)s::text[]) AS u(t, k))
  AND expires_at > now()
UNION ALL
SELECT 'request', task, substr(key, 9), job_id FROM {s}.job_keys
WHERE (task, key) IN (
    SELECT t, 'request:' || k FROM unnest(%(request_types)s::text[], %(requests)s::text[]) AS u(t, k))
  AND expires_at > now()
UNION ALL
SELECT 'tag', type, tag, id FROM {s}.worker_jobs_open
WHERE (type, tag) IN (SELECT * FROM unnest(%(tag_types)s::text[], %(tags)s::text[])) AND tag_held
"""

_FREE_KEYS: LiteralString = """
DELETE FROM {s}.job_keys k WHERE k.job_id = ANY(%(ids)s)
  AND NOT EXISTS (SELECT FROM {s}.worker_jobs_open o WHERE o.id = k.job_id)
  AND NOT EXISTS (SELECT FROM {s}.worker_jobs_finished f WHERE f.id = k.job_id)
"""

_OPEN_BY_ID: LiteralString = "SELECT * FROM {s}.worker_jobs_open WHERE id = ANY(%(ids)s)"
_FINISHED_BY_ID: LiteralString = "SELECT * FROM {s}.worker_jobs_finished WHERE id = ANY(%(ids)s)"


@dataclass(frozen=True, slots=True)
class Inserted:
    """What an insert came to: the jobs that are in, and whether some found their place taken.

    ``missing`` are those that were not inserted: the flags have changed since they were routed, or
    their key or tag is held.
    """

    jobs: dict[UUID, Job]
    missing: list[NewJob]


def insert(jobs: Sequence[NewJob], flags_version: int) -> Steps[Inserted]:
    """Insert jobs that were routed with ``flags_version``.

    Needs an open transaction when a job has a key: a job whose key was taken for it but whose tag was
    not must leave nothing behind.
    """
    keyed = any(job.idempotency_key is not None or job.request_key is not None for job in jobs)
    done: dict[UUID, Job] = {}
    by_id = {job.id: job for job in jobs}
    for start in range(0, len(jobs), MOST_ROWS):
        part = list(jobs[start : start + MOST_ROWS])
        parameters = {"rows": records_of(part), "flags_version": flags_version}
        if keyed:
            yield Savepoint.SET
        rows = yield Statement(_INSERT_KEYED if keyed else _INSERT_PLAIN, parameters)
        if keyed:
            if len(rows) < len(part):
                # All or nothing per part: the caller looks up what is held and inserts the rest.
                yield Savepoint.UNDO
                rows = ()
            yield Savepoint.KEEP
        for row in rows:
            done[row["id"]] = inserted(by_id[row["id"]], row)
    return Inserted(done, [job for job in jobs if job.id not in done])


def find_held(jobs: Sequence[NewJob]) -> Steps[dict[UUID, Job]]:
    """Return, for each job whose key or tag is held, the job that holds it (marked deduplicated)."""
    keys = [(job.type, job.idempotency_key) for job in jobs if job.idempotency_key is not None]
    requests = [(job.type, job.request_key) for job in jobs if job.request_key is not None]
    tags = [(job.type, job.tag) for job in jobs if job.tag is not None]
    if not (keys or requests or tags):
        return {}
    rows = yield Statement(
        _HELD,
        {
            "key_types": [each[0] for each in keys],
            "keys": [each[1] for each in keys],
            "request_types": [each[0] for each in requests],
            "requests": [each[1] for each in requests],
            "tag_types": [each[0] for each in tags],
            "tags": [each[1] for each in tags],
        },
    )
    holders = {(row["by"], row["type"], row["held"]): row["job_id"] for row in rows}
    held = yield from by_ids(list(holders.values()))
    gone = [holder for (by, _, _), holder in holders.items() if by != "tag" and holder not in held]
    if gone:
        # The job is past its retention: its key holds nothing any more.
        yield Statement(_FREE_KEYS, {"ids": gone})
    result: dict[UUID, Job] = {}
    for job in jobs:
        names = (("request", job.request_key), ("key", job.idempotency_key), ("tag", job.tag))
        for by, name in names:
            holder = held.get(holders.get((by, job.type, name), UUID(int=0)))
            if name is not None and holder is not None:
                result[job.id] = found(holder)
                break
    return result


def by_ids(ids: Sequence[UUID]) -> Steps[dict[UUID, Job]]:
    """Return jobs by id, open or finished. Two statements in this order: a job moves only one way."""
    result: dict[UUID, Job] = {}
    if not ids:
        return result
    rows: Sequence[Row] = yield Statement(_OPEN_BY_ID, {"ids": list(ids)})
    result.update((row["id"], job_from_row(row)) for row in rows)
    left = [each for each in ids if each not in result]
    if left:
        rows = yield Statement(_FINISHED_BY_ID, {"ids": left})
        result.update((row["id"], job_from_row(row)) for row in rows)
    return result


_CANCEL_UNGIVEN: LiteralString = (
    """
WITH gone AS (
  DELETE FROM {s}.worker_jobs_open
  WHERE id = %(id)s AND status = ANY(%(sources)s)
    -- A local job between two tries is in nobody's hands.
    AND (started IS NULL OR executor = 'local' AND COALESCE(waiting_for IN ('executor', 'key')
      OR waiting_for = 'children' AND worker_id IS NULL, true))
    AND (executor IS NULL OR executor = 'local'
         OR (submit_state = 'never' AND dispatch_lease IS NULL))
  RETURNING *
), given AS (
  SELECT gone.*, 'CANCELED' AS new_status, NULL::jsonb AS new_result,
    jsonb_build_object('name', 'Canceled', 'message', %(reason)s::text) AS new_error, true AS new_cancel,
    """
    + AS_IT_WAS
    + """ FROM gone
), """
    + RELEASE_KEYS
    + """, noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, actor, detail)
  SELECT id, epoch, 'canceled', %(actor)s, jsonb_build_object('reason', %(reason)s::text) FROM given
), below AS (
  INSERT INTO {s}.family_cancels (job_id, reason, actor)
  SELECT id, %(reason)s, %(actor)s FROM given WHERE started IS NOT NULL ON CONFLICT DO NOTHING
)
"""
    + FINISHED_COLUMNS
    + " RETURNING *"
)

_REQUEST_CANCEL: LiteralString = """
WITH asked AS (
  UPDATE {s}.worker_jobs_open SET cancel_requested = true, updated_at = now()
  WHERE id = %(id)s AND NOT cancel_requested RETURNING *
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, actor, detail)
  SELECT id, epoch, 'cancel_requested', %(actor)s, jsonb_build_object('reason', %(reason)s::text) FROM asked
), below AS (
  INSERT INTO {s}.family_cancels (job_id, reason, actor)
  SELECT id, %(reason)s, %(actor)s FROM asked WHERE started IS NOT NULL ON CONFLICT DO NOTHING
), wanted AS (
  UPDATE {s}.remote_runs r SET wanted = 'canceled' FROM asked
  WHERE r.job_id = asked.id AND r.ended_at IS NULL
)
SELECT * FROM asked
"""


async def cancel(conn: Connection, schema: Schema, job_id: UUID, *, reason: str, actor: str) -> Job | None:
    """End the job if no executor was ever given it, else record the wish. Returns it as it now is.

    Returns None when there is no such job. A job that has ended is returned unchanged.
    """
    parameters: dict[str, Any] = {"id": job_id, "reason": reason, "actor": actor}
    rows = await fetch(conn, schema, _CANCEL_UNGIVEN, parameters | {"sources": CANCEL_UNGIVEN.guard})
    if not rows:
        rows = await fetch(conn, schema, _REQUEST_CANCEL, parameters)
        if rows:
            # It may have left its holder between the two looks; whoever takes it from now on knows.
            ended = await fetch(conn, schema, _CANCEL_UNGIVEN, parameters | {"sources": CANCEL_UNGIVEN.guard})
            rows = ended or rows
    if not rows:
        rows = await fetch(conn, schema, _OPEN_BY_ID, {"ids": [job_id]})
    if not rows:
        rows = await fetch(conn, schema, _FINISHED_BY_ID, {"ids": [job_id]})
    return job_from_row(rows[0]) if rows else None


async def get(conn: Connection, schema: Schema, job_id: UUID) -> Job | None:
    """Return the job, open or finished, or None."""
    rows = await fetch(conn, schema, _OPEN_BY_ID, {"ids": [job_id]})
    if not rows:
        rows = await fetch(conn, schema, _FINISHED_BY_ID, {"ids": [job_id]})
    return job_from_row(rows[0]) if rows else None
