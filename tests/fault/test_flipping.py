"""Switches and percentages flip under load: every job has one executor of record, and none other has begun it."""

import asyncio
import logging
import random
import time
from collections import Counter
from uuid import UUID

import pytest

from adapter import Adapter
from adapter.domain.identity import parse_epoch_tag
from tests import kit
from tests.fault import ledger
from tests.fault.remote import Remote
from tests.fault.site import Site
from tests.kit import eventually

logger = logging.getLogger(__name__)

#: How long; `make flips` takes 30.
SECONDS = float(kit.own_setting("FLIP_SECONDS") or 4)
EVERY_S = 0.1
SEED = 20261127
#: As behind a pooler: nobody tells these processes anything.
DEAF = {"ADAPTER_DB_POOLER": "transaction"}
UNTOLD = {"ADAPTER_DISPATCH_WAIT_SECONDS": "0"}


async def flip(adapter: Adapter, draw: random.Random) -> None:
    reason = f"flip {draw.random()}"
    match draw.randrange(6):
        case 0:
            await adapter.kill("either", to="local", reason=reason)
        case 1:
            await adapter.kill("either", to="trigger", reason=reason)
        case 2:
            await adapter.kill(to=draw.choice(("local", "trigger")), reason=reason)
        case 3:
            await adapter.clear_flag("kill", "*", reason=reason)
        case _:
            await adapter.clear_flag("kill", "either", reason=reason)
            percent = draw.choice((0, 0.001, 10, 50, 99.999, 100))
            await adapter.rollout("either", to="trigger", percent=percent, reason=reason)


async def remote_runs(remote: Remote, ended: asyncio.Event) -> None:
    """Let the remote run what it has, a little later than it came."""
    while not ended.is_set():
        for run in list(remote.fake.runs.values()):
            if run.status == "QUEUED":
                remote.fake.start(run.id)
            elif run.status == "EXECUTING":
                remote.fake.complete(run.id)
        await asyncio.sleep(0.05)


def begun_there(remote: Remote) -> Counter[UUID]:
    """What user code at the remote began, by the job that its tag names."""
    tags = [event.tags[0] for event in remote.fake.ledger if event.event == "start"]
    return Counter(parsed[0] for tag in tags if (parsed := parse_epoch_tag(tag)))


@pytest.mark.timeout(240)
async def test_switches_flip_under_load(site: Site, remote: Remote) -> None:
    site.env |= remote.env | UNTOLD
    draw, ended = random.Random(SEED), asyncio.Event()
    processes = [
        site.start("worker"),
        site.start("worker", **DEAF),
        site.start("dispatcher"),
        site.start("dispatcher", **DEAF),
        site.start("producer"),
        site.start("producer", **DEAF),
    ]
    for process in processes:
        await process.ready()
    flips = 0
    async with site.adapter() as adapter, asyncio.TaskGroup() as group:
        group.create_task(remote_runs(remote, ended))
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            await flip(adapter, draw)
            flips += 1
            await asyncio.sleep(EVERY_S)

        # And back: from here on nobody sends anything there any more, whether told or not.
        await adapter.clear_flag("kill", "either", reason="the end")
        await adapter.kill(reason="the end")
        stopped_at = time.monotonic_ns()
        # But for what was claimed or on its way.
        await asyncio.sleep(1)
        on_its_way = "submit_state = 'trying' AND dispatch_lease_until > now()"
        await eventually(lambda: site.count("worker_jobs_open", on_its_way) == 0, within=30)
        runs = len(remote.fake.runs)
        await eventually(lambda: sent_since(site, stopped_at) >= 20, within=30)
        for process in processes[4:]:
            process.terminate()
            assert await process.ended() == 0, process.said()

        async def home() -> bool:
            await adapter.reconcile()
            return site.count("worker_jobs_open") == 0

        await eventually(home, within=60)
        assert len(remote.fake.runs) == runs
        ended.set()

    entries = ledger.read(site.directory)
    late = {each.event for each in entries if each.event != "start" and each.at > stopped_at}
    assert late == {"to-local"}
    scheduled = [each.job_id for each in entries if each.event.startswith("to-")]
    here, there = ledger.starts(entries), begun_there(remote)
    assert set(here) & set(there) == set(), "two executors began the same job"
    assert {*here, *there} == set(scheduled)
    assert max(*here.values(), *there.values()) == 1
    finished = site.rows("SELECT id, status, executor, epoch FROM worker_jobs_finished")
    assert Counter(row["id"] for row in finished) == Counter(scheduled)
    assert {row["status"] for row in finished} == {"COMPLETED"}
    assert {row["id"] for row in finished if row["executor"] == "trigger"} == set(there)
    rerouted = site.count("job_events", "kind = 'rerouted'")
    assert min(len(here), len(there), rerouted) > 0, (flips, len(here), len(there), rerouted)
    assert site.count("flag_changes") >= flips
    logger.info(
        "%d flips, %d jobs: %d here, %d there, %d re-routed",
        flips, len(scheduled), len(here), len(there), rerouted,
    )  # fmt: skip


def sent_since(site: Site, moment: int) -> int:
    return sum(each.event != "start" and each.at > moment for each in ledger.read(site.directory))
