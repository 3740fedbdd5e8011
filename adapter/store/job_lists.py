"""The statement behind every list of jobs: each table gives its own newest, then they are merged.

The order is that of the ids, which both tables have an index of; a filter that leaves few jobs has its own.

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
    case,
    cast,
    false,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from adapter.domain.job import OPEN, TERMINAL, JobStatus, executor_name
from adapter.domain.shadow import SHADOW_OF
from adapter.domain.task import DEFAULT_QUEUE
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
        self._bulk = tables[f"{schema.name}.bulk_action_jobs"]

    def compiled(self, wanted: JobFilter, *, ids_only: bool = False) -> tuple[bytes, dict[str, Any]]:
        """Return the statement as psycopg takes it, and its parameters."""
        statement = self.statement(wanted, ids_only=ids_only)
        compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        return str(compiled).encode(), dict(compiled.params)

    def statement(self, wanted: JobFilter, *, ids_only: bool = False) -> Select[Any]:
        """Return the statement of one page, with one row more than it shows."""
        parts: list[Select[Any]] = []
        statuses = set(wanted.statuses)
        for table, has in ((self._open, OPEN), (self._finished, TERMINAL)):
            if not statuses or statuses & has:
                parts.append(self._part(table, wanted, statuses & has))
        merged = union_all(*(part.subquery().select() for part in parts)).subquery("jobs")
        order = merged.c.id if wanted.before is not None else merged.c.id.desc()
        shown = [merged.c.id, merged.c.created_at] if ids_only else [*merged.c]
        statement: Select[Any] = select()
        return statement.add_columns(*shown).order_by(order).limit(wanted.limit + 1)

    def _part(self, table: Table, wanted: JobFilter, statuses: set[JobStatus]) -> Select[Any]:
        c = table.c
        conditions = [
            *self._statuses(table, wanted, statuses),
            *self._of_caller(table, wanted),
            *_asked(table, wanted),
        ]
        if wanted.created_from is not None:
            conditions.append(c.created_at >= wanted.created_from)
        if wanted.created_to is not None:
            conditions.append(c.created_at <= wanted.created_to)
        backward = wanted.before is not None
        cursor = wanted.before or wanted.after
        if cursor is not None:
            _, at = place_of(cursor)
            conditions.append(c.id > at if backward else c.id < at)
        statement: Select[Any] = select()
        return (
            statement.add_columns(*self._columns(table))
            .where(and_(true(), *conditions))
            .order_by(c.id if backward else c.id.desc())
            .limit(wanted.limit + 1)
        )

    def _statuses(
        self, table: Table, wanted: JobFilter, statuses: set[JobStatus]
    ) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        if statuses:
            conditions.append(table.c.status.in_(sorted(statuses)))
        if statuses and table is self._finished and JobStatus.COMPLETED not in statuses:
            # What the index of these says of itself.
            conditions.append(not_(table.c.success))
        if wanted.waits and table is self._open:
            c = table.c
            # One that has started does not wait for a worker: it is its remote that waits.
            waits = case(
                (and_(c.waiting_for == "executor", c.started.is_not(None)), "remote"), else_=c.waiting_for
            )
            conditions.append(or_(c.status != "WAITING", waits.in_(wanted.waits)))
        return conditions

    def _of_caller(self, table: Table, wanted: JobFilter) -> list[ColumnElement[bool]]:
        c = table.c
        conditions: list[ColumnElement[bool]] = []
        for column, values in (
            ("type", wanted.types),
            ("executor", tuple(executor_name(name) for name in wanted.executors)),
        ):
            if values:
                conditions.append(c[column].in_(values))
        queues = {*wanted.queues, *(queue for _, queue in wanted.task_queues)}
        if queues:
            own = [and_(c.type == task, c.queue == queue) for task, queue in wanted.task_queues]
            conditions.append(or_(c.queue.in_(wanted.queues), *own))
        if queues and DEFAULT_QUEUE not in queues:
            # Most jobs are in that one, so the index of the others leaves it out.
            conditions.append(c.queue != literal_column(f"'{DEFAULT_QUEUE}'"))
        if wanted.tags:
            conditions += [c.tags.is_not(None), c.tags.op("&&")(cast(list(wanted.tags), ARRAY(Text)))]
        for column in ("tag", "user_id", "schedule_id", "batch_id", "parent_id", "root_id"):
            value = getattr(wanted, column)
            if value is not None:
                conditions.append(c[column] == value)
        if wanted.bulk_action_id is not None:
            bulk = self._bulk.c
            shown = select(func.coalesce(bulk.new_job_id, bulk.job_id)).where(
                bulk.bulk_action_id == wanted.bulk_action_id, bulk.outcome == "done"
            )
            conditions.append(c.id.in_(shown))
        if not wanted.shadows:
            conditions.append(or_(c.extra.is_(None), not_(c.extra.has_key(SHADOW_OF))))
        return conditions

    def _columns(self, table: Table) -> list[Any]:
        shared = [column.name for column in self._finished.c if column.name in self._open.c]
        only = ("waiting_for", "finished", "success", "result")
        columns: list[Any] = [table.c[name] for name in shared]
        for name in only:
            kind = (self._open.c if name in self._open.c else self._finished.c)[name].type
            columns.append(table.c[name] if name in table.c else null().cast(kind).label(name))
        return columns


def _asked(table: Table, wanted: JobFilter) -> list[ColumnElement[bool]]:
    """What a caller asked for that only lists and people look at; each has an index where jobs have it."""

    def fact(name: str) -> ColumnElement[Any]:
        # Spelled as the indexes spell it.
        return table.c.extra.op("->>", return_type=Text())(literal_column(f"'{name}'"))

    conditions: list[ColumnElement[bool]] = [
        fact(name).in_(values)
        for name, values in (
            ("machine", wanted.machines),
            ("region", wanted.regions),
            ("version", wanted.versions),
        )
        if values
    ]
    if wanted.is_test is not None:
        test = fact("test") == literal_column("'true'")
        conditions.append(test if wanted.is_test else func.coalesce(test, false()).is_(false()))
    return conditions
