"""Claims: order, room, pauses; and limits that hold exactly, however many claim at once."""

import asyncio
from typing import Any
from uuid import UUID

from adapter import JobSpec, JobStatus
from adapter.domain.limits import Limits
from adapter.domain.outcome import Lease
from adapter.store import claims, endings, limited_claims, processes
from adapter.store.claims import Claimed
from tests.rig import Rig, new_id


async def _claim(rig: Rig, room: int = 100, *queues: str) -> list[Claimed]:
    async with rig.adapter.database.connection() as conn:
        return await claims.claim(conn, rig.schema, Lease(new_id(), 1), queues or ("default",), room)


async def _limited(rig: Rig, room: int = 100, *queues: str) -> tuple[Lease, list[Claimed]]:
    lease = Lease(new_id(), 1)
    async with rig.adapter.database.connection() as conn:
        return lease, await limited_claims.claim_limited(conn, rig.schema, lease, queues or ("few",), room)


async def _queue(rig: Rig, name: str, limit: int | None) -> None:
    async with rig.adapter.database.connection() as conn:
        await processes.declare_queues(conn, rig.schema, {name: Limits(concurrency_limit=limit)})


async def test_higher_priority_first_then_the_oldest(rig: Rig) -> None:
    for n in range(6):
        await rig.adapter.schedule_job("echo", n, priority=n % 2)
    assert [(await _claim(rig, 1))[0].data for _ in range(6)] == [1, 3, 5, 0, 2, 4]


async def test_a_call_of_many_is_claimed_in_its_order(rig: Rig) -> None:
    await rig.adapter.schedule_specs([JobSpec("echo", n) for n in range(50)])
    order = [(await _claim(rig, 1))[0].data for _ in range(50)]
    assert order == list(range(50))


async def test_no_more_than_there_is_room_for_over_all_queues(rig: Rig) -> None:
    for name in ("a", "b", "c"):
        await rig.adapter.schedule_specs([JobSpec("echo", n, {"queue": name}) for n in range(5)])
    assert len(await _claim(rig, 7, "a", "b", "c")) == 7
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs_open WHERE status = 'EXECUTING'") == 7


async def test_only_ready_local_jobs_of_the_named_queues(rig: Rig) -> None:
    await rig.adapter.schedule_job("echo", 1, queue="other")
    await rig.adapter.schedule_job("remote", 1)
    waiting = await rig.adapter.schedule_job("remote", 1, executor="local")
    assert await _claim(rig) == []
    assert await rig.status(waiting.id) == "WAITING"


async def test_a_claim_says_who_holds_the_job_and_counts_the_attempt(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo", 1, tag="t")
    lease, (claimed,) = await rig.claim(41)
    row = await rig.row(job.id)
    assert (row["worker_id"], row["claim_number"], row["attempt"], row["tag_held"]) == (
        lease.worker_id,
        41,
        1,
        False,
    )
    assert (claimed.job.status, claimed.attempt, claimed.job.started) == (
        JobStatus.EXECUTING,
        1,
        row["started"],
    )
    started = row["started"]
    await rig.set(job.id, "status = 'QUEUED'")
    await rig.claim(42)
    row = await rig.row(job.id)
    assert (row["attempt"], row["started"]) == (2, started)


async def test_eight_claimers_never_exceed_a_limit_of_five(rig: Rig) -> None:
    """A ledger by trigger: it sees every moment at which one more job executes."""
    await _queue(rig, "few", 5)
    await rig.adapter.schedule_specs([JobSpec("echo", n, {"queue": "few"}) for n in range(60)])
    await rig.sql("CREATE TABLE {s}.ledger (n int)")
    await rig.sql("""
        CREATE FUNCTION {s}.count_running() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          INSERT INTO {s}.ledger SELECT count(*) FROM {s}.worker_jobs_open WHERE status = 'EXECUTING' AND queue = 'few';
          RETURN NULL;
        END $$""")
    await rig.sql(
        "CREATE TRIGGER count_running AFTER UPDATE ON {s}.worker_jobs_open"
        " FOR EACH STATEMENT EXECUTE FUNCTION {s}.count_running()"
    )
    done: list[UUID] = []

    async def claimer() -> None:
        while len(done) < 60:
            lease, jobs = await _limited(rig, 3)
            ended = [
                endings.Ending(job_id=job.id, epoch=1, lease=lease, status=JobStatus.COMPLETED)
                for job in jobs
            ]
            async with rig.adapter.database.connection() as conn:
                done.extend(job.id for job in await endings.finish(conn, rig.schema, ended))

    try:
        async with asyncio.timeout(20):
            await asyncio.gather(*(claimer() for _ in range(8)))
        assert len(set(done)) == len(done) == 60
        most = await rig.value("SELECT max(n) FROM {s}.ledger")
        assert 1 < most <= 5
    finally:
        await rig.sql("DROP FUNCTION {s}.count_running CASCADE")
        await rig.sql("DROP TABLE {s}.ledger")


async def test_what_executes_already_counts(rig: Rig) -> None:
    await _queue(rig, "few", 3)
    await rig.adapter.schedule_specs([JobSpec("echo", n, {"queue": "few"}) for n in range(9)])
    _, first = await _limited(rig, 2)
    _, second = await _limited(rig, 9)
    _, third = await _limited(rig, 9)
    assert [len(each) for each in (first, second, third)] == [2, 1, 0]


async def test_a_limit_of_zero_and_a_pause_let_nothing_through(rig: Rig) -> None:
    await _queue(rig, "few", 0)
    await rig.adapter.schedule_job("echo", 1, queue="few")
    assert (await _limited(rig))[1] == []
    await _queue(rig, "few", 5)
    await rig.sql("UPDATE {s}.job_queues SET paused_at = now() WHERE name = 'few'")
    assert (await _limited(rig))[1] == []
    await rig.sql(
        "UPDATE {s}.job_queues SET paused_at = NULL, overrides = '{\"concurrency_limit\": 1}' WHERE name = 'few'"
    )
    assert len((await _limited(rig))[1]) == 1


async def test_a_limit_set_by_a_person_holds_for_workers_that_have_not_heard_of_it(rig: Rig) -> None:
    """A worker reads the queues every 5 s; what was turned in between holds all the same."""
    await rig.adapter.schedule_specs([JobSpec("echo", n, {"queue": "few"}) for n in range(4)])
    worker = rig.worker(concurrency=1)
    assert await worker.run_once() == 1
    await rig.sql("UPDATE {s}.job_queues SET paused_at = now() WHERE name = 'few'")
    assert await worker.run_once() == 0
    await rig.sql(
        "UPDATE {s}.job_queues SET paused_at = NULL, overrides = '{\"concurrency_limit\": 0}' WHERE name = 'few'"
    )
    assert await worker.run_once() == 0


async def test_retries_return_to_the_end_of_their_queue(rig: Rig) -> None:
    first = await rig.adapter.schedule_job("echo", 1)
    lease, _ = await rig.claim()
    second = await rig.adapter.schedule_job("echo", 2)
    given: Any = {"job_id": first.id, "epoch": 1, "lease": lease, "kind": "retry"}
    async with rig.adapter.database.connection() as conn:
        assert await endings.give_back(conn, rig.schema, [endings.GivingBack(**given)]) == {
            first.id: "default"
        }
    assert [job.id for each in [await _claim(rig, 1), await _claim(rig, 1)] for job in each] == [
        second.id,
        first.id,
    ]
