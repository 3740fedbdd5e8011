"""Migrations: up, down, at once from everywhere, beside other people's tables, and compared with the code."""

import functools
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql

from adapter import Adapter, Settings
from adapter.domain.errors import SchemaError
from adapter.store import migrate
from tests.rig import rigged


def names(url: str, schema: str) -> set[str]:
    with psycopg.connect(url) as conn:
        rows = conn.execute("SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)", [schema])
        return {str(name) for (name,) in rows}


def test_up_and_down_and_up_again(empty_database: str) -> None:
    assert migrate.current(empty_database) is None
    assert migrate.check(empty_database) == [f"the schema is at nothing, this version needs {migrate.head()}"]
    assert migrate.upgrade(empty_database) == migrate.head()
    assert migrate.current(empty_database) == migrate.head()
    assert migrate.check(empty_database) == []
    before = names(empty_database, "adapter")
    migrate.downgrade(empty_database, "base")
    assert names(empty_database, "adapter") <= {"alembic_version", "alembic_version_pkc"}
    with psycopg.connect(empty_database) as conn:
        functions = conn.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = to_regnamespace('adapter')"
        ).fetchall()
        assert functions == []
    migrate.upgrade(empty_database)
    assert names(empty_database, "adapter") == before


def test_upgrading_twice_changes_nothing(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    with psycopg.connect(empty_database) as conn:
        conn.execute("UPDATE adapter.flags_state SET version = 7")
    migrate.upgrade(empty_database)
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT version FROM adapter.flags_state").fetchall() == [(7,)]


def test_who_may_call_the_sql_function_stays_as_it_was(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    migrate.downgrade(empty_database, "0003")
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute("REVOKE ALL ON FUNCTION adapter.schedule_job FROM PUBLIC")
        conn.execute("GRANT EXECUTE ON FUNCTION adapter.schedule_job TO pg_monitor")
    rights = (
        "SELECT rolname FROM pg_roles WHERE rolname IN ('pg_monitor', 'pg_signal_backend')"
        " AND has_function_privilege(oid, 'adapter.schedule_job'::regproc::oid, 'EXECUTE')"
    )
    for step in (migrate.upgrade, functools.partial(migrate.downgrade, revision="0003")):
        step(empty_database)
        with psycopg.connect(empty_database) as conn:
            assert conn.execute(rights).fetchall() == [("pg_monitor",)]


def test_other_peoples_tables_of_the_same_names_are_left_alone(empty_database: str) -> None:
    with psycopg.connect(empty_database) as conn:
        conn.execute("CREATE TABLE public.worker_jobs (id int PRIMARY KEY, mine text)")
        conn.execute("INSERT INTO public.worker_jobs VALUES (1, 'x')")
        conn.execute("CREATE TABLE public.alembic_version (version_num varchar(32) PRIMARY KEY)")
        conn.execute("INSERT INTO public.alembic_version VALUES ('theirs')")
    migrate.upgrade(empty_database)
    assert migrate.check(empty_database) == []
    migrate.downgrade(empty_database, "base")
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT * FROM public.worker_jobs").fetchall() == [(1, "x")]
        assert conn.execute("SELECT * FROM public.alembic_version").fetchall() == [("theirs",)]


async def test_a_schema_of_another_name_works_though_it_is_the_users_default(empty_database: str) -> None:
    with psycopg.connect(empty_database) as conn:
        database = conn.info.dbname
        conn.execute(
            sql.SQL("ALTER DATABASE {} SET search_path = jobs_2, public").format(sql.Identifier(database))
        )
    migrate.upgrade(empty_database, schema="jobs_2")
    assert migrate.check(empty_database, schema="jobs_2") == []
    assert migrate.current(empty_database) is None
    async with rigged(empty_database, database_schema="jobs_2") as rig:
        job = await rig.adapter.schedule_job("echo", 1)
        await rig.work()
        assert await rig.status(job.id) == "COMPLETED"
    migrate.upgrade(empty_database)
    assert migrate.check(empty_database) == []


@pytest.mark.parametrize("name", ["", "Jobs", 'a"b', "a-b", "1a", "a" * 52, "pg catalog"])
def test_a_name_that_no_schema_should_have_is_refused(database_url: str, name: str) -> None:
    with pytest.raises(SchemaError):
        migrate.upgrade(database_url, schema=name)


@pytest.mark.timeout(120)
def test_fifty_at_once_migrate_once(empty_database: str) -> None:
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(migrate.upgrade, [empty_database] * 50))
    assert set(found) == {migrate.head()}
    assert migrate.check(empty_database) == []


@pytest.mark.timeout(120)
def test_processes_at_once_migrate_once(empty_database: str) -> None:
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(migrate.upgrade, [empty_database] * 6))
    assert set(found) == {migrate.head()}
    assert migrate.check(empty_database) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("ALTER TABLE adapter.worker_jobs_open DROP COLUMN recall_to", "recall_to"),
        ("ALTER TABLE adapter.job_keys ALTER COLUMN expires_at DROP NOT NULL", "expires_at"),
        ("DROP INDEX adapter.worker_jobs_open_claim", "worker_jobs_open_claim"),
        ("DROP TABLE adapter.packets", "packets"),
        ("ALTER TABLE adapter.workers ADD COLUMN extra int", "extra"),
    ],
)
def test_check_notices(make_database: Callable[[], str], change: str, named: str) -> None:
    url = make_database()
    migrate.upgrade(url)
    with psycopg.connect(url) as conn:
        conn.execute(change.encode())
    differences = migrate.check(url)
    assert any(named in each for each in differences), differences


def test_a_database_that_cannot_be_reached_is_our_error() -> None:
    with pytest.raises(SchemaError) as caught:
        migrate.upgrade("postgresql://someone:secret-word@127.0.0.1:1/nothing")
    assert "secret-word" not in str(caught.value)


async def test_opening_without_a_schema_or_with_an_old_one_says_what_to_do(empty_database: str) -> None:
    adapter = Adapter(Settings.from_env({"DATABASE_URL": empty_database}))
    with pytest.raises(SchemaError, match="adapter db upgrade"):
        await adapter.open()
    migrate.upgrade(empty_database)
    with psycopg.connect(empty_database) as conn:
        conn.execute("UPDATE adapter.alembic_version SET version_num = '0000'")
    with pytest.raises(SchemaError, match="at 0000"):
        await adapter.open()
    with psycopg.connect(empty_database) as conn:
        conn.execute("UPDATE adapter.alembic_version SET version_num = '9999'")
    # A newer schema is what a rolling update looks like from the old version.
    async with adapter:
        assert await adapter.probe() == {}
