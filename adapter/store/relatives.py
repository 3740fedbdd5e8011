"""The jobs around a job: its parent, the root of its family, and those below it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from adapter.domain.job import Job
from adapter.store.database import Connection, Schema, fetch
from adapter.store.jobs import by_ids
from adapter.store.rows import job_from_row
from adapter.store.steps import run

_OPEN_CHILDREN: LiteralString = """
SELECT * FROM {s}.worker_jobs_open WHERE parent_id = %(id)s ORDER BY id LIMIT %(limit)s
"""
_FINISHED_CHILDREN: LiteralString = """
SELECT * FROM {s}.worker_jobs_finished WHERE parent_id = %(id)s ORDER BY id LIMIT %(limit)s
"""
_OPEN_BELOW: LiteralString = """
SELECT * FROM {s}.worker_jobs_open WHERE root_id = %(id)s ORDER BY id LIMIT %(limit)s
"""
_FINISHED_BELOW: LiteralString = """
SELECT * FROM {s}.worker_jobs_finished WHERE root_id = %(id)s ORDER BY id LIMIT %(limit)s
"""
#: A job may end between the two looks: in this order it is seen once, or twice.
_CHILDREN = (_OPEN_CHILDREN, _FINISHED_CHILDREN)
_BELOW = (_OPEN_BELOW, _FINISHED_BELOW)


@dataclass(frozen=True, slots=True)
class Relatives:
    """The jobs around a job; a relative past its retention is left out."""

    parent: Job | None
    root: Job | None
    children: tuple[Job, ...]


async def relatives(conn: Connection, schema: Schema, job: Job, limit: int) -> Relatives:
    """Return a job's parent, root and children, of these the first ``limit``."""
    above = {each for each in (job.parent_id, job.root_id) if each is not None}
    known = await run(conn, schema, by_ids(list(above)))
    children = await _both(conn, schema, _CHILDREN, job.id, limit)
    return Relatives(
        known.get(job.parent_id) if job.parent_id else None,
        known.get(job.root_id) if job.root_id else None,
        tuple(children),
    )


async def below(conn: Connection, schema: Schema, root_id: UUID, limit: int) -> list[Job]:
    """Return the first ``limit`` jobs of a family, its root left out."""
    return await _both(conn, schema, _BELOW, root_id, limit)


async def _both(
    conn: Connection, schema: Schema, looks: tuple[LiteralString, ...], job_id: UUID, limit: int
) -> list[Job]:
    found: dict[UUID, Job] = {}
    for look in looks:
        rows = await fetch(conn, schema, look, {"id": job_id, "limit": limit})
        found.update((row["id"], job_from_row(row)) for row in rows)
    return [found[each] for each in sorted(found)][:limit]
