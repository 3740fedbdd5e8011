"""kill -9 of a worker under limits: they hold all the time, by the database's clock, and nothing is stuck."""

from collections import Counter
from collections.abc import Iterable, Sequence
from time import monotonic_ns
from uuid import UUID

from tests.fault import ledger
from tests.fault.processes import NARROW, SINGLE
from tests.fault.site import Process, Site
from tests.fault.witness import Place, Witness, most_at_once, most_started_within, watching
from tests.kit import eventually

ENV = {"ADAPTER_WORKER_LEASE_SECONDS": "2", "ADAPTER_WORKER_CONCURRENCY": "8"}
KEYS = ("a", "b", "c")


async def _two(site: Site) -> dict[int, Process]:
    workers = [site.start("worker", **ENV) for _ in range(2)]
    return {(await each.ready()).pid: each for each in workers}


def _of_keys(places: Sequence[Place]) -> dict[str | None, int]:
    return {
        key: most_at_once(each for each in places if each.key == key) for key in {each.key for each in places}
    }


def _running_at(site: Site, pid: int) -> set[UUID]:
    entries = [each for each in ledger.read(site.directory) if each.pid == pid]
    return {each.job_id for each in entries if each.event == "start"} - {
        each.job_id for each in entries if each.event == "end"
    }


async def _kill_one(site: Site, workers: dict[int, Process], at_least: int) -> tuple[set[UUID], int]:
    """Kill a worker in whose hands so many jobs are; returns them and the time of the kill."""

    def busy() -> list[int]:
        return [pid for pid in workers if len(_running_at(site, pid)) >= at_least]

    [victim, *_] = await eventually(busy, within=30)
    killed = monotonic_ns()
    workers[victim].kill()
    return _running_at(site, victim), killed


def _most_handlers(entries: Iterable[ledger.Entry], lost: set[UUID], killed: int) -> int:
    """How many handlers lived at the same time, by what they wrote themselves."""
    changes = [(each.at, 1 if each.event == "start" else -1) for each in entries]
    now = most = 0
    for _, change in sorted([*changes, *[(killed, -1) for _ in lost]]):
        now += change
        most = max(most, now)
    return most


def _settled(site: Site, witness: Witness, queue: str) -> list[Place]:
    places = witness.places(queue)
    assert sum(each.change for each in places) == 0, "a place is still taken"
    assert {row["status"] for row in site.rows("SELECT status FROM worker_jobs_finished")} == {"COMPLETED"}
    return places


async def test_a_limit_a_key_limit_and_a_rate_hold_while_a_worker_is_killed(site: Site) -> None:
    slow = [
        *(await site.schedule(6, 0.6, "narrow", priority=5)),
        *[
            each
            for key in KEYS
            for each in await site.schedule(4, 0.6, "narrow", priority=5, concurrency_key=key)
        ],
    ]
    quick = [each for key in KEYS for each in await site.schedule(8, 0.01, "narrow", concurrency_key=key)]
    with watching(site) as witness:
        workers = await _two(site)
        lost, killed = await _kill_one(site, workers, 2)
        await site.all_done()
        later = await site.schedule(4, 0.01, "narrow", concurrency_key="a")
        await site.all_done(within=10)
        places = _settled(site, witness, "narrow")
    assert NARROW.rate is not None
    assert NARROW.concurrency_limit is not None
    assert most_at_once(places) == NARROW.concurrency_limit
    assert max(_of_keys([each for each in places if each.key]).values()) == NARROW.key_limit
    assert most_started_within(places, NARROW.rate.per) <= NARROW.rate.count
    entries = site.check([*slow, *quick, *later])
    assert _most_handlers(entries, lost, killed) <= NARROW.concurrency_limit
    rescued = {row["job_id"] for row in site.rows("SELECT job_id FROM job_events WHERE kind = 'rescued'")}
    assert lost & rescued
    assert {each for each, count in ledger.starts(entries).items() if count > 1} <= rescued


async def test_families_go_on_under_a_key_limit_while_a_worker_is_killed(site: Site) -> None:
    parents = [
        (await site.schedule(1, 0.05, "family", children=2, queue="narrow", concurrency_key=key))[0]
        for key in ("a", "a", "a", "b", "b", "b")
    ]
    with watching(site) as witness:
        workers = await _two(site)
        await eventually(lambda: site.count("worker_jobs_open", "waiting_for = 'children'") >= 2, within=20)
        await _kill_one(site, workers, 1)
        await site.all_done()
        places = _settled(site, witness, "narrow")
    assert any(each.change == 1 and not each.is_start for each in places), "no parent has gone on"
    assert NARROW.key_limit is not None
    assert max(_of_keys(places).values()) <= NARROW.key_limit
    _families_are_whole(site, parents, 2)


async def test_two_hundred_children_share_the_one_place_of_their_parents_queue(site: Site) -> None:
    parents = await site.schedule(1, 0.0, "family", children=200)
    with watching(site) as witness:
        workers = await _two(site)
        await eventually(lambda: site.count("worker_jobs_finished") >= 20, within=30)
        await _kill_one(site, workers, 1)
        await site.all_done()
        places = _settled(site, witness, SINGLE.name)
    assert most_at_once(places) == 1
    _families_are_whole(site, parents, 200)


def _families_are_whole(site: Site, parents: Sequence[UUID], children: int) -> None:
    rows = site.rows("SELECT id, parent_id FROM worker_jobs_finished")
    made = Counter(row["parent_id"] for row in rows if row["parent_id"])
    assert made == dict.fromkeys(parents, children), "children were made twice or lost"
    site.check([row["id"] for row in rows])
