"""Real processes that are killed, stopped and cut off: who is rescued, when, and who is not."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import pytest

from adapter.store import migrate
from adapter.store.embedded import EmbeddedPostgres
from tests import kit
from tests.fault import ledger
from tests.fault.pooler import pooled
from tests.fault.proxy import ChaosProxy
from tests.fault.site import Process, Site
from tests.kit import eventually

pytestmark = [
    pytest.mark.once("what holds behind a pooler is in test_killed_processes.py"),
    pytest.mark.patient,
]

#: Long enough that nobody here is dead by it, short enough that a judge soon trusts its own connection.
LEASE_S = 8
LEASE = {"ADAPTER_WORKER_LEASE_SECONDS": str(LEASE_S), "ADAPTER_WORKER_CONCURRENCY": "8"}
LONG_LEASE = LEASE | {"ADAPTER_WORKER_LEASE_SECONDS": "120"}


@pytest.fixture
async def wire(database_url: str) -> AsyncIterator[ChaosProxy]:
    """The network between one worker and PostgreSQL."""
    async with ChaosProxy(urlsplit(database_url).port or 5432) as proxy:
        yield proxy


async def _holder(site: Site, job: UUID) -> int:
    """Wait until a job runs; returns the process that runs it."""

    def started() -> list[ledger.Entry]:
        return [each for each in ledger.read(site.directory) if each.job_id == job and each.event == "start"]

    return (await eventually(started, within=30))[0].pid


async def _settled(site: Site, seconds: float) -> None:
    """Wait until the judges' connections are older than a lease."""
    oldest = (
        "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'adapter'"
        f" AND datname = current_database() AND backend_start < now() - interval '{seconds} s'"
    )
    await eventually(lambda: site.rows(oldest)[0]["n"] > 0, within=60)


def _rescued(site: Site) -> int:
    return site.count("job_events", "kind = 'rescued'")


async def _two(site: Site, env: dict[str, str]) -> dict[int, Process]:
    workers = [site.start("worker", **env) for _ in range(2)]
    return {(await each.ready()).pid: each for each in workers}


@pytest.mark.direct("a lock of the session")
async def test_the_jobs_of_a_killed_worker_run_again_within_ten_seconds(site: Site) -> None:
    workers = await _two(site, LEASE | {"ADAPTER_WORKER_LEASE_SECONDS": "15"})
    await _settled(site, 15)
    jobs = await site.schedule(4, 3.0)
    victim = await _holder(site, jobs[0])
    held = [row["id"] for row in site.rows("SELECT id FROM worker_jobs_open WHERE status = 'EXECUTING'")]
    assert held
    workers[victim].kill()
    killed = monotonic()
    await eventually(lambda: _rescued(site) > 0, within=10)
    took = monotonic() - killed
    assert 6 <= took < 10
    await site.all_done()
    site.check(jobs)


async def test_a_stopped_worker_is_taken_for_dead_by_its_lease_alone_and_writes_nothing_then(
    site: Site,
) -> None:
    workers = await _two(site, LEASE | {"ADAPTER_WORKER_LEASE_SECONDS": "12"})
    await _settled(site, 12)
    (job,) = await site.schedule(1, 2.0)
    victim = await _holder(site, job)
    os.kill(victim, signal.SIGSTOP)
    stopped = monotonic()
    try:
        await eventually(lambda: _rescued(site) > 0, within=20)
        assert 9 <= monotonic() - stopped < 16, "its lock is held: only the lease may decide"
        await site.all_done()
    finally:
        os.kill(victim, signal.SIGCONT)
    before = site.rows("SELECT * FROM worker_jobs_finished")
    later = await site.schedule(8, 0.2)
    await site.all_done()
    assert site.rows("SELECT * FROM worker_jobs_finished WHERE id = %s", [job]) == before
    site.check([job, *later])
    assert "lost its lease" in workers[victim].said()


@pytest.mark.direct("a lock of the session")
async def test_a_worker_that_loses_its_lock_connection_and_lives_keeps_its_jobs(site: Site) -> None:
    await _two(site, LEASE)
    await _settled(site, LEASE_S)
    jobs = await site.schedule(6, 15.0)
    await _holder(site, jobs[0])
    cuts = 0
    for _ in range(8):
        cut = site.rows(
            "SELECT count(pg_terminate_backend(pid)) AS n FROM pg_stat_activity"
            " WHERE application_name = 'adapter heartbeat' AND datname = current_database()"
        )
        cuts += cut[0]["n"]
        await asyncio.sleep(1.2)
    assert cuts >= 8
    await site.all_done()
    assert _rescued(site) == 0
    assert set(ledger.starts(site.check(jobs)).values()) == {1}


async def test_a_worker_whose_network_swallows_everything_starts_nothing_and_loses_its_jobs_once(
    site: Site, wire: ChaosProxy
) -> None:
    parts = urlsplit(site.url)
    netloc = f"{parts.username}:{parts.password}@127.0.0.1:{wire.port}"
    far = {"ADAPTER_DATABASE_URL": urlunsplit(parts._replace(netloc=netloc))}
    cut_off = await site.start("worker", **LEASE, **far).ready()
    (job,) = await site.schedule(1, 20.0)
    assert await _holder(site, job) == cut_off.pid
    await site.start("worker", **LEASE).ready()
    wire.mode = "blackhole"
    await eventually(lambda: _rescued(site) == 1, within=25)
    later = await site.schedule(4, 0.01)
    await eventually(lambda: site.count("worker_jobs_finished") == 4, within=20)
    begun = {each.job_id: each.pid for each in ledger.read(site.directory) if each.event == "start"}
    assert cut_off.pid not in {begun[each] for each in later}
    await eventually(lambda: "lost its lease" in cut_off.said(), within=20)
    await site.all_done()
    site.check([job, *later])


async def test_postgres_restarts_under_long_jobs_and_nobody_is_rescued(
    own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    migrate.upgrade(own_postgres.url(), schema=kit.SCHEMA)
    with Site(own_postgres.url(), tmp_path) as site:
        await _two(site, LEASE)
        await _settled(site, LEASE_S)
        jobs = await site.schedule(8, 16.0)
        await _holder(site, jobs[0])
        for immediate in (False, True):
            await asyncio.to_thread(own_postgres.restart, immediate=immediate)
            await asyncio.sleep(2)
        await site.all_done()
        assert _rescued(site) == 0
        assert set(ledger.starts(site.check(jobs)).values()) == {1}


@pytest.mark.direct("a lock of the session")
async def test_a_judge_behind_a_pooler_sees_the_locks_of_workers_that_are_not(
    site: Site, server_dir: Path
) -> None:
    with pooled(site.url, server_dir) as url:
        direct = await site.start("worker", **LONG_LEASE).ready()
        # It still runs when the other has started, which takes its time on a busy machine.
        (job,) = await site.schedule(1, 12.0)
        assert await _holder(site, job) == direct.pid
        site.rows("UPDATE workers SET lease = '3 s'")
        await site.start("worker", **LEASE, ADAPTER_DATABASE_URL=url, ADAPTER_DB_POOLER="transaction").ready()
        known = site.rows("SELECT lock_key IS NULL AS pooled FROM workers ORDER BY started_at")
        await eventually(lambda: site.count("workers") == 2, within=20)
        assert [row["pooled"] for row in known][:1] == [False]
        direct.kill()
        await site.all_done()
        assert _rescued(site) == 1
        site.check([job])
        assert site.count("workers", "lock_key IS NULL") == 1, "a worker behind a pooler tells of no lock"


async def test_a_job_that_kills_its_worker_each_time_ends_crashed_and_others_do_not(site: Site) -> None:
    env = LEASE | {"ADAPTER_WORKER_LEASE_SECONDS": "2", "ADAPTER_WORKER_CONCURRENCY": "4"}
    others = await site.schedule(12, 0.4)
    (poison,) = await site.schedule(1, 0.0, task="poison")
    workers = [site.start("worker", **env) for _ in range(2)]

    def crashed() -> bool:
        for place, worker in enumerate(workers):
            if worker.has_ended:
                workers[place] = site.start("worker", **env)
        return site.count("worker_jobs_open") == 0

    await eventually(crashed, within=80)
    ends = {row["id"]: row for row in site.rows("SELECT id, status, attempt FROM worker_jobs_finished")}
    assert (ends[poison]["status"], ends[poison]["attempt"]) == ("CRASHED", 3)
    assert {(ends[each]["status"], ends[each]["attempt"]) for each in others} == {("COMPLETED", 1)}
    hit = site.rows(
        "SELECT job_id, count(*) AS n FROM job_events WHERE kind = 'rescued' AND job_id <> %s GROUP BY 1",
        [poison],
    )
    assert all(row["n"] < 3 for row in hit), "a poison job has met the same others each time"
