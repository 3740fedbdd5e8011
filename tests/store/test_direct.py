"""Statements past the cursors: what comes back, what goes wrong, and what the connection is good for afterwards."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from adapter.domain.clock import SystemClock
from adapter.store import direct
from adapter.store.database import Database, DatabaseConfig
from adapter.store.wakeup import Listener, Notifier
from tests.kit import SCHEMA


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseConfig(database_url, schema=SCHEMA))
    await database.open()
    yield database
    await database.close()


async def test_values_of_every_kind_come_back_as_they_went(database: Database) -> None:
    at = UUID(int=7)
    statement = (
        "SELECT %(text)s::text AS said, %(number)s::int, %(id)s::uuid, %(none)s::text, %(texts)s::text[],"
        " %(numbers)s::bigint[], 7 %% 4 AS rest, %(text)s::text = 'é\"\\%%' AS again"
    )
    given: dict[str, Any] = {"text": 'é"\\%', "number": -3, "id": at, "none": None}
    given |= {"texts": ["a,b", '"', None, ""], "numbers": [1, 2]}
    async with database.connection() as conn:
        for _ in range(3):
            assert await conn.rows(statement, given) == [
                ('é"\\%', -3, at, None, ["a,b", '"', None, ""], [1, 2], 3, True)
            ]
        assert (await conn.mappings(statement, given))[0]["said"] == 'é"\\%'
        assert (await conn.run("SELECT generate_series(1, %(n)s::int)", {"n": 5})).command_tuples == 5


async def test_more_than_the_socket_takes_at_once_gets_there(database: Database) -> None:
    async with database.connection() as conn:
        text = "x" * 20_000_000
        assert await conn.rows("SELECT length(%(text)s::text)", {"text": text}) == [(len(text),)]


async def test_an_error_leaves_the_connection_as_good_as_before(database: Database) -> None:
    async with database.connection() as conn:
        for _ in range(2):
            with pytest.raises(psycopg.errors.DivisionByZero):
                await conn.run("SELECT 1 / %(zero)s::int", {"zero": 0})
        assert await conn.rows("SELECT 1 / %(zero)s::int", {"zero": 1}) == [(1,)]
        with pytest.raises(psycopg.errors.SyntaxError):
            await conn.run("SELEKT 1", {})
        assert await conn.rows("SELECT 1", {}) == [(1,)]


@pytest.mark.parametrize("value", ["a\x00b", ["a", "a\x00b"]])
async def test_no_text_is_cut_off_where_it_holds_a_nul(database: Database, value: Any) -> None:
    async with database.connection() as conn:
        with pytest.raises(psycopg.DataError):
            await conn.run("SELECT %(value)s", {"value": value})
        assert await conn.rows("SELECT 1", {}) == [(1,)]


async def test_what_psycopg_deallocates_after_a_rollback_is_prepared_again(database: Database) -> None:
    async with database.connection() as conn:
        assert await conn.rows("SELECT 1", {}) == [(1,)]
        for _ in range(10):
            await conn.execute("SELECT 2", prepare=True)
        async with conn.transaction(force_rollback=True):
            await conn.execute("SELECT 2")
            assert await conn.rows("SELECT 1", {}) == [(1,)]
        await conn.execute("SELECT 2")
        left = await conn.execute(
            "SELECT count(*) AS n FROM pg_prepared_statements WHERE name LIKE 'direct%%'"
        )
        assert await left.fetchone() == {"n": 0}, "psycopg has changed, and this is not needed any more"
        async with conn.transaction():
            assert await conn.rows("SELECT 1", {}) == [(1,)]
        for _ in range(2):
            assert await conn.rows("SELECT 1", {}) == [(1,)]


async def test_what_only_the_commit_refuses_is_an_error(database: Database) -> None:
    async with database.connection() as conn:
        await conn.execute(
            "CREATE TEMP TABLE strict (n int, CONSTRAINT once UNIQUE (n) DEFERRABLE INITIALLY DEFERRED)"
        )
        statement = "INSERT INTO strict SELECT %(n)s FROM generate_series(1, %(count)s::int) RETURNING n"
        assert await conn.rows(statement, {"n": 1, "count": 1}) == [(1,)]
        with pytest.raises(psycopg.errors.UniqueViolation):
            await conn.rows(statement, {"n": 2, "count": 2})
        assert await conn.rows("SELECT n FROM strict", {}) == [(1,)]


@pytest.mark.direct("prepared statements of the session")
async def test_statements_that_are_not_used_any_more_are_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "_MOST_PREPARED", 2)
    async with database.connection() as conn:
        for _ in range(2):
            for statement in ("SELECT 1", "SELECT 2", "SELECT 3"):
                assert await conn.rows(statement, {}) == [(int(statement[-1]),)]
        kept = await conn.execute("SELECT statement FROM pg_prepared_statements WHERE name LIKE 'direct%'")
        assert [row["statement"] for row in await kept.fetchall()] == ["SELECT 2", "SELECT 3"]


async def test_who_is_canceled_leaves_no_half_statement_behind(database: Database) -> None:
    async with database.connection() as conn:
        pid = conn.info.backend_pid
    with pytest.raises(TimeoutError):
        async with database.connection() as conn, asyncio.timeout(0.01):
            await conn.run("SELECT pg_sleep(5)", {})
    assert conn.closed
    async with database.connection() as conn:
        assert conn.info.backend_pid != pid
        assert await conn.rows("SELECT 1", {}) == [(1,)]


@pytest.mark.direct("it listens")
async def test_a_process_hears_others_and_not_itself(database: Database) -> None:
    clock = SystemClock()
    ours, theirs = Notifier(database, clock), Notifier(database, clock)
    heard: asyncio.Queue[set[str]] = asyncio.Queue()
    listener = Listener(database, clock, heard.put_nowait, ours)
    told: list[set[str]] = []
    ours.subscribe(told.append)
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(listener.run())
        assert await heard.get() == {"*"}
        ours.poke("mine")
        await ours.drain()
        theirs.poke("a", "b")
        await theirs.drain()
        assert (await heard.get(), told) == ({"a", "b"}, [{"mine"}])
        # The connection is cut: it comes back, and looks at everything once.
        with psycopg.connect(database.config.url, autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE '% listen'"
            )
        assert await heard.get() == {"*"}
        listening.cancel()
