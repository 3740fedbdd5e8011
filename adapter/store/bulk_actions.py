"""Bulk actions: stored, held by one process at a time, and a ledger of what became of each job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import TypeAdapter

from adapter.domain.bulk import BulkAction, BulkState, BulkVerb
from adapter.domain.errors import InvalidArgumentError
from adapter.store.cursors import page_of, place_of
from adapter.store.database import Connection, Schema, fetch
from adapter.store.insights import Insights, JobFilter

_COLUMNS: LiteralString = """id, action, name, state, actor, total, succeeded, failed, selected, overrides,
  created_at, finished_at"""

#: A call that is made again finds what it made.
_CREATE: LiteralString = """
INSERT INTO {s}.bulk_actions (id, action, name, wanted, overrides, actor, request_key)
VALUES (%(id)s, %(action)s, %(name)s, %(wanted)s, %(overrides)s, %(actor)s, %(request_key)s)
ON CONFLICT (request_key) DO NOTHING RETURNING id
"""
_BY_KEY: LiteralString = "SELECT id FROM {s}.bulk_actions WHERE request_key = %(request_key)s"
_GET: LiteralString = "SELECT " + _COLUMNS + " FROM {s}.bulk_actions WHERE id = %(id)s"

_NEWER: LiteralString = (
    "SELECT " + _COLUMNS + " FROM {s}.bulk_actions WHERE id > %(at)s ORDER BY id LIMIT %(limit)s"
)
_OLDER: LiteralString = (
    "SELECT "
    + _COLUMNS
    + """ FROM {s}.bulk_actions WHERE %(at)s::uuid IS NULL OR id < %(at)s
ORDER BY id DESC LIMIT %(limit)s"""
)

#: One that nobody works on: it is new, or its process died.
_HOLD: LiteralString = """
UPDATE {s}.bulk_actions SET holder = %(holder)s, held_until = now() + %(lease)s
WHERE state = 'pending' AND id = (
  SELECT id FROM {s}.bulk_actions WHERE state = 'pending' AND (%(id)s::uuid IS NULL OR id = %(id)s)
    AND (held_until IS NULL OR held_until < now())
  -- The one that was worked on longest ago, so that a large one holds nobody up.
  ORDER BY held_until NULLS FIRST, created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING *
"""
_RELEASE: LiteralString = """
UPDATE {s}.bulk_actions SET holder = NULL, held_until = now() WHERE id = %(id)s AND holder = %(holder)s
"""

#: By its holder alone: whoever has lost it would take the place back to where it once was.
_SELECT: LiteralString = """
WITH held AS (
  SELECT id FROM {s}.bulk_actions
  WHERE id = %(id)s AND state = 'pending' AND holder IS NOT DISTINCT FROM %(holder)s FOR UPDATE
), added AS (
  INSERT INTO {s}.bulk_action_jobs (bulk_action_id, job_id)
  SELECT held.id, j.id FROM held CROSS JOIN unnest(%(jobs)s::uuid[]) AS j(id)
  ON CONFLICT DO NOTHING RETURNING job_id
)
UPDATE {s}.bulk_actions b SET total = total + (SELECT count(*) FROM added), place = %(place)s, selected = %(selected)s
FROM held WHERE b.id = held.id RETURNING b.id
"""

_NEXT: LiteralString = """
SELECT job_id FROM {s}.bulk_action_jobs WHERE bulk_action_id = %(id)s AND outcome IS NULL
ORDER BY job_id LIMIT %(limit)s
"""

#: Whoever locks the rows may act on them; an abort waits until that is done, or is seen.
_TAKE: LiteralString = """
SELECT job_id FROM {s}.bulk_action_jobs j JOIN {s}.bulk_actions b ON b.id = j.bulk_action_id AND b.state = 'pending'
WHERE bulk_action_id = %(id)s AND job_id = ANY(%(jobs)s) AND outcome IS NULL
ORDER BY job_id FOR NO KEY UPDATE OF j, b
"""

_SETTLE: LiteralString = """
WITH told AS (
  SELECT * FROM unnest(%(jobs)s::uuid[], %(new)s::uuid[], %(problems)s::text[]) AS t(job_id, new_job_id, problem)
), settled AS (
  UPDATE {s}.bulk_action_jobs j SET outcome = CASE WHEN t.problem IS NULL THEN 'done' ELSE 'failed' END,
    new_job_id = t.new_job_id, problem = t.problem
  FROM told t WHERE j.bulk_action_id = %(id)s AND j.job_id = t.job_id AND j.outcome IS NULL
  RETURNING j.outcome
)
UPDATE {s}.bulk_actions SET succeeded = succeeded + (SELECT count(*) FROM settled WHERE outcome = 'done'),
  failed = failed + (SELECT count(*) FROM settled WHERE outcome = 'failed')
WHERE id = %(id)s
"""

_COMPLETE: LiteralString = """
UPDATE {s}.bulk_actions b SET state = 'completed', finished_at = now(), holder = NULL, held_until = NULL
WHERE id = %(id)s AND state = 'pending' AND selected
  AND NOT EXISTS (SELECT FROM {s}.bulk_action_jobs j WHERE j.bulk_action_id = b.id AND j.outcome IS NULL)
"""

_ABORT: LiteralString = """
UPDATE {s}.bulk_actions SET state = 'aborted', finished_at = now(), holder = NULL, held_until = NULL
WHERE id = %(id)s AND state = 'pending'
"""

_FILTER = TypeAdapter(JobFilter)


@dataclass(frozen=True, slots=True)
class Work:
    """A bulk action that this process holds. ``wanted`` None: its jobs were named one by one."""

    action: BulkAction
    wanted: JobFilter | None


@dataclass(frozen=True, slots=True)
class BulkPage:
    """Bulk actions, the newest first, and the cursors of the neighboring pages."""

    actions: tuple[BulkAction, ...]
    next: str | None
    previous: str | None


async def create(
    conn: Connection,
    schema: Schema,
    bulk_action_id: UUID,
    *,
    action: BulkVerb,
    name: str | None,
    wanted: JobFilter | Sequence[UUID],
    overrides: Mapping[str, Any] | None,
    actor: str,
    request_key: str | None,
) -> UUID:
    """Store a bulk action, with its jobs when they are named; returns its id, or that of the same call before.

    Belongs into a transaction.
    """
    by_filter = isinstance(wanted, JobFilter)
    parameters = {
        "id": bulk_action_id,
        "action": action,
        "name": name,
        "wanted": Jsonb(_FILTER.dump_python(wanted, mode="json")) if by_filter else None,
        "overrides": None if overrides is None else Jsonb(dict(overrides)),
        "actor": actor,
        "request_key": request_key,
    }
    rows = await fetch(conn, schema, _CREATE, parameters)
    if not rows:
        rows = await fetch(conn, schema, _BY_KEY, parameters)
        return rows[0]["id"]
    if not by_filter:
        await _select(conn, schema, bulk_action_id, wanted, holder=None, place=None, selected=True)
    return bulk_action_id


async def get(conn: Connection, schema: Schema, bulk_action_id: UUID) -> BulkAction | None:
    """Return a bulk action."""
    rows = await fetch(conn, schema, _GET, {"id": bulk_action_id})
    return _action(rows[0]) if rows else None


async def page(
    conn: Connection, schema: Schema, *, limit: int, after: str | None, before: str | None
) -> BulkPage:
    """Return one page, the newest first; ``before`` wins.

    Raises:
        InvalidArgumentError: the limit is not 1 to 100, or a cursor is none of ours.
    """
    if not 1 <= limit <= 100:
        msg = "limit must be from 1 to 100."
        raise InvalidArgumentError(msg)
    cursor = before or after
    at = None if cursor is None else place_of(cursor)[1]
    statement = _NEWER if before is not None else _OLDER
    rows = await fetch(conn, schema, statement, {"at": at, "limit": limit + 1})
    found = [_action(row) for row in rows]
    return BulkPage(
        *page_of(found, lambda each: (each.created_at, each.id), limit=limit, after=after, before=before)
    )


async def hold(
    conn: Connection, schema: Schema, holder: UUID, lease: timedelta, bulk_action_id: UUID | None
) -> Work | None:
    """Take one that nobody works on, or go on with it; None when there is none."""
    parameters = {"holder": holder, "lease": lease, "id": bulk_action_id}
    rows = await fetch(conn, schema, _HOLD, parameters)
    if not rows:
        return None
    wanted: JobFilter | None = None
    if rows[0]["wanted"] is not None:
        wanted = replace(_FILTER.validate_python(rows[0]["wanted"]), after=rows[0]["place"])
    return Work(_action(rows[0]), wanted)


async def release(conn: Connection, schema: Schema, bulk_action_id: UUID, holder: UUID) -> None:
    """Let others go on with it."""
    await fetch(conn, schema, _RELEASE, {"id": bulk_action_id, "holder": holder})


async def select_more(
    conn: Connection, schema: Schema, bulk_action_id: UUID, holder: UUID, wanted: JobFilter
) -> int:
    """Find one page more of its jobs, as long as it is held; returns how many the page has."""
    found = await Insights(schema).list_ids(conn, wanted)
    place, selected = found.next, found.next is None
    await _select(conn, schema, bulk_action_id, found.ids, holder=holder, place=place, selected=selected)
    return len(found.ids)


async def next_jobs(conn: Connection, schema: Schema, bulk_action_id: UUID, limit: int) -> list[UUID]:
    """Return jobs that were not acted on yet."""
    rows = await fetch(conn, schema, _NEXT, {"id": bulk_action_id, "limit": limit})
    return [row["job_id"] for row in rows]


async def take(conn: Connection, schema: Schema, bulk_action_id: UUID, job_ids: Sequence[UUID]) -> set[UUID]:
    """Lock these lines of the ledger; returns those that nobody has acted on. Belongs into a transaction."""
    rows = await fetch(conn, schema, _TAKE, {"id": bulk_action_id, "jobs": list(job_ids)})
    return {row["job_id"] for row in rows}


async def settle(
    conn: Connection,
    schema: Schema,
    bulk_action_id: UUID,
    *,
    done: Mapping[UUID, UUID | None],
    failed: Mapping[UUID, str],
) -> None:
    """Write down what became of jobs: done (and what was made of it), or why not. The first word counts."""
    parameters = {
        "id": bulk_action_id,
        "jobs": [*done, *failed],
        "new": [*done.values(), *(None for _ in failed)],
        "problems": [*(None for _ in done), *failed.values()],
    }
    await fetch(conn, schema, _SETTLE, parameters)


async def complete(conn: Connection, schema: Schema, bulk_action_id: UUID) -> None:
    """End it, if nothing is left to do."""
    await fetch(conn, schema, _COMPLETE, {"id": bulk_action_id})


async def abort(conn: Connection, schema: Schema, bulk_action_id: UUID) -> None:
    """End it, whatever is left to do; one that has ended stays as it is."""
    await fetch(conn, schema, _ABORT, {"id": bulk_action_id})


async def _select(
    conn: Connection,
    schema: Schema,
    bulk_action_id: UUID,
    ids: Sequence[UUID],
    *,
    holder: UUID | None,
    place: str | None,
    selected: bool,
) -> None:
    where = {"id": bulk_action_id, "holder": holder}
    await fetch(conn, schema, _SELECT, where | {"jobs": list(ids), "place": place, "selected": selected})


def _action(row: Mapping[str, Any]) -> BulkAction:
    finished_at: datetime | None = row["finished_at"]
    return BulkAction(
        id=row["id"],
        action=row["action"],
        name=row["name"],
        state=BulkState(row["state"]),
        actor=row["actor"],
        total=row["total"],
        succeeded=row["succeeded"],
        failed=row["failed"],
        selected=row["selected"],
        overrides=row["overrides"],
        created_at=row["created_at"],
        finished_at=finished_at,
    )
