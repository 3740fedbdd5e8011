"""Callers that hold a SQLAlchemy session or connection: their transaction, and what is done after it.

Imported for such a caller only, which has imported SQLAlchemy itself: nobody else pays for it (15 MB, 0.3 s).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, LiteralString, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from adapter.domain.errors import InvalidArgumentError

Target: TypeAlias = "Session | Connection"

#: What is to be called when a session or connection commits. Listened to for as long as it lives.
_AFTER_COMMIT: WeakKeyDictionary[Target, list[Callable[[], object]]] = WeakKeyDictionary()


def sync_connection(caller: object) -> Connection:
    """Return the connection of a caller without an event loop.

    Raises:
        InvalidArgumentError: it is none of SQLAlchemy on psycopg 3.
    """
    if not isinstance(caller, (Session, Connection)):
        raise _wrong_kind(caller)
    conn = caller.connection() if isinstance(caller, Session) else caller
    _check_driver(conn)
    return conn


async def async_connection(caller: object) -> AsyncConnection:
    """Return the connection of an async caller; raises what `sync_connection` does."""
    if not isinstance(caller, (AsyncSession, AsyncConnection)):
        raise _wrong_kind(caller)
    conn = await caller.connection() if isinstance(caller, AsyncSession) else caller
    _check_driver(conn)
    return conn


def execute(
    conn: Connection, text: LiteralString, parameters: Mapping[str, Any] | None
) -> Sequence[Mapping[str, Any]]:
    """Run one statement as it is, past SQLAlchemy's compiler, and return its rows."""
    result = conn.exec_driver_sql(text, dict(parameters) if parameters is not None else None)
    return list(result.mappings().all()) if result.returns_rows else ()  # pyright: ignore[reportReturnType]


async def execute_async(
    conn: AsyncConnection, text: LiteralString, parameters: Mapping[str, Any] | None
) -> Sequence[Mapping[str, Any]]:
    """Do what `execute` does on an async connection."""
    result = await conn.exec_driver_sql(text, dict(parameters) if parameters is not None else None)
    return list(result.mappings().all()) if result.returns_rows else ()  # pyright: ignore[reportReturnType]


def after_commit(caller: object, then: Callable[[], object]) -> bool:
    """Call ``then()`` once after the caller's transaction has committed; a rollback forgets it."""
    target: Target | None = None
    if isinstance(caller, AsyncSession):
        target = caller.sync_session
    elif isinstance(caller, AsyncConnection):
        target = caller.sync_connection
    elif isinstance(caller, (Session, Connection)):
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


def _committed(target: Target) -> None:
    if isinstance(target, Session) and target.in_nested_transaction():
        # The release of a savepoint is told as a commit.
        return
    waiting = _AFTER_COMMIT.pop(target, [])
    _AFTER_COMMIT[target] = []
    for then in waiting:
        then()


def _rolled_back(target: Target) -> None:
    if not (isinstance(target, Session) and target.in_nested_transaction()):
        _AFTER_COMMIT[target] = []


def _wrong_kind(caller: object) -> InvalidArgumentError:
    return InvalidArgumentError(
        "within= takes a connection of psycopg 3, or a session or connection of SQLAlchemy on it: sync with "
        f"`adapter.sync`, else async. It was given a {type(caller).__module__}.{type(caller).__name__}."
    )


def _check_driver(conn: Connection | AsyncConnection) -> None:
    driver = conn.dialect.driver
    if driver not in {"psycopg", "psycopg_async"}:
        msg = f"within= needs SQLAlchemy on psycopg 3 (postgresql+psycopg://), not on {driver}."
        raise InvalidArgumentError(msg)
