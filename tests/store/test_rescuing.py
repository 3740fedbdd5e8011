"""What becomes of a dead worker's jobs, and that a verdict is worth nothing once its worker has moved."""

import asyncio
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from adapter.store import endings, liveness, rescuing
from adapter.store.rescuing import Verdict
from tests.rig import Rig, new_id

HOUR = timedelta(hours=1)


async def add_worker(rig: Rig, worker: UUID, *, lease: str = "1 ms", key: int | None = None) -> None:
    """A worker; the lease is short, since it counts from the server's start at the earliest."""
    await rig.sql(
        "INSERT INTO {s}.workers (id, name, host, pid, lease, lock_key)"
        " VALUES (%(id)s, 'w', 'h', 1, %(lease)s::interval, %(key)s)",
        id=worker,
        lease=lease,
        key=key,
    )


async def verdict(rig: Rig, worker: UUID, *, early: bool = False) -> Verdict:
    async with rig.adapter.database.connection() as conn:
        pulses = {each.worker_id: each for each in await liveness.look(conn, rig.schema)}
    return Verdict(worker, pulses[worker].seen, early)


async def carry_out(
    rig: Rig, *verdicts: Verdict, unknown: list[UUID] | None = None, lease: timedelta = HOUR
) -> tuple[int, list[str]]:
    async with rig.adapter.database.connection() as conn:
        found = await rescuing.rescue(conn, rig.schema, verdicts, unknown=unknown or [], lease=lease)
    return found.count, [job.status.value for job in found.ended]


async def test_jobs_of_a_dead_worker_are_rescued_and_those_of_others_are_not(rig: Rig) -> None:
    await rig.adapter.schedule_job("echo", 1)
    dead, _ = await rig.claim()
    job = await rig.adapter.schedule_job("echo", 2)
    alive, _ = await rig.claim()
    await add_worker(rig, dead.worker_id)
    await add_worker(rig, alive.worker_id)
    assert await carry_out(rig, await verdict(rig, dead.worker_id)) == (1, [])
    row = await rig.row(job.id)
    assert (row["status"], row["worker_id"]) == ("EXECUTING", alive.worker_id)


async def test_a_verdict_falls_with_the_next_heartbeat(rig: Rig) -> None:
    await rig.adapter.schedule_job("echo", 1)
    lease, _ = await rig.claim()
    await add_worker(rig, lease.worker_id)
    passed = await verdict(rig, lease.worker_id)
    await rig.sql(liveness.BEAT, id=lease.worker_id, lock_key=None)
    assert await carry_out(rig, passed) == (0, [])
    assert await carry_out(rig, await verdict(rig, lease.worker_id)) == (1, [])


async def test_a_heartbeat_that_is_being_written_keeps_the_jobs(rig: Rig) -> None:
    await rig.adapter.schedule_job("echo", 1)
    lease, _ = await rig.claim()
    await add_worker(rig, lease.worker_id)
    passed = await verdict(rig, lease.worker_id)
    async with await psycopg.AsyncConnection.connect(rig.url) as beating:
        await beating.execute(rig.schema.sql(liveness.BEAT), {"id": lease.worker_id, "lock_key": None})
        assert await carry_out(rig, passed) == (0, [])
        await beating.commit()
    assert await carry_out(rig, passed) == (0, [])


async def test_an_early_verdict_falls_when_the_lock_is_held_again(rig: Rig) -> None:
    await rig.adapter.schedule_job("echo", 1)
    lease, _ = await rig.claim()
    key = liveness.lock_key(rig.schema, lease.worker_id)
    await add_worker(rig, lease.worker_id, key=key)
    passed = await verdict(rig, lease.worker_id, early=True)
    await rig.conn.execute("SELECT pg_advisory_lock(%s)", [key])
    assert await carry_out(rig, passed) == (0, [])
    await rig.conn.execute("SELECT pg_advisory_unlock(%s)", [key])
    assert await carry_out(rig, passed) == (1, [])


@pytest.mark.parametrize("key", [0, 1, -1, 2**63 - 1, -(2**63), 2**31, 2**32, -(2**32) - 5])
async def test_every_key_is_seen_when_it_is_held_and_only_then(rig: Rig, key: int) -> None:
    worker = new_id()
    await add_worker(rig, worker, key=key)

    async def free() -> bool:
        async with rig.adapter.database.connection() as conn:
            (pulse,) = await liveness.look(conn, rig.schema)
        return pulse.lock_is_free

    assert await free()
    await rig.conn.execute("SELECT pg_advisory_lock(%s)", [key])
    assert not await free()
    await rig.conn.execute("SELECT pg_advisory_unlock(%s)", [key])
    assert await free()


async def test_a_worker_that_told_of_no_lock_never_looks_as_if_it_had_lost_one(rig: Rig) -> None:
    worker = new_id()
    await add_worker(rig, worker)
    await rig.sql("UPDATE {s}.workers SET backend_pid = 1")
    async with rig.adapter.database.connection() as conn:
        (pulse,) = await liveness.look(conn, rig.schema)
    assert not pulse.lock_is_free


@pytest.mark.direct("the age of a session")
async def test_a_look_says_whether_server_and_connection_are_older_than_the_lease(rig: Rig) -> None:
    up = await rig.value("SELECT now() - pg_postmaster_start_time()")
    young, old, server = new_id(), new_id(), new_id()
    await add_worker(rig, old, lease="1 ms")
    await add_worker(rig, young, lease="10 s")
    await add_worker(rig, server, lease=f"{up.total_seconds() + 60:f} s")
    async with await rig.adapter.database.connect("a judge that has just come") as conn:
        await conn.execute("SELECT pg_sleep(0.01)")
        fresh = {each.worker_id: each.is_settled for each in await liveness.look(conn, rig.schema)}
    assert fresh == {old: True, young: up.total_seconds() < 0, server: False}


async def test_nobody_is_dead_before_the_server_is_up_for_a_lease(rig: Rig) -> None:
    """After PostgreSQL was down for an hour every worker is an hour silent, and none of them is dead."""
    await rig.adapter.schedule_job("echo", 1)
    lease, _ = await rig.claim()
    up = await rig.value("SELECT now() - pg_postmaster_start_time()")
    await add_worker(rig, lease.worker_id, lease=f"{up.total_seconds() + 60:f} s")
    assert await carry_out(rig, await verdict(rig, lease.worker_id)) == (0, [])
    await rig.sql("UPDATE {s}.workers SET lease = '1 ms'")
    assert await carry_out(rig, await verdict(rig, lease.worker_id)) == (1, [])


async def test_a_worker_whose_row_is_gone_is_judged_by_the_lease_we_know(rig: Rig) -> None:
    await rig.adapter.schedule_job("echo", 1)
    lease, _ = await rig.claim()
    async with rig.adapter.database.connection() as conn:
        unknown = await liveness.unknown(conn, rig.schema)
    assert unknown == [lease.worker_id]
    up = await rig.value("SELECT now() - pg_postmaster_start_time()")
    assert await carry_out(rig, unknown=unknown, lease=up + HOUR) == (0, [])
    await add_worker(rig, lease.worker_id, lease="1 day")
    assert await carry_out(rig, unknown=unknown, lease=timedelta(0)) == (0, []), "it has come back"
    await rig.sql("DELETE FROM {s}.workers")
    assert await carry_out(rig, unknown=unknown, lease=timedelta(milliseconds=1)) == (1, [])


async def test_spent_attempts_and_canceled_jobs_are_buried(rig: Rig) -> None:
    spent = await rig.adapter.schedule_job("echo", 1, max_attempts=1, idempotency_key="k")
    canceled = await rig.adapter.schedule_job("echo", 2)
    lease, _ = await rig.claim()
    await rig.adapter.cancel_job(canceled.id)
    await add_worker(rig, lease.worker_id)
    count, ended = await carry_out(rig, await verdict(rig, lease.worker_id))
    assert (count, sorted(ended)) == (0, ["CANCELED", "CRASHED"])
    assert [await rig.status(job.id) for job in (spent, canceled)] == ["CRASHED", "CANCELED"]
    assert await rig.value("SELECT count(*) FROM {s}.job_keys") == 0
    assert await rig.events(spent.id) == ["buried"]


async def lose_a_worker(rig: Rig, jobs: int) -> tuple[int, list[str]]:
    """Let a worker claim so many jobs and die."""
    await rig.sql("UPDATE {s}.worker_jobs_open SET status = 'QUEUED' WHERE status = 'DELAYED'")
    lease, claimed = await rig.claim()
    assert len(claimed) == jobs
    await add_worker(rig, lease.worker_id)
    return await carry_out(rig, await verdict(rig, lease.worker_id))


async def test_a_worker_that_held_several_costs_none_of_them_an_attempt_until_one_meets_too_many(
    rig: Rig,
) -> None:
    poison = await rig.adapter.schedule_job("echo", max_attempts=2)
    for number in range(2):
        other = await rig.adapter.schedule_job("echo", max_attempts=2)
        assert await lose_a_worker(rig, 2) == (2, [])
        row = await rig.row(other.id)
        assert (row["attempt"], row["started"] is None) == (0, False)
        await rig.sql("DELETE FROM {s}.worker_jobs_open WHERE id = %(id)s", id=other.id)
        assert await rig.events(poison.id) == ["rescued"] * (number + 1)
    row = await rig.row(poison.id)
    assert row["attempt"] == 0
    (event,) = await rig.sql(
        "SELECT detail FROM {s}.job_events WHERE job_id = %(id)s ORDER BY id LIMIT 1", id=poison.id
    )
    assert (event["detail"]["attempt"], event["detail"]["spared"]) == (1, True)

    innocent = await rig.adapter.schedule_job("echo", max_attempts=2)
    assert await lose_a_worker(rig, 2) == (2, [])
    assert (await rig.row(poison.id))["attempt"] == 1, "it has been there as often as it has attempts"
    await rig.set(innocent.id, "attempt = 1")
    assert await lose_a_worker(rig, 2) == (1, ["CRASHED"])
    row = await rig.row(innocent.id)
    assert (await rig.status(poison.id), row["attempt"], row["status"]) == ("CRASHED", 1, "DELAYED")
    assert await lose_a_worker(rig, 1) == (0, ["CRASHED"]), "alone there is no doubt"


async def test_a_job_of_one_attempt_is_not_begun_again_whoever_was_to_blame(rig: Rig) -> None:
    once = await rig.adapter.schedule_job("echo", max_attempts=1)
    await rig.adapter.schedule_job("echo", max_attempts=2)
    assert await lose_a_worker(rig, 2) == (1, ["CRASHED"])
    assert await rig.status(once.id) == "CRASHED"


async def test_more_jobs_than_a_statement_takes_are_spared_alike(rig: Rig) -> None:
    jobs = [await rig.adapter.schedule_job("echo", n, max_attempts=2) for n in range(5)]
    lease, _ = await rig.claim()
    await add_worker(rig, lease.worker_id)
    passed = await verdict(rig, lease.worker_id)
    async with rig.adapter.database.connection() as conn:
        found = await rescuing.rescue(conn, rig.schema, [passed], lease=HOUR, limit=2)
    assert found.count == 5
    assert [(await rig.row(job.id))["attempt"] for job in jobs] == [0] * 5


async def test_a_job_that_has_once_begun_stays_begun_when_a_later_claim_comes_to_nothing(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo")
    await rig.adapter.schedule_job("echo")
    await lose_a_worker(rig, 2)
    fresh = await rig.adapter.schedule_job("echo")
    lease, _ = await rig.claim()
    async with rig.adapter.database.connection() as conn:
        assert await endings.return_unknown(conn, rig.schema, lease.worker_id, []) == 3
    assert [(await rig.row(each.id))["started"] is None for each in (job, fresh)] == [False, True]


async def test_two_rescuers_rescue_once(rig: Rig) -> None:
    jobs = [await rig.adapter.schedule_job("echo", n) for n in range(20)]
    lease, _ = await rig.claim()
    await add_worker(rig, lease.worker_id)
    passed = await verdict(rig, lease.worker_id)
    counts = [count for count, _ in await asyncio.gather(*(carry_out(rig, passed) for _ in range(4)))]
    assert sum(counts) == 20
    for job in jobs:
        assert await rig.events(job.id) == ["rescued"]


async def test_jobs_that_lose_a_second_worker_come_back_apart(rig: Rig) -> None:
    jobs = [await rig.adapter.schedule_job("echo", n, max_attempts=9) for n in range(4)]
    for number in range(2):
        lease, claimed = await rig.claim()
        assert len(claimed) == 4
        await add_worker(rig, lease.worker_id)
        fresh = await rig.adapter.schedule_job("echo", "new", max_attempts=9) if number else None
        if fresh is not None:
            await rig.claim(2, worker=lease.worker_id)
            jobs.append(fresh)
        assert await carry_out(rig, await verdict(rig, lease.worker_id)) == (len(jobs), [])
    rows = [await rig.row(job.id) for job in jobs]
    waits = [(row["due"] - row["updated_at"]).total_seconds() if row["due"] else 0 for row in rows]
    assert waits == [0, 2, 4, 6, 0], "those that were there before, and the one that was not"
    assert [row["status"] for row in rows] == ["QUEUED", "DELAYED", "DELAYED", "DELAYED", "QUEUED"]


async def test_however_many_come_back_apart_all_are_back_within_eight_seconds(rig: Rig) -> None:
    jobs = [await rig.adapter.schedule_job("echo", n, max_attempts=9) for n in range(40)]
    for _ in range(2):
        lease, claimed = await rig.claim()
        assert len(claimed) == 40
        await add_worker(rig, lease.worker_id)
        assert (await carry_out(rig, await verdict(rig, lease.worker_id)))[0] == 40
    dues = sorted([row["due"] - row["updated_at"] for job in jobs if (row := await rig.row(job.id))["due"]])
    assert len(set(dues)) == 39
    assert dues[-1] < timedelta(seconds=8)


@pytest.mark.parametrize("attempts", [3, 1], ids=["rescue", "bury"])
async def test_a_row_that_cannot_be_written_costs_the_others_nothing(rig: Rig, attempts: int) -> None:
    jobs = [await rig.adapter.schedule_job("echo", n, max_attempts=attempts) for n in range(5)]
    bad = jobs[2].id
    lease, _ = await rig.claim()
    await add_worker(rig, lease.worker_id)
    await rig.sql(
        "CREATE FUNCTION {s}.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'data_exception'; END $$"
    )
    refuse = sql.SQL(
        "CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON {t} FOR EACH ROW WHEN (OLD.id = {id}) EXECUTE FUNCTION {f}()"
    )
    schema = rig.schema.name
    table, function = sql.Identifier(schema, "worker_jobs_open"), sql.Identifier(schema, "refuse")
    await rig.conn.execute(refuse.format(t=table, id=sql.Literal(bad), f=function))
    try:
        count, ended = await carry_out(rig, await verdict(rig, lease.worker_id))
        assert (count, ended) == ((4, []) if attempts > 1 else (0, ["CRASHED"] * 4))
        assert await rig.status(bad) == "EXECUTING"
    finally:
        await rig.sql("DROP FUNCTION {s}.refuse() CASCADE")
    assert (await rig.adapter.maintenance.run_once()) == 0
    assert (await rig.adapter.maintenance.run_once()) == 1, "and it is tried again"


async def test_retention_forgets_workers_that_are_long_dead_and_hold_nothing(rig: Rig) -> None:
    await rig.adapter.schedule_job("echo", 1, max_attempts=9)
    lease, _ = await rig.claim()
    idle = new_id()
    for worker in (idle, lease.worker_id):
        await add_worker(rig, worker, lease="1000 days")
    await rig.sql("UPDATE {s}.workers SET seen_at = now() - interval '2 days'")
    await rig.adapter.retention.run_once()
    assert [row["id"] for row in await rig.sql("SELECT id FROM {s}.workers")] == [lease.worker_id]
