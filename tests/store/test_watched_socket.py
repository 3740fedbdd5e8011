"""A connection's socket stays watched between its statements, in nobody's way and no longer than it lives."""

import asyncio
import os
import select
import selectors
from collections.abc import AsyncIterator

import psutil
import psycopg
import pytest

from adapter.store.database import Database, DatabaseConfig
from adapter.store.direct import Direct
from tests.kit import eventually, heard_next


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseConfig(database_url))
    await database.open()
    yield database
    await database.close()


async def _connect(url: str) -> Direct:
    return await Database(DatabaseConfig(url)).connect("watched")


def _cut(url: str, conn: psycopg.AsyncConnection[object]) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [conn.pgconn.backend_pid])


@pytest.mark.direct("it listens")
async def test_cursors_and_direct_statements_and_news_take_turns_on_one_connection(database_url: str) -> None:
    conn = await _connect(database_url)
    await conn.execute("LISTEN turns")
    for _ in range(3):
        assert await conn.rows("SELECT 1", {}) == [(1,)]
        cursor = await conn.execute("SELECT generate_series(1, 30000) AS n")
        assert len(await cursor.fetchall()) == 30000
        async with conn.transaction():
            assert await conn.rows("SELECT 2", {}) == [(2,)]
            await conn.execute("SELECT pg_sleep(0.001)")
        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute("NOTIFY turns, 'yours'")
        heard = await heard_next(conn)
        assert [each.extra for each in heard] == [b"yours"]
    await conn.close()


@pytest.mark.direct("it listens")
async def test_whoever_listens_hears_until_it_is_silent_or_lost_or_does_not_bear_it(
    database_url: str,
) -> None:
    conn, heard = await _connect(database_url), list[bytes]()
    await conn.execute("LISTEN news")
    with psycopg.connect(database_url, autocommit=True) as other:
        # What lies in the connection already counts as well.
        other.execute("NOTIFY news, 'before'")
        await conn.run("SELECT 1", {})
        async with asyncio.TaskGroup() as group:
            group.create_task(conn.hear(lambda all_: heard.extend(each.extra for each in all_), 0.5))
            await eventually(lambda: heard == [b"before"])
            for number in range(8):
                other.execute("SELECT pg_notify('news', %s)", [str(number)])
                await eventually(lambda: len(heard) == number + 2)  # noqa: B023 - before the next round

        def fails(_: object) -> None:
            raise ValueError("what I was told")

        other.execute("NOTIFY news, 'bad'")
        with pytest.raises(ValueError, match="what I was told"):
            await conn.hear(fails, 5)
    with pytest.raises(psycopg.OperationalError):
        await asyncio.gather(conn.hear(print, 5), asyncio.to_thread(_cut, database_url, conn))
    await conn.close()


async def test_between_statements_it_is_watched_once_and_after_the_end_not_at_all(database_url: str) -> None:
    process, before = psutil.Process(), psutil.Process().num_fds()
    for end in (Direct.close, Direct.abandon):
        conn = await _connect(database_url)
        for _ in range(3):
            await conn.run("SELECT 1", {})
        assert conn._watched is not None
        assert conn._watched._loop is asyncio.get_running_loop()
        opened = process.num_fds()
        await conn.run("SELECT 1", {})
        assert process.num_fds() == opened
        ended = end(conn)
        if ended is not None:
            await ended
        assert process.num_fds() == before


async def test_what_is_said_to_nobody_is_left_unread_and_not_watched(database: Database) -> None:
    async with database.connection() as conn:
        await conn.run("SELECT 1", {})
        watched = conn._watched
        assert watched is not None
        _cut(database.config.url, conn)
        await eventually(lambda: watched._loop is None)
        with pytest.raises(psycopg.OperationalError):
            await conn.run("SELECT 1", {})
    # It is the next borrower's no more.
    assert (await database.fetch("SELECT 1 AS one")) == [{"one": 1}]


def test_a_connection_outlives_the_loop_it_was_watched_by(database_url: str) -> None:
    with asyncio.Runner() as first:
        conn = first.run(_connect(database_url))
        assert first.run(conn.rows("SELECT 1", {})) == [(1,)]
    with asyncio.Runner() as second:
        for _ in range(2):
            assert second.run(conn.rows("SELECT 1", {})) == [(1,)]
        second.run(conn.close())


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="what a system does that forgets nothing by itself")
def test_a_loop_does_not_turn_for_a_lost_connection_that_a_forked_child_has_as_well(
    database_url: str,
) -> None:
    selector = selectors.EpollSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        conn = runner.run(_connect(database_url))
        # As good as a child's: as long as it is open, the kernel goes on telling of what was not let go of.
        inherited = os.dup(conn.pgconn.socket)
        runner.run(conn.run("SELECT 1", {}))

        async def lose() -> None:
            asleep = conn.run("SELECT pg_sleep(30)", {})
            cut = asyncio.to_thread(_cut, database_url, conn)
            results = await asyncio.gather(asleep, cut, return_exceptions=True)
            assert isinstance(results[0], psycopg.OperationalError)
            await conn.close()

        runner.run(lose())
        told = select.epoll.fromfd(os.dup(selector.fileno()))
        assert told.poll(0) == []
        told.close()
        os.close(inherited)
