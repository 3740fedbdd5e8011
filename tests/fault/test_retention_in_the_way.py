"""A long reader, many finished rows, a pooler in between: nothing that retention does stands in the way of work."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest

from adapter.core.loops import Poller
from adapter.domain.clock import SystemClock
from adapter.store import retention
from tests.fault.pooler import pooled
from tests.kit import eventually
from tests.rig import Rig, rigged

OLD = date(2020, 1, 1)


async def _reading(rig: Rig) -> psycopg.AsyncConnection[tuple[int]]:
    reader = await psycopg.AsyncConnection.connect(rig.url)
    await reader.execute("SELECT count(*) FROM adapter.worker_jobs_finished")
    return reader


async def _is_waiting(rig: Rig) -> bool:
    return bool(await rig.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
async def behind_pooler(database_url: str, server_dir: Path) -> AsyncGenerator[Rig]:
    with pooled(database_url, server_dir) as url:
        await eventually(lambda: _answers(url), within=20)
        async with rigged(url, database_pooler="transaction") as rig:
            yield rig


@pytest.mark.timeout(60)
async def test_behind_a_pooler_a_reader_keeps_its_partition_and_nobody_waits(
    behind_pooler: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = behind_pooler
    await rig.sql("SELECT {s}.make_finished_partition(%(day)s::date)", day=OLD)
    jobs = [await rig.adapter.schedule_job("echo", n) for n in range(20)]
    reader = await _reading(rig)
    try:
        assert (await rig.adapter.retention.run_once()).dropped == []
        monkeypatch.setattr(retention, "PATIENCE_S", 40.0)
        async with asyncio.TaskGroup() as group:
            passing = group.create_task(rig.adapter.retention.run_once())
            await eventually(lambda: _is_waiting(rig), within=10)
            await rig.work()
            assert {await rig.status(job.id) for job in jobs} == {"COMPLETED"}
            assert await _is_waiting(rig)
            await reader.close()
        assert passing.result().dropped == [str(OLD)]
    finally:
        await reader.close()


@pytest.mark.timeout(60)
async def test_a_drop_that_waits_keeps_nobody_from_rescue(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention is a loop of its own: upkeep goes on while it waits for a lock."""
    monkeypatch.setattr(retention, "PATIENCE_S", 40.0)
    await rig.sql("SELECT {s}.make_finished_partition(%(day)s::date)", day=OLD)
    reader = await _reading(rig)
    try:
        async with asyncio.TaskGroup() as group:
            passing = group.create_task(rig.adapter.retention.run_once())
            await eventually(lambda: _is_waiting(rig), within=10)
            job = await rig.adapter.schedule_job("echo", 1)
            lease, _ = await rig.claim()
            await rig.sql(
                "INSERT INTO {s}.workers (id, name, host, pid, lease) VALUES (%(id)s, 'w', 'h', 1, '1 ms')",
                id=lease.worker_id,
            )
            await rig.bury_the_silent()
            assert await rig.status(job.id) == "QUEUED"
            assert await _is_waiting(rig)
            await reader.close()
        assert passing.result().dropped == [str(OLD)]
    finally:
        await reader.close()


@pytest.mark.timeout(60)
async def test_many_finished_rows_do_not_make_a_claim_look_at_more_pages(rig: Rig) -> None:
    async def buffers() -> int:
        await rig.conn.execute("BEGIN")
        try:
            rows = await rig.sql(
                "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT id FROM {s}.worker_jobs_open WHERE status = 'QUEUED'"
                " AND executor = 'local' AND queue = 'default' ORDER BY (-priority), seq LIMIT 20 FOR UPDATE SKIP LOCKED"
            )
        finally:
            await rig.conn.execute("ROLLBACK")
        plan = rows[0]["QUERY PLAN"][0]["Plan"]
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    for n in range(20):
        await rig.adapter.schedule_job("echo", n)
    await buffers()
    before = await buffers()
    await rig.sql(
        "INSERT INTO {s}.worker_jobs_finished (id, type, status, success, executor, queue, finished, drop_on)"
        " SELECT gen_random_uuid(), 'echo', 'COMPLETED', true, 'local', 'default', now(),"
        " (SELECT min(day) FROM {s}.finished_partitions) FROM generate_series(1, 50000)"
    )
    assert await buffers() <= before + 2


async def test_the_upkeep_sleeps_until_the_next_job_is_due_and_no_longer(rig: Rig) -> None:

    maintenance = rig.adapter.maintenance
    await maintenance.run_once()
    assert maintenance._sleep_s == 1.0
    await rig.adapter.schedule_job("echo", 1, delay=timedelta(milliseconds=300))
    await maintenance.run_once()
    assert 0.005 <= maintenance._sleep_s <= 0.3
    await rig.sql(
        "UPDATE {s}.worker_jobs_open SET due = now() - interval '1 s', executor = 'trigger', submit_state = 'accepted'"
    )
    await maintenance.run_once()
    assert maintenance._sleep_s == 1.0


async def test_a_poller_asks_before_each_sleep_how_long_it_may_be() -> None:
    asked = list[float]()

    async def work() -> int:
        if len(asked) == 3:
            poller.stop()
        return 0

    def patience() -> float:
        asked.append(0.001)
        return 0.001

    poller = Poller("test", work, SystemClock(), "*", patience)
    async with asyncio.timeout(5):
        await poller.run()
    assert len(asked) == 3
