"""kill -9 of a worker whose handlers wait for children: every parent completes, and children are made once."""

import pytest

from tests.fault import ledger
from tests.fault.site import Site
from tests.fault.witness import held_up
from tests.kit import eventually

LEASE = {"ADAPTER_WORKER_LEASE_SECONDS": "2", "ADAPTER_WORKER_CONCURRENCY": "4"}
PARENTS = 6


async def test_a_worker_is_killed_while_its_parents_wait(site: Site) -> None:
    parents = await site.schedule(PARENTS, 0.3, "parent")
    first = await site.start("worker", **LEASE).ready()
    await eventually(lambda: site.count("worker_jobs_open", "waiting_for = 'children'") >= 2, within=20)
    first.kill()
    await site.start("worker", **LEASE).ready()
    await site.all_done(within=30)
    rows = site.rows("SELECT id, parent_id, status FROM worker_jobs_finished")
    children = [row["id"] for row in rows if row["parent_id"] in parents]
    assert len(children) == 2 * PARENTS, "children were made twice or lost"
    entries = site.check([*parents, *children])
    assert {row["status"] for row in rows} == {"COMPLETED"}
    assert site.count("job_events", "kind = 'rescued'") >= 2
    assert max(ledger.starts(entries)[each] for each in parents) == 2


async def test_a_worker_is_killed_while_its_parents_wait_for_the_second_of_two(site: Site) -> None:
    parents = await site.schedule(3, 0.7, "gathers")
    first = await site.start("worker", **LEASE).ready()
    waits = "waiting_for = 'children' AND type = 'gathers' AND cardinality(awaiting) = 1"
    await eventually(lambda: site.count("worker_jobs_open", waits), within=20)
    first.kill()
    await site.start("worker", **LEASE).ready()
    await site.all_done(within=30)
    rows = site.rows("SELECT id, parent_id, status FROM worker_jobs_finished")
    children = [row["id"] for row in rows if row["parent_id"] in parents]
    assert len(children) == 2 * len(parents), "children were made twice or lost"
    site.check([*parents, *children])
    assert {row["status"] for row in rows} == {"COMPLETED"}
    assert site.count("job_events", "kind = 'rescued'") >= 1


async def test_a_worker_is_killed_before_the_children_it_asked_for_are_committed(site: Site) -> None:
    parents = await site.schedule(3, 0.05, "parent")
    with held_up(site, "INSERT", "NEW.parent_id IS NOT NULL") as gate:
        first = await site.start("worker", **LEASE).ready()
        await eventually(lambda: len(gate.backends()) == 3, within=20)
        first.kill()
        gate.open()
        await eventually(lambda: not gate.backends())
    assert site.count("worker_jobs_open", "parent_id IS NOT NULL") == 0, "children without a commit"
    await site.start("worker", **LEASE).ready()
    await site.all_done(within=30)
    rows = site.rows("SELECT id, parent_id, status, attempt FROM worker_jobs_finished")
    children = [row["id"] for row in rows if row["parent_id"] in parents]
    assert len(children) == 2 * len(parents)
    starts = ledger.starts(site.check([*parents, *children]))
    assert {row["status"] for row in rows} == {"COMPLETED"}
    assert {starts[each] for each in children} == {1}
    # It held three: nobody knows which of them killed it.
    assert {row["attempt"] for row in rows if row["id"] in parents} == {1}


@pytest.mark.parametrize("is_committed", [False, True])
async def test_a_worker_is_killed_between_the_last_childs_end_and_its_parents_going_on(
    site: Site, *, is_committed: bool
) -> None:
    """``is_committed``: the server has done what the dead worker asked for last."""
    parents = await site.schedule(3, 0.05, "parent")
    with held_up(site, "UPDATE", "OLD.waiting_for = 'children' AND NEW.status = 'EXECUTING'") as gate:
        first = await site.start("worker", **LEASE).ready()
        await eventually(lambda: len(gate.backends()) == 3, within=20)
        assert site.count("worker_jobs_finished") == 6
        first.kill()
        if not is_committed:
            site.rows("SELECT pg_terminate_backend(unnest(%s::int[]))", [gate.backends()])
            await eventually(lambda: not gate.backends())
        gate.open()
        after = "EXECUTING" if is_committed else "WAITING"
        await eventually(lambda: site.count("worker_jobs_open", f"status = '{after}'") == 3)
    await site.start("worker", **LEASE).ready()
    await site.all_done(within=30)
    rows = site.rows("SELECT id, parent_id, status FROM worker_jobs_finished")
    children = [row["id"] for row in rows if row["parent_id"] in parents]
    assert len(children) == 6, "children were made twice or lost"
    starts = ledger.starts(site.check([*parents, *children]))
    assert {row["status"] for row in rows} == {"COMPLETED"}
    assert {starts[each] for each in children} == {1}
    assert {starts[each] for each in parents} == {2}
    assert site.count("job_events", "kind = 'rescued'") == 3
