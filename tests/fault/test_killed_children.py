"""kill -9 of child processes and of their worker: no handler runs on beside the try that replaces it."""

import asyncio
import random
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from adapter import Adapter, JobSpec
from adapter.settings import Settings
from tests.fault import ledger
from tests.fault.isolated import adapter as declared
from tests.fault.site import Process, Site
from tests.kit import eventually

pytestmark = [pytest.mark.once("children have no database"), pytest.mark.patient]


@pytest.fixture
def apart(site: Site, tmp_path: Path) -> Site:
    site.env |= {
        "ADAPTER_TEST_LEDGER": str(tmp_path),
        "ADAPTER_WORKER_LEASE_SECONDS": "2",
        "ADAPTER_WORKER_ISOLATED_PROCESSES": "2",
    }
    return site


async def schedule(site: Site, count: int, task: str = "apart", seconds: float = 0.0) -> list[UUID]:
    adapter = Adapter(Settings.from_env(site.env))
    for definition in declared.registry:
        adapter.registry.add(definition)
    async with adapter:
        specs = [JobSpec(task, {"seconds": seconds}, {}) for _ in range(count)]
        return [handle.id for handle in await adapter.schedule_specs(specs)]


def children(worker: Process) -> list[psutil.Process]:
    return psutil.Process(worker.pid).children()


async def test_without_kills_each_job_is_started_once(apart: Site) -> None:
    jobs = await schedule(apart, 300)
    worker = await apart.start("isolated").ready()
    await apart.all_done()
    entries = apart.check(jobs)
    assert set(ledger.starts(entries).values()) == {1}
    assert len({entry.pid for entry in entries}) == 2
    family = children(worker)
    assert len(family) == 2
    worker.terminate()
    assert await worker.ended() == 0, worker.said()
    assert not any(each.is_running() for each in family)


async def test_children_are_killed_at_random(apart: Site) -> None:
    draw = random.Random(20261126)
    jobs = await schedule(apart, 120, seconds=0.05)
    worker = await apart.start("isolated").ready()
    for _ in range(5):
        done = apart.count("worker_jobs_finished")
        await eventually(lambda done=done: apart.count("worker_jobs_finished") >= done + 8, within=30)
        await asyncio.sleep(draw.random() * 0.05)
        draw.choice(await eventually(lambda: children(worker))).kill()
    await apart.all_done()
    apart.check(jobs)
    assert {row["status"] for row in apart.rows("SELECT status FROM worker_jobs_finished")} == {"COMPLETED"}
    errors = apart.rows("SELECT DISTINCT detail ->> 'error' AS error FROM job_events WHERE kind = 'retry'")
    assert {row["error"] for row in errors} == {"ProcessDiedError"}


async def test_a_deaf_child_dies_with_its_worker_before_its_job_runs_again(apart: Site) -> None:
    jobs = await schedule(apart, 1, "deaf")
    first = await apart.start("isolated").ready()
    await eventually(lambda: ledger.read(apart.directory), within=30)
    (child,) = children(first)
    first.kill()
    await eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, within=2)
    await apart.start("isolated").ready()
    await apart.all_done()
    entries = apart.check(jobs)
    assert [entry.event for entry in entries] == ["start", "start", "end"]
    assert apart.count("job_events", "kind = 'rescued'") == 1


@pytest.mark.parametrize("whom", ["worker", "children"])
async def test_a_kill_while_isolated_parents_wait(apart: Site, whom: str) -> None:
    """Four of them: two wait in their processes, two are given back."""
    parents = await schedule(apart, 4, "apart-parent", seconds=0.7)
    first = await apart.start("isolated").ready()
    await eventually(lambda: apart.count("worker_jobs_open", "waiting_for = 'children'") >= 2, within=30)
    if whom == "worker":
        first.kill()
        await apart.start("isolated").ready()
    else:
        for each in children(first):
            each.kill()
    await apart.all_done()
    rows = apart.rows("SELECT id, parent_id, status, result FROM worker_jobs_finished")
    made = [row["id"] for row in rows if row["parent_id"] in parents]
    assert len(made) == 2 * len(parents), "children were made twice or lost"
    apart.check([*parents, *made])
    assert {row["status"] for row in rows} == {"COMPLETED"}
    assert {row["result"] for row in rows if row["id"] in parents} == {2}
