"""Every read for the API, the CLI and the dashboard."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Table,
    Text,
    and_,
    cast,
    null,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from adapter.domain.errors import InvalidArgumentError
from adapter.domain.job import OPEN, TERMINAL, Job, JobStatus, executor_name
from adapter.store.database import Connection, Schema, fetch
from adapter.store.rows import job_from_row
from adapter.store.tables import metadata_for

_DIALECT = PGDialect_psycopg()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a list shows. Several values of one field: any of them; several fields: all of them.

    ``after`` and ``before`` are cursors of a `JobPage`; ``before`` wins.
    """

    statuses: tuple[JobStatus, ...] = ()
    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    executors: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    tag: str | None = None
    user_id: str | None = None
    schedule_id: UUID | None = None
    batch_id: UUID | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
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
        tables = metadata_for(schema.name).tables
        self._open = tables[f"{schema.name}.worker_jobs_open"]
        self._finished = tables[f"{schema.name}.worker_jobs_finished"]

    async def list_jobs(self, conn: Connection, wanted: JobFilter) -> JobPage:
        """Return one page of jobs, newest first.

        Raises:
            InvalidArgumentError: the limit is not 1 to 100, or a cursor is none of ours.
        """
        if not 1 <= wanted.limit <= 100:
            msg = "limit must be from 1 to 100."
            raise InvalidArgumentError(msg)
        statement = self.list_statement(wanted)
        compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        cursor = await conn.execute(str(compiled).encode(), compiled.params)
        rows = [job_from_row(row) for row in await cursor.fetchall()]
        more = len(rows) > wanted.limit
        rows = rows[: wanted.limit]
        backward = wanted.before is not None
        if backward:
            rows.reverse()
        has_next = more if not backward else True
        has_previous = (wanted.after is not None) if not backward else more
        return JobPage(
            tuple(rows),
            _cursor(rows[-1]) if rows and has_next else None,
            _cursor(rows[0]) if rows and has_previous else None,
        )

    def list_statement(self, wanted: JobFilter) -> Select[Any]:
        """Return the statement behind `list_jobs`: each table gives its own newest, then they are merged."""
        parts: list[Select[Any]] = []
        statuses = set(wanted.statuses)
        for table, has in ((self._open, OPEN), (self._finished, TERMINAL)):
            if not statuses or statuses & has:
                parts.append(self._part(table, wanted, statuses & has))
        merged = union_all(*(part.subquery().select() for part in parts)).subquery("jobs")
        order = (merged.c.created_at, merged.c.id)
        ordered = order if wanted.before is not None else tuple(column.desc() for column in order)
        return select(merged).order_by(*ordered).limit(wanted.limit + 1)

    def _part(self, table: Table, wanted: JobFilter, statuses: set[JobStatus]) -> Select[Any]:
        c = table.c
        conditions: list[ColumnElement[bool]] = []
        if statuses:
            conditions.append(c.status.in_(sorted(statuses)))
        for column, values in (
            ("type", wanted.types),
            ("executor", tuple(executor_name(name) for name in wanted.executors)),
            ("queue", wanted.queues),
        ):
            if values:
                conditions.append(c[column].in_(values))
        if wanted.tags:
            conditions += [c.tags.is_not(None), c.tags.op("&&")(cast(list(wanted.tags), ARRAY(Text)))]
        for column in ("tag", "user_id", "schedule_id", "batch_id"):
            value = getattr(wanted, column)
            if value is not None:
                conditions.append(c[column] == value)
        if wanted.created_from is not None:
            conditions.append(c.created_at >= wanted.created_from)
        if wanted.created_to is not None:
            conditions.append(c.created_at <= wanted.created_to)
        place = tuple_(c.created_at, c.id)
        backward = wanted.before is not None
        cursor = wanted.before or wanted.after
        if cursor is not None:
            at = tuple_(*_place(cursor))
            conditions.append(place > at if backward else place < at)
        order = (c.created_at, c.id) if backward else (c.created_at.desc(), c.id.desc())
        statement: Select[Any] = select()
        return (
            statement.add_columns(*self._columns(table))
            .where(and_(true(), *conditions))
            .order_by(*order)
            .limit(wanted.limit + 1)
        )

    def _columns(self, table: Table) -> list[Any]:
        shared = [column.name for column in self._finished.c if column.name in self._open.c]
        only = ("waiting_for", "finished", "success", "result", "remove_at")
        columns: list[Any] = [table.c[name] for name in shared]
        for name in only:
            kind = (self._open.c if name in self._open.c else self._finished.c)[name].type
            columns.append(table.c[name] if name in table.c else null().cast(kind).label(name))
        return columns

    async def events(self, conn: Connection, job_id: UUID) -> list[JobEvent]:
        """Return the history of a job, oldest first. A job that just ran has none."""
        rows = await fetch(
            conn,
            self._schema,
            "SELECT at, epoch, kind, actor, detail FROM {s}.job_events WHERE job_id = %(id)s ORDER BY id",
            {"id": job_id},
        )
        return [JobEvent(**row) for row in rows]


def _cursor(job: Job) -> str:
    return base64.urlsafe_b64encode(f"{job.created_at.isoformat()}|{job.id}".encode()).decode()


def _place(cursor: str) -> tuple[datetime, UUID]:
    try:
        at, _, job_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition("|")
        return datetime.fromisoformat(at), UUID(job_id)
    except (ValueError, binascii.Error) as error:
        msg = "This cursor is none of ours."
        raise InvalidArgumentError(msg) from error
