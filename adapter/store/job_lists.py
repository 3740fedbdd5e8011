"""The statement behind every list of jobs: each table gives its own newest, then they are merged.

Built with SQLAlchemy, and imported by the first list: what works jobs need not load it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Table,
    Text,
    and_,
    cast,
    not_,
    null,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from adapter.domain.job import OPEN, TERMINAL, JobStatus, executor_name
from adapter.domain.shadow import SHADOW_OF
from adapter.store.cursors import place_of
from adapter.store.database import Schema
from adapter.store.insights import JobFilter
from adapter.store.tables import metadata_for

_DIALECT = PGDialect_psycopg()


class JobLists:
    """Lists over one schema."""

    def __init__(self, schema: Schema) -> None:
        tables = metadata_for(schema.name).tables
        self._open = tables[f"{schema.name}.worker_jobs_open"]
        self._finished = tables[f"{schema.name}.worker_jobs_finished"]

    def compiled(self, wanted: JobFilter) -> tuple[bytes, dict[str, Any]]:
        """Return the statement as psycopg takes it, and its parameters."""
        compiled = self.statement(wanted).compile(
            dialect=_DIALECT, compile_kwargs={"render_postcompile": True}
        )
        return str(compiled).encode(), dict(compiled.params)

    def statement(self, wanted: JobFilter) -> Select[Any]:
        """Return the statement of one page, with one row more than it shows."""
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
        for column in ("tag", "user_id", "schedule_id", "batch_id", "parent_id", "root_id"):
            value = getattr(wanted, column)
            if value is not None:
                conditions.append(c[column] == value)
        if not wanted.shadows:
            conditions.append(or_(c.extra.is_(None), not_(c.extra.has_key(SHADOW_OF))))
        if wanted.created_from is not None:
            conditions.append(c.created_at >= wanted.created_from)
        if wanted.created_to is not None:
            conditions.append(c.created_at <= wanted.created_to)
        place = tuple_(c.created_at, c.id)
        backward = wanted.before is not None
        cursor = wanted.before or wanted.after
        if cursor is not None:
            at = tuple_(*place_of(cursor))
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
        only = ("waiting_for", "finished", "success", "result")
        columns: list[Any] = [table.c[name] for name in shared]
        for name in only:
            kind = (self._open.c if name in self._open.c else self._finished.c)[name].type
            columns.append(table.c[name] if name in table.c else null().cast(kind).label(name))
        return columns
