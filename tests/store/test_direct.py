"""Statements past the cursors: what comes back, what goes wrong, and what the connection is good for afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.pq import PGnotify

from adapter.domain.clock import SystemClock
from adapter.store import direct
from adapter.store.database import Database, DatabaseConfig
from adapter.store.listener import Listener
from adapter.store.wakeup import WHO_WATCHES, Notifier, notification
from tests.kit import SCHEMA, eventually


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
        assert (await heard.get(), told) == ({"a", "b"}, [{WHO_WATCHES}, {"mine"}])
        # The connection is cut: it comes back, and looks at everything once.
        with psycopg.connect(database.config.url, autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE '% listen'"
            )
        assert await heard.get() == {"*"}
        listening.cancel()
    # It has asked who watches, perhaps on a connection that is still being made.
    await ours.drain()


@pytest.mark.direct("prepared statements of the session")
async def test_what_is_sent_behind_a_statement_has_its_own_commit_and_keeps_nobody_waiting(
    database: Database,
) -> None:
    with psycopg.connect(database.config.url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(38)")
        async with database.connection() as conn:
            first = await conn.mappings(
                "SELECT pg_current_xact_id()::text AS xid", {}, behind=("SELECT pg_advisory_lock(38)", {})
            )
            assert conn.is_settling
            assert first
        # Who comes next gets another connection, and this one is back once it has settled.
        async with database.connection() as next_one:
            assert next_one is not conn
            other.execute("SELECT pg_advisory_unlock(38)")
            await eventually(lambda: not conn.is_settling)
            async with database.connection() as settled:
                assert settled is conn
                held = "SELECT pg_advisory_unlock(38) AS held"
                assert await conn.rows(held, {}) == [(True,)]
                assert await (await conn.execute(held)).fetchone() == {"held": False}


@pytest.mark.direct("prepared statements of the session")
async def test_neither_of_two_statements_harms_the_other(database: Database) -> None:
    division, lock = "SELECT 1 / %(by)s::int AS one", "SELECT pg_advisory_lock(39 / %(by)s::int)"
    async with database.connection() as conn:
        for by, by_behind in ((1, 0), (0, 1), (1, 1)):
            if by:
                assert await conn.mappings(division, {"by": by}, behind=(lock, {"by": by_behind})) == [
                    {"one": 1}
                ]
            else:
                with pytest.raises(psycopg.errors.DivisionByZero):
                    await conn.run_before(division, {"by": by}, (lock, {"by": by_behind}))
            await eventually(lambda: not conn.is_settling)
            released = await conn.rows("SELECT pg_advisory_unlock(39)", {})
            assert released == [(by_behind == 1,)], "what is behind runs whatever becomes of the first"
        # What the session has forgotten is prepared again, both of it.
        await conn.execute("DEALLOCATE ALL")
        assert await conn.mappings(division, {"by": 1}, behind=(lock, {"by": 1})) == [{"one": 1}]
        await eventually(lambda: not conn.is_settling)
        assert await conn.rows("SELECT pg_advisory_unlock(39)", {}) == [(True,)]


@pytest.mark.direct("prepared statements of the session")
async def test_a_connection_that_is_lost_while_it_settles_is_not_lent_again(database: Database) -> None:
    with psycopg.connect(database.config.url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(40)")
        async with database.connection() as conn:
            await conn.run_before("SELECT 1", {}, ("SELECT pg_advisory_lock(40)", {}))
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [conn.pgconn.backend_pid])
        await eventually(lambda: conn.closed)
        assert await database.fetch("SELECT 1 AS one") == [{"one": 1}]
        # One that settles when all is closed keeps no descriptor.
        async with database.connection() as conn:
            await conn.run_before("SELECT 1", {}, ("SELECT pg_advisory_lock(40)", {}))
    await database.close()
    assert conn.closed


async def test_who_takes_the_turn_to_tell_others_is_the_only_one_for_a_while(database: Database) -> None:
    notifier = Notifier(database, SystemClock())
    async with database.connection() as conn:
        turn = notifier.take_turn(conn, {"a"})
        if database.config.transaction_pooler:
            assert turn is None
            return
        assert turn is not None
        assert json.loads(str(turn[1]["payload"])) == ["a"]
        assert notifier.take_turn(conn, {"b"}) is None
        await notifier.drain()
        assert notifier.take_turn(conn, set()) is None
        with psycopg.connect(database.config.url, autocommit=True) as other:
            other.execute("SELECT pg_advisory_lock(41)")
            await conn.run_before("SELECT 1", {}, ("SELECT pg_advisory_lock(41)", {}))
            async with database.connection() as another:
                assert notifier.take_turn(another, {"b"}) is None
        await eventually(lambda: not conn.is_settling)
        assert notifier.take_turn(conn, {"c"}) is not None
        await notifier.drain()


@pytest.mark.direct("it listens")
async def test_what_a_transaction_says_over_a_connection_that_tells_for_this_process_is_heard(
    database: Database,
) -> None:
    clock = SystemClock()
    ours, theirs = Notifier(database, clock), Notifier(database, clock)
    heard: asyncio.Queue[set[str]] = asyncio.Queue()
    said = notification(database.schema, {"a"})
    async with asyncio.TaskGroup() as group, database.connection() as conn:
        listening = group.create_task(Listener(database, clock, heard.put_nowait, ours).run())
        assert await heard.get() == {"*"}
        await ours.drain()
        turn = ours.take_turn(conn, {"a"})
        assert turn is not None
        await conn.run_before("SELECT 1", {}, turn)
        await eventually(lambda: not conn.is_settling)
        theirs.poke("b")
        # Its own words have been there before these.
        assert await heard.get() == {"b"}
        async with conn.transaction():
            await conn.run(*said)
        assert await heard.get() == {"a"}
        await ours.drain()
        again = ours.take_turn(conn, {"a"})
        assert again is not None
        await ours.drain()
        own = PGnotify(b"", conn.pgconn.backend_pid, said[1]["payload"].encode())
        listening.cancel()
    await theirs.drain()
    await database.close()
    assert not ours.is_own(own), "the number may be another's now"
