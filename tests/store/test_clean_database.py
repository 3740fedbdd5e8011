"""The tests' own clean-up: what one test writes, no other sees."""

import psycopg
import pytest
from psycopg import sql

from tests import kit


@pytest.mark.parametrize("turn", [1, 2])
def test_a_test_starts_with_empty_tables(database_url: str, turn: int) -> None:
    with psycopg.connect(database_url, autocommit=True, options="-c search_path=adapter") as conn:
        assert conn.execute("SELECT count(*) FROM api_keys").fetchall() == [(0,)]
        conn.execute(
            "INSERT INTO api_keys SELECT (jsonb_populate_record(NULL::api_keys, jsonb_build_object("
            "'id', gen_random_uuid(), 'prefix', 'p', 'hash', '', 'scopes', '{}', 'created_at', now()))).*"
        )
        assert conn.execute("SELECT count(*) FROM api_keys").fetchall() == [(1,)]


def test_what_a_migration_wrote_stays(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True, options="-c search_path=adapter") as conn:
        swept = set(kit.children_first(conn, kit.SCHEMA))
        assert not swept & kit.SEEDED_TABLES
        for (table,) in conn.execute(
            "SELECT c.relname FROM pg_class c WHERE relnamespace = 'adapter'::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition"
        ).fetchall():
            filled = conn.execute(
                sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(table))
            ).fetchall()
            assert filled == [(table in kit.SEEDED_TABLES,)], table
