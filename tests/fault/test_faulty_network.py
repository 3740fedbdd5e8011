"""A reply that is lost says nothing of what was done: the fences and the keys say it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from adapter import Adapter
from tests.fault.proxy import ChaosProxy, Cut
from tests.fault.remote import Remote
from tests.fault.site import Site
from tests.kit import eventually


@pytest.fixture
async def wire(database_url: str) -> AsyncIterator[ChaosProxy]:
    """The network between the adapter and PostgreSQL."""
    async with ChaosProxy(urlsplit(database_url).port or 5432) as proxy:
        yield proxy


@pytest.fixture
def far(site: Site, wire: ChaosProxy, tmp_path: Path) -> Site:
    """A site that sees PostgreSQL directly, and whose adapters see it through the wire."""
    parts = urlsplit(site.url)
    netloc = f"{parts.username}:{parts.password}@127.0.0.1:{wire.port}"
    site.env["ADAPTER_DATABASE_URL"] = urlunsplit(parts._replace(netloc=netloc))
    # Where nothing is prepared, the text of a statement travels with its run: what is cut is the run's reply.
    site.env["ADAPTER_DB_POOLER"] = "transaction"
    return site


def _finish(data: bytes) -> bool:
    return b"worker_jobs_finished" in data and b"DELETE FROM" in data and b"claim_number" in data


def _claim(data: bytes) -> bool:
    return b"SKIP LOCKED" in data and b"attempt = attempt + 1" in data


def _echo(adapter: Adapter, started: list[str]) -> None:
    @adapter.task("echo")
    async def echo(data: str) -> str:
        started.append(data)
        return data

    del echo


async def test_the_reply_to_a_finish_is_lost(far: Site, wire: ChaosProxy) -> None:
    started: list[str] = []
    adapter = Adapter.from_env(far.env)
    _echo(adapter, started)
    async with adapter.running(work=True, dispatch=False, sync=False):
        wire.cut = Cut(_finish)
        job = await adapter.schedule_job("echo", "a")
        ended = await adapter.wait_for(job.id, timeout=timedelta(seconds=20))
        await eventually(lambda: wire.cuts == 1)
    assert (ended.status, ended.attempt, ended.result, started) == ("COMPLETED", 1, "a", ["a"])
    assert far.count("worker_jobs_finished") == 1
    assert far.count("worker_jobs_open") == 0
    assert far.rows("SELECT kind FROM job_events") == []


async def test_the_reply_to_a_claim_is_lost(far: Site, wire: ChaosProxy) -> None:
    """The worker lives on and holds a job it does not know of: it finds out and nothing waits for a rescue."""
    started: list[str] = []
    adapter = Adapter.from_env(far.env)
    _echo(adapter, started)
    async with adapter.running(work=True, dispatch=False, sync=False):
        wire.cut = Cut(_claim)
        job = await adapter.schedule_job("echo", "a")
        ended = await adapter.wait_for(job.id, timeout=timedelta(seconds=20))
    assert wire.cuts == 1
    assert (ended.status, ended.attempt, started) == ("COMPLETED", 1, ["a"])
    assert [row["kind"] for row in far.rows("SELECT kind FROM job_events")] == ["returned"]


@pytest.mark.parametrize("cut_after", [0, 1, 40])
async def test_a_connection_is_cut_in_the_middle_of_a_reply(
    far: Site, wire: ChaosProxy, cut_after: int
) -> None:
    started: list[str] = []
    adapter = Adapter.from_env(far.env)
    _echo(adapter, started)
    async with adapter.running(work=True, dispatch=False, sync=False):
        jobs = [await adapter.schedule_job("echo", str(n)) for n in range(3)]
        wire.cut = Cut(lambda data: _finish(data) or _claim(data), after_bytes=cut_after)
        jobs += [await adapter.schedule_job("echo", str(n)) for n in range(3, 6)]
        for job in jobs:
            assert (await adapter.wait_for(job.id, timeout=timedelta(seconds=20))).status == "COMPLETED"
    assert sorted(started) == sorted(str(n) for n in range(6))
    assert far.count("worker_jobs_finished") == 6


async def test_a_slow_network_then_one_that_resets_and_refuses(far: Site, wire: ChaosProxy) -> None:
    started: list[str] = []
    adapter = Adapter.from_env(far.env)
    _echo(adapter, started)
    async with adapter.running(work=True, dispatch=False, sync=False):
        wire.mode = "latency"
        jobs = [await adapter.schedule_job("echo", str(n)) for n in range(4)]
        wire.mode = "reset"
        await wire.refuse()
        await eventually(lambda: wire.resets > 0, within=20)
        await wire.listen()
        wire.mode = "pass"
        for job in jobs:
            await adapter.wait_for(job.id, timeout=timedelta(seconds=20))
        await far.all_done()
    explained = far.count("job_events", "kind = 'returned'")
    assert 4 <= len(started) <= 4 + explained
    assert far.count("worker_jobs_finished", "status = 'COMPLETED' AND attempt = 1") == len(jobs)


@pytest.mark.parametrize("cut_after", [0, 30])
async def test_the_reply_to_a_submit_is_lost(site: Site, remote: Remote, cut_after: int) -> None:
    async with ChaosProxy(remote.port) as wire:
        site.env |= remote.env | {"TRIGGER_API_URL": f"http://127.0.0.1:{wire.port}"}
        async with site.adapter() as adapter:
            job = await adapter.schedule_job("away", {"n": 1}, executor="trigger")
            wire.cut = Cut(lambda data: b"/trigger HTTP" in data, after_bytes=cut_after)
            await adapter.dispatcher.run_once()
            assert wire.cuts == 1
            assert [
                row["submit_state"] for row in site.rows("SELECT submit_state FROM worker_jobs_open")
            ] == ["unknown"]
            assert len(remote.fake.runs) == 1
            site.rows("UPDATE worker_jobs_open SET next_try_at = now()")
            await adapter.dispatcher.run_once()
            now = await adapter.get_job(job.id)
    assert now is not None
    (run,) = remote.fake.runs
    assert (now.status, now.submit_state, now.remote_run_id, now.epoch) == ("QUEUED", "accepted", run, 1)
    triggers = [seen for seen in remote.fake.requests if seen.call == "trigger"]
    assert len(triggers) == 2
    keys = {seen.headers["x-trigger-request-idempotency-key"] for seen in triggers}
    assert len(keys) == len({seen.body["options"]["idempotencyKey"] for seen in triggers}) == 1


async def test_nobody_answers_at_all(site: Site, remote: Remote) -> None:
    async with ChaosProxy(remote.port) as wire:
        site.env |= remote.env | {"TRIGGER_API_URL": f"http://127.0.0.1:{wire.port}"}
        await wire.refuse()
        async with site.adapter() as adapter:
            await adapter.schedule_job("away", {"n": 1}, executor="trigger")
            await adapter.dispatcher.run_once()
            (row,) = site.rows("SELECT submit_state, first_try_at FROM worker_jobs_open")
            assert (row["submit_state"], row["first_try_at"]) == ("never", None)
