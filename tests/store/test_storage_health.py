"""What hurts a queue in time is found, by real servers that have it; and the settings that prevent it are there."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from adapter.cli import storage_checks
from adapter.cli.verdicts import Verdict
from adapter.store import migrate, storage_health
from adapter.store.database import DatabaseConfig, Schema
from adapter.store.diagnosis import connect
from adapter.store.embedded import EmbeddedPostgres
from adapter.store.storage_health import Autovacuum, Holding, Silent, TableHealth
from adapter.store.tables import metadata_for
from tests import kit
from tests.rig import Rig

HOUR = timedelta(hours=1)
MB = 1024 * 1024


@pytest.mark.parametrize(
    ("table", "verdict"),
    [
        (TableHealth("t", live=10, dead=50_001, index_bytes=0, vacuumed_ago=HOUR), "warn"),
        (TableHealth("t", live=10, dead=49_999, index_bytes=0, vacuumed_ago=None), "pass"),
        (TableHealth("t", live=100_000, dead=150_000, index_bytes=0, vacuumed_ago=HOUR), "pass"),
        (TableHealth("t", live=0, dead=10, index_bytes=300 * MB, vacuumed_ago=None), "warn"),
        (TableHealth("t", live=500_000, dead=0, index_bytes=300 * MB, vacuumed_ago=None), "pass"),
    ],
)
def test_bloat_is_many_dead_rows_or_large_indexes_for_few_rows(table: TableHealth, verdict: str) -> None:
    assert {each.verdict.value for each in storage_checks.bloat([table])} == {verdict}


def test_every_finding_says_what_to_do() -> None:
    found = [
        *storage_checks.bloat([TableHealth("t", 0, 60_000, 300 * MB, None)]),
        storage_checks.vacuuming(Autovacuum(is_on=False, off_for=[])),
        storage_checks.vacuuming(Autovacuum(is_on=True, off_for=["workers"])),
        *storage_checks.held_back([Holding("replication slot", "s", 7, None)]),
        storage_checks.silence(Silent(2, 7)),
        storage_checks.handlers({"send": 3}),
    ]
    assert all(each.verdict is not Verdict.PASS and each.advice for each in found)
    assert "send (3)" in found[-1].finding


async def test_a_table_whose_autovacuum_is_off_is_named(rig: Rig) -> None:
    async with rig.adapter.database.connection() as conn:
        assert await storage_health.autovacuum(conn, rig.schema) == Autovacuum(is_on=True, off_for=[])
        await rig.sql("ALTER TABLE {s}.workers SET (autovacuum_enabled = off)")
        try:
            assert (await storage_health.autovacuum(conn, rig.schema)).off_for == ["workers"]
        finally:
            await rig.sql("ALTER TABLE {s}.workers RESET (autovacuum_enabled)")
        assert {each.name for each in await storage_health.tables(conn, rig.schema)} == {*storage_health.HOT}


async def test_silent_workers_and_jobs_without_a_handler_are_counted(rig: Rig) -> None:
    await rig.adapter.schedule_job("remote", executor="local")
    await rig.adapter.schedule_job("echo")
    lease, _ = await rig.claim()
    await rig.sql(
        "INSERT INTO {s}.workers (id, name, host, pid, lease, seen_at) VALUES"
        " (%(id)s, 'w', 'h', 1, '30 s', now() - interval '61 s'), (gen_random_uuid(), 'w', 'h', 1, '30 s', now())",
        id=lease.worker_id,
    )
    async with rig.adapter.database.connection() as conn:
        assert await storage_health.silent(conn, rig.schema) == Silent(silent=1, jobs=1)
        assert await storage_health.unrunnable(conn, rig.schema) == {"remote": 1}


async def test_what_holds_vacuum_back_is_found(server_dir: Path) -> None:
    settings = {"max_prepared_transactions": "2"}
    with EmbeddedPostgres(
        server_dir, bin_dir=kit.own_setting("PG_BIN"), durable=False, settings=settings
    ) as server:
        migrate.upgrade(server.url())
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute("BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'left behind'")
        schema = Schema("adapter")
        async with await connect(DatabaseConfig(server.url())) as conn:
            none = await storage_health.holding(conn, schema, older_than=HOUR, xids=1000)
            (found,) = await storage_health.holding(conn, schema, older_than=timedelta(0), xids=1000)
            await conn.execute("ROLLBACK PREPARED 'left behind'")
    assert none == []
    assert (found.kind, found.name) == ("prepared transaction", "left behind")


async def test_every_table_has_the_storage_settings_it_is_declared_with(rig: Rig) -> None:
    rows = await rig.sql(
        "SELECT relname AS name, COALESCE(reloptions, ARRAY[]::text[]) AS options FROM pg_class"
        " WHERE relnamespace = to_regnamespace(%(schema)s)",
        schema=rig.schema.name,
    )
    there = {row["name"]: set(row["options"]) for row in rows}
    for table in metadata_for(rig.schema.name).tables.values():
        declared: dict[str, Any] = table.dialect_options["postgresql"]["with"] or {}
        assert there[table.name] == {f"{name}={value}" for name, value in declared.items()}, table.name


async def test_the_audit_refuses_to_be_emptied(rig: Rig) -> None:
    await rig.adapter.kill("echo", to="local", reason="r")
    for statement in (
        "TRUNCATE {s}.flag_changes",
        "DELETE FROM {s}.flag_changes",
        "UPDATE {s}.flag_changes SET actor = 'x'",
    ):
        with pytest.raises(psycopg.errors.RaiseException):
            await rig.sql(statement)
    assert await rig.value("SELECT count(*) FROM {s}.flag_changes") == 1
