"""Statements written once and carried out by whoever holds the connection.

A *steps* function is a generator: it yields a `Statement` or a `Savepoint`, receives rows, and returns
its result. `run` drives it on our own connection, `run_within` on the caller's: psycopg or SQLAlchemy,
async or sync. So there is no second copy of the scheduling code for code without an event loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, LiteralString, TypeAlias, TypeVar

import psycopg
from psycopg.rows import dict_row

from adapter.domain.errors import InvalidArgumentError
from adapter.store.database import Connection, Schema, outdated
from adapter.store.direct import Direct
from adapter.store.parameters import Given

if TYPE_CHECKING:
    from sqlalchemy import Connection as SqlalchemyConnection
    from sqlalchemy.ext.asyncio import AsyncConnection as AsyncSqlalchemyConnection
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

Row: TypeAlias = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with ``{s}`` for the schema, and its parameters."""

    template: LiteralString
    parameters: Mapping[str, Any]


class Savepoint(Enum):
    """What to do with a part of the transaction that may have to be undone."""

    SET = auto()
    UNDO = auto()
    KEEP = auto()


_SAVEPOINT: dict[Savepoint, LiteralString] = {
    Savepoint.SET: "SAVEPOINT adapter_steps",
    Savepoint.UNDO: "ROLLBACK TO SAVEPOINT adapter_steps",
    Savepoint.KEEP: "RELEASE SAVEPOINT adapter_steps",
}

Steps: TypeAlias = Generator["Statement | Savepoint", Sequence[Row], T]

#: A connection or session of the caller, whose transaction our rows join.
AsyncCaller: TypeAlias = "psycopg.AsyncConnection[Any] | AsyncSession | AsyncSqlalchemyConnection"
SyncCaller: TypeAlias = "psycopg.Connection[Any] | Session | SqlalchemyConnection"


def _text(schema: Schema, step: Statement | Savepoint) -> tuple[LiteralString, Mapping[str, Any] | None]:
    if isinstance(step, Savepoint):
        return _SAVEPOINT[step], None
    return schema.sql(step.template), step.parameters


async def run(conn: Connection, schema: Schema, steps: Steps[T]) -> T:
    """Carry the steps out on one of our connections. Savepoints need an open transaction.

    Raises:
        OutdatedPlanError: a migration has come in between.
    """
    try:
        return await _drive_psycopg(conn, schema, steps)
    except psycopg.errors.FeatureNotSupported as error:
        raise outdated(error) from error


async def run_direct(
    conn: Direct, schema: Schema, steps: Steps[T], *, behind: Callable[[], Given | None] = lambda: None
) -> T:
    """Carry out steps that take no savepoints, each in a transaction of its own and without a cursor.

    ``behind()`` is what goes right behind a statement that is to be sent now; see `Direct.run`.
    """
    try:
        step = next(steps)
        while True:
            assert isinstance(step, Statement)
            text = schema.sql(step.template)
            step = steps.send(await conn.mappings(text, step.parameters, behind=behind()))
    except StopIteration as done:
        return done.value


async def run_within(caller: AsyncCaller, schema: Schema, steps: Steps[T]) -> T:
    """Carry the steps out in the caller's transaction; it commits or rolls back with the caller's data."""
    if isinstance(caller, psycopg.AsyncConnection):
        _refuse_autocommit(caller)
        return await _drive_psycopg(caller, schema, steps)
    from adapter.store import sqlalchemy_callers as theirs  # noqa: PLC0415 - only a caller with a session needs it

    conn = await theirs.async_connection(caller)
    _refuse_autocommit((await conn.get_raw_connection()).driver_connection)
    try:
        step = next(steps)
        while True:
            step = steps.send(await theirs.execute_async(conn, *_text(schema, step)))
    except StopIteration as done:
        return done.value


def run_within_sync(caller: SyncCaller, schema: Schema, steps: Steps[T]) -> T:
    """Carry the steps out in the transaction of a caller without an event loop."""
    execute: Callable[[LiteralString, Mapping[str, Any] | None], Sequence[Row]]
    if isinstance(caller, psycopg.Connection):
        _refuse_autocommit(caller)
        execute = functools.partial(_execute, caller)
    else:
        from adapter.store import sqlalchemy_callers as theirs  # noqa: PLC0415 - only a caller with a session needs it

        conn = theirs.sync_connection(caller)
        _refuse_autocommit(conn.connection.driver_connection)
        execute = functools.partial(theirs.execute, conn)
    try:
        step = next(steps)
        while True:
            step = steps.send(execute(*_text(schema, step)))
    except StopIteration as done:
        return done.value


def _execute(
    conn: psycopg.Connection[Any], text: LiteralString, parameters: Mapping[str, Any] | None
) -> Sequence[Row]:
    with conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(text, parameters)
        return cursor.fetchall() if cursor.description is not None else ()


async def _drive_psycopg(conn: psycopg.AsyncConnection[Any], schema: Schema, steps: Steps[T]) -> T:
    async with conn.cursor(row_factory=dict_row) as cursor:
        try:
            step = next(steps)
            while True:
                await cursor.execute(*_text(schema, step))
                step = steps.send(await cursor.fetchall() if cursor.description is not None else ())
        except StopIteration as done:
            return done.value


def _refuse_autocommit(conn: object) -> None:
    assert isinstance(conn, (psycopg.Connection, psycopg.AsyncConnection))
    if conn.autocommit and conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
        msg = (
            "within= was given a connection in autocommit mode outside of a transaction, so the job "
            "would not commit with your data. Open one with `async with conn.transaction():`."
        )
        raise InvalidArgumentError(msg)


def after_commit(caller: AsyncCaller | SyncCaller, then: Callable[[], object]) -> bool:
    """Call ``then()`` once after the caller's transaction has committed; False when that cannot be known.

    SQLAlchemy tells; plain psycopg has no such event. A rollback forgets it.
    """
    if isinstance(caller, (psycopg.AsyncConnection, psycopg.Connection)):
        return False
    from adapter.store import sqlalchemy_callers as theirs  # noqa: PLC0415 - only a caller with a session needs it

    return theirs.after_commit(caller, then)
