"""What is lent from the pool lives, and finding that out costs no round trip."""

import psycopg
from psycopg.rows import DictRow, dict_row

from adapter.store.database import Database, DatabaseConfig


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
