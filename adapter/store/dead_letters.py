"""Dead letters: jobs that ended badly, and what was made of them since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from adapter.domain.errors import InvalidArgumentError
from adapter.domain.job import DEAD, Job, JobStatus
from adapter.store.cursors import cursor_at, place_of
from adapter.store.database import Connection, Schema, fetch
from adapter.store.rows import job_from_row

_MOST = 100

#: The first condition is the index's own.
_WANTED: LiteralString = """
FROM {s}.worker_jobs_finished f LEFT JOIN {s}.redrives r ON r.job_id = f.id
WHERE NOT f.success AND f.status <> 'CANCELED' AND NOT COALESCE(f.extra ? 'shadow_of', false)
  AND (%(ids)s::uuid[] IS NULL OR f.id = ANY(%(ids)s::uuid[]))
  AND (%(statuses)s::text[] IS NULL OR f.status = ANY(%(statuses)s::text[]))
  AND (%(tasks)s::text[] IS NULL OR f.type = ANY(%(tasks)s::text[]))
  AND (%(queues)s::text[] IS NULL OR f.queue = ANY(%(queues)s::text[]))
  AND (%(errors)s::text[] IS NULL OR f.error ->> 'name' = ANY(%(errors)s::text[]))
  AND (%(finished_from)s::timestamptz IS NULL OR f.finished >= %(finished_from)s::timestamptz)
  AND (%(finished_to)s::timestamptz IS NULL OR f.finished <= %(finished_to)s::timestamptz)
  AND (%(redriven)s::boolean IS NULL OR (r.job_id IS NOT NULL) = %(redriven)s::boolean)
"""

_PAGE: LiteralString = (
    "SELECT f.*, r.new_job_id AS redriven_as"
    + _WANTED
    + """ AND (%(after_at)s::timestamptz IS NULL OR (f.finished, f.id) < (%(after_at)s::timestamptz, %(after_id)s::uuid))
ORDER BY f.finished DESC, f.id DESC LIMIT %(limit)s"""
)

_IDS: LiteralString = "SELECT f.id" + _WANTED + " ORDER BY f.finished, f.id LIMIT %(limit)s"

#: Whoever inserts or counts up the row has redriven the job; the second waits for the first, and finds it done.
_MARK: LiteralString = """
WITH pairs AS (SELECT * FROM unnest(%(old)s::uuid[], %(new)s::uuid[], %(seen)s::int[]) AS p(job_id, new_job_id, seen)),
marked AS (
  INSERT INTO {s}.redrives AS r (job_id, new_job_id, actor, reason)
  SELECT job_id, new_job_id, %(actor)s, %(reason)s FROM pairs ORDER BY job_id
  ON CONFLICT (job_id) DO UPDATE SET new_job_id = EXCLUDED.new_job_id, actor = EXCLUDED.actor,
    reason = EXCLUDED.reason, times = r.times + 1, at = now()
  WHERE r.times = (SELECT p.seen FROM pairs p WHERE p.job_id = r.job_id)
  RETURNING r.job_id, r.new_job_id
), noted AS (
  INSERT INTO {s}.job_events (job_id, epoch, kind, actor, detail)
  SELECT m.job_id, f.epoch, 'redriven', %(actor)s, jsonb_build_object('as', m.new_job_id, 'reason', %(reason)s::text)
  FROM marked m JOIN {s}.worker_jobs_finished f ON f.id = m.job_id
)
SELECT job_id FROM marked
"""

_SEEN: LiteralString = "SELECT job_id, times FROM {s}.redrives WHERE job_id = ANY(%(ids)s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters. Several values of one field: any of them; several fields: all of them.

    ``errors``: names of errors. ``redriven`` None: those that were and those that were not. ``after``: the
    cursor of a `DeadLetterPage`.
    """

    statuses: tuple[JobStatus, ...] = ()
    tasks: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    finished_from: datetime | None = None
    finished_to: datetime | None = None
    redriven: bool | None = None
    limit: int = 25
    after: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that ended badly. ``redriven_as``: the job that was made of it last."""

    job: Job
    redriven_as: UUID | None


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Dead letters, the latest end first; ``next`` is the cursor of the page after, None on the last."""

    letters: tuple[DeadLetter, ...]
    next: str | None


async def page(conn: Connection, schema: Schema, wanted: DeadLetterFilter) -> DeadLetterPage:
    """Return one page of dead letters.

    Raises:
        InvalidArgumentError: the filter cannot be meant.
    """
    if not 1 <= wanted.limit <= _MOST:
        msg = f"limit must be from 1 to {_MOST}."
        raise InvalidArgumentError(msg)
    at, last = (None, None) if wanted.after is None else place_of(wanted.after)
    parameters = _conditions(wanted) | {"after_at": at, "after_id": last, "limit": wanted.limit + 1}
    rows = await fetch(conn, schema, _PAGE, parameters)
    letters = [DeadLetter(job_from_row(row), row["redriven_as"]) for row in rows[: wanted.limit]]
    behind = rows[wanted.limit - 1] if len(rows) > wanted.limit else None
    return DeadLetterPage(tuple(letters), cursor_at(behind["finished"], behind["id"]) if behind else None)


async def ids(
    conn: Connection, schema: Schema, wanted: DeadLetterFilter | Sequence[UUID], limit: int, *, again: bool
) -> list[UUID]:
    """Return dead letters, the oldest end first; without ``again`` only those that were not redriven."""
    parameters = _conditions(wanted if isinstance(wanted, DeadLetterFilter) else DeadLetterFilter())
    if not isinstance(wanted, DeadLetterFilter):
        parameters["ids"] = list(wanted)
    if not again:
        parameters["redriven"] = False
    return [row["id"] for row in await fetch(conn, schema, _IDS, parameters | {"limit": limit})]


async def times_redriven(conn: Connection, schema: Schema, job_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return how often each was redriven so far; those that never were are left out."""
    return {row["job_id"]: row["times"] for row in await fetch(conn, schema, _SEEN, {"ids": list(job_ids)})}


async def mark(
    conn: Connection,
    schema: Schema,
    new_by_old: Mapping[UUID, UUID],
    *,
    seen: Mapping[UUID, int],
    reason: str,
    actor: str,
) -> set[UUID]:
    """Write down what is made of which job; returns those nobody redrove since they were ``seen``.

    The rest is somebody else's. Belongs into the transaction that schedules the new jobs.
    """
    old = list(new_by_old)
    parameters = {
        "old": old,
        "new": [new_by_old[each] for each in old],
        "seen": [seen.get(each, 0) for each in old],
        "reason": reason,
        "actor": actor,
    }
    return {row["job_id"] for row in await fetch(conn, schema, _MARK, parameters)}


def _conditions(wanted: DeadLetterFilter) -> dict[str, Any]:
    strange = set(wanted.statuses) - DEAD
    if strange:
        msg = f"A dead letter is never {', '.join(sorted(strange))}; it is one of {', '.join(sorted(DEAD))}."
        raise InvalidArgumentError(msg)
    for moment in (wanted.finished_from, wanted.finished_to):
        if moment is not None and moment.tzinfo is None:
            msg = "finished_from= and finished_to= need a time zone: a naive datetime does not say when."
            raise InvalidArgumentError(msg)
    return {
        "ids": None,
        "statuses": [each.value for each in wanted.statuses] or None,
        "tasks": list(wanted.tasks) or None,
        "queues": list(wanted.queues) or None,
        "errors": list(wanted.errors) or None,
        "finished_from": wanted.finished_from,
        "finished_to": wanted.finished_to,
        "redriven": wanted.redriven,
    }
