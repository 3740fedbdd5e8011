"""What is lent from the pool lives, and finding that out costs no round trip."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from adapter.domain.errors import DatabaseUnavailableError, NotOpenError
from adapter.store import database as database_module
from adapter.store.database import Database, DatabaseConfig
from adapter.store.pool import Pooled


def _task(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


async def test_a_connection_that_was_cut_while_it_was_idle_is_not_lent(database_url: str) -> None:
    database = Database(DatabaseConfig(database_url))
    await database.open()
    with psycopg.connect(database_url, autocommit=True) as other:
        for _ in range(3):
            pid = (await database.fetch("SELECT pg_backend_pid() AS pid"))[0]["pid"]
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            assert (await database.fetch("SELECT pg_backend_pid() AS pid"))[0]["pid"] != pid
    await database.close()


async def test_a_connection_that_was_used_just_now_is_believed(database_url: str) -> None:
    database = Database(DatabaseConfig(database_url))
    await database.open()
    pid = (await database.fetch("SELECT pg_backend_pid() AS pid"))[0]["pid"]
    async with database.connection() as conn:
        assert conn.info.backend_pid == pid
        with psycopg.Connection[DictRow].connect(database_url, row_factory=dict_row) as other:
            row = other.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
    assert row == {"query": "SELECT pg_backend_pid() AS pid"}
    await database.close()


async def test_no_more_connections_than_allowed_and_who_waited_first_gets_the_next(database_url: str) -> None:
    database = Database(DatabaseConfig(database_url, pool_size=2))
    await database.open()
    served: list[int] = []

    async def use(number: int) -> int:
        async with database.connection() as conn:
            served.append(number)
            await conn.execute("SELECT pg_sleep(0.01)")
            return conn.info.backend_pid

    pids = await asyncio.gather(*(use(number) for number in range(20)))
    await database.close()
    # The first two make their connections, each in its own time; the others wait in line.
    waited = [number for number in served if number > 1]
    assert (len(set(pids)), len(served), waited) == (2, 20, list(range(2, 20)))


async def test_one_caller_after_another_uses_one_connection(database_url: str) -> None:
    database = Database(DatabaseConfig(database_url))
    await database.open()
    pids = {(await database.fetch("SELECT pg_backend_pid() AS pid"))[0]["pid"] for _ in range(5)}
    assert len(pids) == 1
    await database.close()


async def test_who_waits_too_long_is_told_and_leaves_no_hole(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_PATIENCE_S", 0.05)
    database = Database(DatabaseConfig(database_url, pool_size=1))
    await database.open()
    async with database.connection():
        with pytest.raises(DatabaseUnavailableError, match="PoolTimeoutError"):
            await database.fetch("SELECT 1")
    assert await database.fetch("SELECT 1 AS one") == [{"one": 1}]
    await database.close()


async def test_a_canceled_caller_leaves_neither_a_hole_nor_a_transaction(database_url: str) -> None:
    """Whether it waited for a connection, for an answer, or between two statements."""
    database = Database(DatabaseConfig(database_url, pool_size=1))
    await database.open()
    began = asyncio.Event()

    async def hold(statement: str) -> None:
        async with database.transaction() as conn:
            began.set()
            await conn.execute(statement.encode())
            await asyncio.Event().wait()

    for statement in ("SELECT pg_sleep(60)", "SELECT 1"):
        began.clear()
        holder = _task(hold(statement))
        await began.wait()
        waiter = _task(database.fetch("SELECT 2"))
        await asyncio.wait([waiter], timeout=0.05)
        waiter.cancel()
        holder.cancel()
        await asyncio.wait([holder, waiter])
        async with database.connection() as conn:
            assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    await database.close()


async def test_a_connection_lost_in_use_is_replaced(database_url: str) -> None:
    database = Database(DatabaseConfig(database_url, pool_size=1))
    await database.open()
    for _ in range(3):
        with pytest.raises(DatabaseUnavailableError):
            await database.fetch("SELECT pg_terminate_backend(pg_backend_pid(), 5000)")
        assert await database.fetch("SELECT 1 AS one") == [{"one": 1}]
    await database.close()


async def test_closing_ends_waits_and_takes_back_what_is_lent(database_url: str) -> None:
    database = Database(DatabaseConfig(database_url, pool_size=1))
    await database.open()
    async with database.connection() as conn:
        waiter = _task(database.fetch("SELECT 1"))
        await asyncio.wait([waiter], timeout=0.05)
        await database.close()
        with pytest.raises(DatabaseUnavailableError, match="PoolClosedError"):
            await waiter
        await conn.execute("SELECT 1")
    assert conn.closed
    with pytest.raises(NotOpenError):
        await database.fetch("SELECT 1")


async def test_a_server_that_is_away_for_a_moment_is_waited_for(database_url: str) -> None:
    database = Database(DatabaseConfig(database_url))
    refused = 3

    async def connect() -> Pooled:
        nonlocal refused
        if refused:
            refused -= 1
            raise psycopg.OperationalError("refused")
        return await real()

    real = database._pooled
    database._pooled = connect
    await database.open()
    assert await database.fetch("SELECT 1 AS one") == [{"one": 1}]
    assert refused == 0
    await database.close()
