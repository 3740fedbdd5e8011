"""Statements written once and carried out by whoever holds the connection.

A *steps* function is a generator: it yields a `Statement` or a `Savepoint`, receives rows, and returns
its result. `run` drives it on our own connection, `run_within` on the caller's: psycopg or SQLAlchemy,
async or sync. So there is no second copy of the scheduling code for code without an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, LiteralString, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import Connection as SqlalchemyConnection
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection as AsyncSqlalchemyConnection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from adapter.domain.errors import InvalidArgumentError
from adapter.store.database import Connection, Schema

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

#: What is to be called when a session or connection commits. Listened to for as long as it lives.
_AFTER_COMMIT: WeakKeyDictionary[Session | SqlalchemyConnection, list[Callable[[], object]]] = (
    WeakKeyDictionary()
)

#: A connection or session of the caller, whose transaction our rows join.
AsyncCaller: TypeAlias = "psycopg.AsyncConnection[Any] | AsyncSession | AsyncSqlalchemyConnection"
SyncCaller: TypeAlias = "psycopg.Connection[Any] | Session | SqlalchemyConnection"


def _text(schema: Schema, step: Statement | Savepoint) -> tuple[LiteralString, Mapping[str, Any] | None]:
    if isinstance(step, Savepoint):
        return _SAVEPOINT[step], None
    return schema.sql(step.template), step.parameters


async def run(conn: Connection, schema: Schema, steps: Steps[T]) -> T:
    """Carry the steps out on one of our connections. Savepoints need an open transaction."""
    return await _drive_psycopg(conn, schema, steps)


async def run_within(caller: AsyncCaller, schema: Schema, steps: Steps[T]) -> T:
    """Carry the steps out in the caller's transaction; it commits or rolls back with the caller's data."""
    if isinstance(caller, psycopg.AsyncConnection):
        _refuse_autocommit(caller)
        return await _drive_psycopg(caller, schema, steps)
    _check_kind(caller, AsyncSession, AsyncSqlalchemyConnection)
    conn = await caller.connection() if isinstance(caller, AsyncSession) else caller
    _check_driver(conn.dialect.driver)
    _refuse_autocommit((await conn.get_raw_connection()).driver_connection)
    rows: Sequence[Row] = ()
    try:
        step = next(steps)
        while True:
            text, parameters = _text(schema, step)
            result = await conn.exec_driver_sql(text, dict(parameters) if parameters is not None else None)
            rows = result.mappings().all() if result.returns_rows else ()  # pyright: ignore[reportAssignmentType]
            step = steps.send(rows)
    except StopIteration as done:
        return done.value


def run_within_sync(caller: SyncCaller, schema: Schema, steps: Steps[T]) -> T:
    """Carry the steps out in the transaction of a caller without an event loop."""
    if isinstance(caller, psycopg.Connection):
        _refuse_autocommit(caller)
    else:
        _check_kind(caller, Session, SqlalchemyConnection)
        caller = caller.connection() if isinstance(caller, Session) else caller
        _check_driver(caller.dialect.driver)
        _refuse_autocommit(caller.connection.driver_connection)
    try:
        step = next(steps)
        while True:
            text, parameters = _text(schema, step)
            step = steps.send(_execute_sync(caller, text, parameters))
    except StopIteration as done:
        return done.value


def _execute_sync(
    caller: psycopg.Connection[Any] | SqlalchemyConnection,
    text: LiteralString,
    parameters: Mapping[str, Any] | None,
) -> Sequence[Row]:
    if isinstance(caller, psycopg.Connection):
        with caller.cursor(row_factory=dict_row) as cursor:
            cursor.execute(text, parameters)
            return cursor.fetchall() if cursor.description is not None else ()
    result = caller.exec_driver_sql(text, dict(parameters) if parameters is not None else None)
    return list(result.mappings().all()) if result.returns_rows else ()  # pyright: ignore[reportReturnType]


async def _drive_psycopg(conn: psycopg.AsyncConnection[Any], schema: Schema, steps: Steps[T]) -> T:
    async with conn.cursor(row_factory=dict_row) as cursor:
        try:
            step = next(steps)
            while True:
                await cursor.execute(*_text(schema, step))
                step = steps.send(await cursor.fetchall() if cursor.description is not None else ())
        except StopIteration as done:
            return done.value


def _check_kind(caller: object, *kinds: type) -> None:
    if not isinstance(caller, kinds):
        msg = (
            "within= takes a connection of psycopg 3, or a session or connection of SQLAlchemy on it: sync with "
            f"`adapter.sync`, else async. It was given a {type(caller).__module__}.{type(caller).__name__}."
        )
        raise InvalidArgumentError(msg)


def _refuse_autocommit(conn: object) -> None:
    assert isinstance(conn, (psycopg.Connection, psycopg.AsyncConnection))
    if conn.autocommit and conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
        msg = (
            "within= was given a connection in autocommit mode outside of a transaction, so the job "
            "would not commit with your data. Open one with `async with conn.transaction():`."
        )
        raise InvalidArgumentError(msg)


def _check_driver(driver: str) -> None:
    if driver not in {"psycopg", "psycopg_async"}:
        msg = f"within= needs SQLAlchemy on psycopg 3 (postgresql+psycopg://), not on {driver}."
        raise InvalidArgumentError(msg)


def after_commit(caller: AsyncCaller | SyncCaller, then: Callable[[], object]) -> bool:
    """Call ``then()`` once after the caller's transaction has committed; False when that cannot be known.

    SQLAlchemy tells; plain psycopg has no such event. A rollback forgets it.
    """
    target: Session | SqlalchemyConnection | None = None
    if isinstance(caller, AsyncSession):
        target = caller.sync_session
    elif isinstance(caller, AsyncSqlalchemyConnection):
        target = caller.sync_connection
    elif isinstance(caller, (Session, SqlalchemyConnection)):
        target = caller
    if target is None:
        return False
    waiting = _AFTER_COMMIT.get(target)
    if waiting is None:
        # Once per session: a listener stays as long as that lives, even one that is called only once.
        waiting = _AFTER_COMMIT[target] = []
        names = ("after_commit", "after_rollback") if isinstance(target, Session) else ("commit", "rollback")
        event.listen(target, names[0], _committed)
        event.listen(target, names[1], _rolled_back)
    waiting.append(then)
    return True


def _committed(target: Session | SqlalchemyConnection) -> None:
    if isinstance(target, Session) and target.in_nested_transaction():
        # The release of a savepoint is told as a commit.
        return
    waiting = _AFTER_COMMIT.pop(target, [])
    _AFTER_COMMIT[target] = []
    for then in waiting:
        then()


def _rolled_back(target: Session | SqlalchemyConnection) -> None:
    if not (isinstance(target, Session) and target.in_nested_transaction()):
        _AFTER_COMMIT[target] = []
