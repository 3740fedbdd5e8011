"""PostgreSQL restarts under running jobs; a pooler is in between; everybody boots at once."""

import asyncio
import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psycopg
import pytest

from adapter.store import migrate
from adapter.store.embedded import EmbeddedPostgres
from tests import kit
from tests.fault import ledger
from tests.fault.pooler import pooled
from tests.fault.site import Site
from tests.kit import eventually

pytestmark = [pytest.mark.once("a server or a pooler of its own"), pytest.mark.patient]

BOOTS = 50


async def test_postgres_restarts_under_running_jobs(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    migrate.upgrade(own_postgres.url(), schema=kit.SCHEMA)
    with Site(own_postgres.url(), tmp_path, ADAPTER_WORKER_LEASE_SECONDS="20") as site:
        jobs = [*await site.schedule(16, 6.0), *await site.schedule(150, 0.05)]
        workers = [site.start("worker", ADAPTER_WORKER_CONCURRENCY="10") for _ in range(2)]
        for worker in workers:
            await worker.ready()
        await eventually(lambda: len(ledger.starts(ledger.read(tmp_path))) >= 18, within=20)
        for immediate in (False, True):
            await asyncio.to_thread(own_postgres.restart, immediate=immediate)
            await asyncio.sleep(1)
        await site.all_done()
        entries = site.check(jobs)
        again = {job_id: count for job_id, count in ledger.starts(entries).items() if count > 1}
        assert not again, "a restart has run live jobs again"
        assert site.count("job_events", "kind = 'rescued'") == 0
        assert site.count("worker_jobs_finished", "status = 'COMPLETED' AND attempt = 1") == len(jobs)


async def test_postgres_restarts_while_parents_wait_for_children(
    own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    migrate.upgrade(own_postgres.url(), schema=kit.SCHEMA)
    with Site(own_postgres.url(), tmp_path, ADAPTER_WORKER_LEASE_SECONDS="20") as site:
        parents = await site.schedule(4, 3.0, "parent")
        await site.start("worker", ADAPTER_WORKER_CONCURRENCY="8").ready()
        running = "status = 'EXECUTING' AND parent_id IS NOT NULL"
        await eventually(lambda: site.count("worker_jobs_open", running) == 8, within=20)
        for immediate in (False, True):
            await asyncio.to_thread(own_postgres.restart, immediate=immediate)
        await site.all_done()
        rows = site.rows("SELECT id, parent_id, status, attempt FROM worker_jobs_finished")
        assert len([row for row in rows if row["parent_id"] in parents]) == 8
        assert {(row["status"], row["attempt"]) for row in rows} == {("COMPLETED", 1)}
        starts = ledger.starts(site.check([row["id"] for row in rows]))
        assert set(starts.values()) == {1}, "a restart has run live jobs again"


async def test_behind_a_transaction_pooler(database_url: str, server_dir: Path, tmp_path: Path) -> None:
    with pooled(database_url, server_dir) as url, Site(database_url, tmp_path) as site:
        await eventually(lambda: _answers(url), within=20)
        site.env |= {"ADAPTER_DATABASE_URL": url, "ADAPTER_DB_POOLER": "transaction"}
        worker = await site.start("worker", ADAPTER_WORKER_CONCURRENCY="8").ready()
        jobs = await site.schedule(60, 0.01)
        keyed = await site.schedule(2, 0.01, idempotency_key="once")
        assert keyed[0] == keyed[1]
        await site.all_done()
        (endless,) = await site.schedule(1, 60.0)
        await eventually(lambda: site.count("worker_jobs_open", "status = 'EXECUTING'") == 1, within=20)
        async with site.adapter() as adapter:
            await adapter.cancel_job(endless)
            ended = await adapter.wait_for(endless)
        assert ended.status == "CANCELED"
        site.check([*jobs, keyed[0], endless])
        worker.terminate()
        assert await worker.ended() == 0, worker.said()


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def test_many_processes_migrate_at_once(empty_database: str) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(BOOTS)
    processes = [context.Process(target=_boot, args=(empty_database, barrier)) for _ in range(BOOTS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * BOOTS
    with psycopg.connect(empty_database) as conn:
        revisions = conn.execute(f"SELECT version_num FROM {kit.SCHEMA}.alembic_version").fetchall()
    assert revisions == [(migrate.head(),)]


def _boot(url: str, barrier: Barrier) -> None:
    barrier.wait(30)
    migrate.upgrade(url, schema=kit.SCHEMA)
