"""What our connections promise whatever the server's defaults are, and what they leave behind."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from adapter.domain.outcome import Lease
from adapter.store import claims, limited_claims, migrate, outbox, retention
from adapter.store.database import Database, DatabaseConfig
from tests.rig import new_id, rigged


def _set_default(url: str, name: str, value: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        database = conn.info.dbname
        conn.execute(
            sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                sql.Identifier(database), sql.Identifier(name), sql.Literal(value)
            )
        )


@pytest.mark.parametrize("pooler", ["none", "transaction"])
async def test_a_queue_s_limit_holds_where_the_database_s_default_is_repeatable_read(
    empty_database: str, pooler: str
) -> None:
    """There the count after the lock would see what was before the lock."""
    migrate.upgrade(empty_database)
    _set_default(empty_database, "default_transaction_isolation", "repeatable read")
    async with rigged(empty_database, database_pooler=pooler) as rig:
        await rig.sql(
            "INSERT INTO {s}.job_queues (name, declared) VALUES ('default', '{\"concurrency_limit\": 1}')"
            " ON CONFLICT (name) DO UPDATE SET declared = EXCLUDED.declared"
        )
        for n in range(4):
            await rig.adapter.schedule_job("echo", n)
        async with rig.adapter.database.transaction() as conn:
            level = await (await conn.execute("SHOW transaction_isolation")).fetchall()
            assert level == [{"transaction_isolation": "read committed"}]
            # Between the lock and the count another worker's claim is committed.
            await limited_claims.fetch(conn, rig.schema, limited_claims._LOCK_QUEUES, {"queues": ["none"]})
            async with rig.adapter.database.connection() as other:
                first = await limited_claims.claim_limited(
                    other, rig.schema, Lease(new_id(), 1), ["default"], 5
                )
            second = await limited_claims.claim_limited(conn, rig.schema, Lease(new_id(), 1), ["default"], 5)
        assert (len(first), len(second)) == (1, 0)


@pytest.mark.parametrize("what", ["claim", "limited", "dispatch"])
async def test_what_must_be_flushed_first_is_flushed_behind_a_pooler_too(
    empty_database: str, what: str
) -> None:
    migrate.upgrade(empty_database)
    _set_default(empty_database, "synchronous_commit", "off")
    async with rigged(empty_database, database_pooler="transaction") as rig:
        await rig.adapter.schedule_job("remote" if what == "dispatch" else "echo", 1)
        async with rig.adapter.database.transaction() as conn:
            lease = Lease(new_id(), 1)
            if what == "claim":
                taken: Any = await claims.claim(conn, rig.schema, lease, ["default"], 1)
            elif what == "limited":
                await rig.sql(
                    "INSERT INTO {s}.job_queues (name, declared) VALUES ('default', '{\"concurrency_limit\": 1}')"
                    " ON CONFLICT (name) DO UPDATE SET declared = EXCLUDED.declared"
                )
                taken = await limited_claims.claim_limited(conn, rig.schema, lease, ["default"], 1)
            else:
                taken = await outbox.claim(
                    conn,
                    rig.schema,
                    executor="trigger",
                    environment="e",
                    lease=new_id(),
                    lease_for=timedelta(seconds=1),
                    limit=1,
                    held=[],
                    flags_version=(await rig.adapter.flags()).version,
                )
            assert len(taken) == 1
            said = (await (await conn.execute("SHOW synchronous_commit")).fetchall())[0]
            assert said == {"synchronous_commit": "on"}


async def test_an_old_partition_goes_behind_a_pooler_and_no_setting_stays(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    database = Database(DatabaseConfig(empty_database, transaction_pooler=True))
    await database.open()
    try:
        async with database.connection() as conn:
            await conn.execute(database.schema.sql("SELECT {s}.make_finished_partition('2020-01-01')"))
            # What the session of the next client may have: a setting and its reset would both show.
            await conn.execute("SET lock_timeout = '7s'")
            report = await retention.upkeep(conn, database.schema)
            assert report.dropped == ["2020-01-01"]
            assert await (await conn.execute("SHOW lock_timeout")).fetchall() == [{"lock_timeout": "7s"}]
            assert (await retention.upkeep(conn, database.schema)).dropped == []
    finally:
        await database.close()
