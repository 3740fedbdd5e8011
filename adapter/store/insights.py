"""Every read for the API, the CLI and the dashboard."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import UUID

from adapter.domain.errors import InvalidArgumentError
from adapter.domain.job import Job, JobStatus
from adapter.store.cursors import cursor_at, page_of
from adapter.store.database import Connection, Schema, fetch
from adapter.store.rows import job_from_row

if TYPE_CHECKING:
    from adapter.store.job_lists import JobLists


#: What `WaitingFor` says, but apart from a wait for a worker (``executor``) one that a remote reports (``remote``).
Wait: TypeAlias = Literal["key", "children", "token", "executor", "remote"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a list shows. Several values of one field: any of them; several fields: all of them.

    ``task_queues``: (task, queue), as well as those of ``queues``. ``waits``: of jobs that wait, only those that wait for one of these. ``machines``, ``regions``, ``versions``, ``is_test``: what their caller asked for. ``bulk_action_id``: what a bulk
    action has canceled, or made by replaying. ``shadows``: copies, too. ``after`` and ``before`` are cursors of a
    `JobPage`; ``before`` wins.
    """

    statuses: tuple[JobStatus, ...] = ()
    waits: tuple[Wait, ...] = ()
    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    executors: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    task_queues: tuple[tuple[str, str], ...] = ()
    tag: str | None = None
    user_id: str | None = None
    schedule_id: UUID | None = None
    batch_id: UUID | None = None
    parent_id: UUID | None = None
    root_id: UUID | None = None
    machines: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    is_test: bool | None = None
    bulk_action_id: UUID | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    shadows: bool = False
    limit: int = 25
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first, and the cursors of the neighboring pages (None where there is none)."""

    jobs: tuple[Job, ...]
    next: str | None
    previous: str | None


@dataclass(frozen=True, slots=True)
class IdPage:
    """Ids of jobs, newest first, and the cursor of the page after."""

    ids: tuple[UUID, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One line of a job's history."""

    at: datetime
    epoch: int
    kind: str
    actor: str | None
    detail: dict[str, Any] | None


class Insights:
    """Reads over one schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    @functools.cached_property
    def lists(self) -> JobLists:
        """The statements of lists."""
        from adapter.store.job_lists import JobLists  # noqa: PLC0415 - SQLAlchemy, only when something is listed

        return JobLists(self._schema)

    async def list_jobs(self, conn: Connection, wanted: JobFilter) -> JobPage:
        """Return one page of jobs, newest first: by their ids, which are of the time when they were asked for.

        Raises:
            InvalidArgumentError: the limit is not 1 to 100, or a cursor is none of ours.
        """
        if not 1 <= wanted.limit <= 100:
            msg = "limit must be from 1 to 100."
            raise InvalidArgumentError(msg)
        # Planned for these values: which index serves best depends on how few jobs a filter leaves.
        cursor = await conn.execute(*self.lists.compiled(wanted), prepare=False)
        found = [job_from_row(row) for row in await cursor.fetchall()]
        return JobPage(
            *page_of(
                found,
                lambda job: (job.created_at, job.id),
                limit=wanted.limit,
                after=wanted.after,
                before=wanted.before,
            )
        )

    async def list_ids(self, conn: Connection, wanted: JobFilter) -> IdPage:
        """Return one page of ids, of any length; `JobFilter.before` does not count."""
        cursor = await conn.execute(*self.lists.compiled(wanted, ids_only=True), prepare=False)
        rows = await cursor.fetchall()
        more, rows = len(rows) > wanted.limit, rows[: wanted.limit]
        ids = tuple(row["id"] for row in rows)
        return IdPage(ids, cursor_at(rows[-1]["created_at"], ids[-1]) if more else None)

    async def events_of(self, conn: Connection, job_ids: Sequence[UUID]) -> dict[UUID, list[JobEvent]]:
        """Return the histories of jobs, oldest first; a job without one is left out."""
        rows = await fetch(
            conn,
            self._schema,
            """SELECT job_id, at, epoch, kind, actor, detail FROM {s}.job_events WHERE job_id = ANY(%(ids)s)
            ORDER BY id""",
            {"ids": list(job_ids)},
        )
        found: dict[UUID, list[JobEvent]] = {}
        for row in rows:
            found.setdefault(row.pop("job_id"), []).append(JobEvent(**row))
        return found

    async def events(self, conn: Connection, job_id: UUID) -> list[JobEvent]:
        """Return the history of a job, oldest first. A job that just ran has none."""
        rows = await fetch(
            conn,
            self._schema,
            "SELECT at, epoch, kind, actor, detail FROM {s}.job_events WHERE job_id = %(id)s ORDER BY id",
            {"id": job_id},
        )
        return [JobEvent(**row) for row in rows]
