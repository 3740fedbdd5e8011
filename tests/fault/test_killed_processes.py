"""kill -9 and SIGTERM, at any moment: nothing is lost, nothing ends twice, what runs again is explained."""

import asyncio
import random
from collections import Counter
from uuid import UUID

import pytest

from adapter.domain.identity import parse_epoch_tag
from tests.fault import ledger
from tests.fault.remote import Hold, Remote
from tests.fault.site import Site
from tests.kit import eventually

pytestmark = [pytest.mark.patient, pytest.mark.timeout(180)]

LEASE = {"ADAPTER_WORKER_LEASE_SECONDS": "2", "ADAPTER_WORKER_CONCURRENCY": "8"}


async def test_workers_are_killed_at_random(site: Site) -> None:
    draw = random.Random(20261122)
    jobs: list[UUID] = []
    workers = [site.start("worker", **LEASE) for _ in range(3)]
    for worker in workers:
        await worker.ready()
    for _ in range(6):
        done = site.count("worker_jobs_finished")
        # Before every kill more than three workers do in half a second, so that it finds some of them at work.
        jobs += await site.schedule(60, 0.25, max_attempts=50)
        await eventually(lambda done=done: site.count("worker_jobs_finished") >= done + 15, within=60)
        await asyncio.sleep(draw.random() * 0.1)
        victim = draw.randrange(len(workers))
        workers[victim].kill()
        workers[victim] = site.start("worker", **LEASE)
    await site.all_done()
    entries = site.check(jobs)
    assert {row["status"] for row in site.rows("SELECT status FROM worker_jobs_finished")} == {"COMPLETED"}
    assert site.count("job_events", "kind = 'rescued'") > 0, "no kill has hit a running job"
    assert len({entry.pid for entry in entries}) > 3


async def test_a_polite_stop_under_load_spends_nothing(site: Site) -> None:
    jobs = await site.schedule(120, 0.3)
    slow = await site.schedule(6, 8.0, priority=10)
    env = {"ADAPTER_WORKER_CONCURRENCY": "12", "ADAPTER_WORKER_GRACE_SECONDS": "0.5"}
    first = await site.start("worker", **env).ready()
    await eventually(lambda: site.count("worker_jobs_finished") >= 10, within=30)
    second = site.start("worker", **(env | {"ADAPTER_WORKER_GRACE_SECONDS": "20"}))
    first.terminate()
    assert await first.ended() == 0, first.said()
    await second.ready()
    await site.all_done()
    entries = site.check([*jobs, *slow])
    begun = sum(ledger.starts(entries).values())
    # What was only held ahead of the handlers goes back with a reason.
    returned = site.count("job_events", "kind = 'returned' AND detail ->> 'reason' IS NULL")
    assert returned >= len(slow)
    assert begun == len(jobs) + len(slow) + returned
    assert site.count("worker_jobs_finished", "attempt <> 1") == 0, "a stop has charged an attempt"
    assert site.count("job_events", "kind = 'rescued'") == 0


@pytest.mark.parametrize("point", ["before", "after"])
async def test_a_dispatcher_is_killed_while_it_submits(site: Site, remote: Remote, point: Hold) -> None:
    """``before``: `trying` is committed, the remote has done nothing yet; ``after``: only the reply is missing."""
    site.env |= remote.env
    remote.hold = point
    async with site.adapter() as adapter:
        jobs = [(await adapter.schedule_job("away", {"n": n}, executor="trigger")).id for n in range(12)]
    first = await site.start("dispatcher", ADAPTER_DISPATCH_LEASE_SECONDS="2").ready()
    await eventually(lambda: remote.held >= 12, within=20)
    assert site.count("worker_jobs_open", "submit_state = 'trying'") == 12
    first.kill()
    remote.release()  # what was in flight arrives although its sender is dead
    await site.start("dispatcher", ADAPTER_DISPATCH_LEASE_SECONDS="2").ready()
    await eventually(lambda: site.count("worker_jobs_open", "submit_state = 'accepted'") == 12, within=30)
    _one_run_each(remote, jobs)
    assert site.count("job_events", "kind = 'submit_unknown'") == 12
    assert site.count("remote_runs", "role <> 'bound'") == 0
    for run in list(remote.fake.runs):
        remote.fake.start(run)
        remote.fake.complete(run, "ok")
    async with site.adapter() as adapter:
        report = await adapter.reconcile()
    # A dispatcher looks at the runs its repeats led to, so some may be home already.
    assert report.stopped is None
    assert site.count("worker_jobs_open") == 0
    assert {row["status"] for row in site.rows("SELECT status FROM worker_jobs_finished")} == {"COMPLETED"}
    starts = Counter(parse_epoch_tag(event.tags[0]) for event in remote.fake.ledger if event.event == "start")
    assert max(starts.values()) == 1


def _one_run_each(remote: Remote, jobs: list[UUID]) -> None:
    runs = Counter(
        parsed[0] for run in remote.fake.runs.values() for tag in run.tags if (parsed := parse_epoch_tag(tag))
    )
    assert runs == dict.fromkeys(jobs, 1)
