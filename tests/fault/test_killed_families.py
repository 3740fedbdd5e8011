"""kill -9 of a worker whose handlers wait for children: every parent completes, and children are made once."""

from tests.fault import ledger
from tests.fault.site import Site
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
