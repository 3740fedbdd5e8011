"""Statuses at insert, and the moves nobody asks for: due, expired, admitted."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from psycopg import AsyncCursor

from adapter import Adapter
from adapter.store import upkeep
from adapter.store.outlook import Outlook, look
from tests.rig import Rig, rigged, usual_tasks

HOUR = timedelta(hours=1)


def with_holder(adapter: Adapter) -> None:
    usual_tasks(adapter)

    @adapter.task("holds", remote_id={"trigger": "holds"}, remote_delay=True)
    async def holds(payload: Any) -> Any:
        return payload

    del holds


@pytest.mark.parametrize(
    ("task", "options", "status", "waiting_for", "dispatchable"),
    [
        ("echo", {}, "QUEUED", None, False),
        ("echo", {"delay": HOUR}, "DELAYED", None, False),
        ("echo", {"delay": timedelta(0)}, "QUEUED", None, False),
        ("remote", {}, "PENDING", None, True),
        ("remote", {"delay": HOUR}, "DELAYED", None, True),
        ("remote", {"executor": "local"}, "WAITING", "executor", False),
        ("remote", {"executor": "local", "delay": HOUR}, "DELAYED", None, False),
        ("holds", {"executor": "trigger", "delay": HOUR}, "PENDING", None, True),
        ("holds", {"delay": HOUR}, "DELAYED", None, False),
    ],
)
async def test_the_status_at_insert(
    database_url: str, *, task: str, options: Any, status: str, waiting_for: str | None, dispatchable: bool
) -> None:
    async with rigged(database_url, with_holder) as rig:
        job = await rig.adapter.schedule_job(task, 1, **options)
        row = await rig.row(job.id)
        assert (row["status"], row["waiting_for"]) == (status, waiting_for)
        assert (row["next_try_at"] is not None) is dispatchable
        assert (job.status, job.job.waiting_for) == (status, waiting_for)
        assert (job.job.created_at, job.job.due) == (row["created_at"], row["due"])


async def test_expiry_counts_from_the_due_time(rig: Rig) -> None:
    now = await rig.adapter.schedule_job("echo", 1, ttl=HOUR)
    later = await rig.adapter.schedule_job("echo", 1, ttl=HOUR, delay=2 * HOUR)
    rows = [await rig.row(job.id) for job in (now, later)]
    assert [row["expires_at"] - row["created_at"] for row in rows] == [HOUR, 3 * HOUR]


async def test_what_is_due_becomes_ready_here_or_goes_to_the_dispatcher(rig: Rig) -> None:
    local = await rig.adapter.schedule_job("echo", 1, delay=HOUR)
    remote = await rig.adapter.schedule_job("remote", 1, delay=HOUR)
    early = await rig.adapter.schedule_job("echo", 1, delay=HOUR)
    there = await rig.adapter.schedule_job("remote", 1, delay=HOUR)
    await rig.set(there.id, "submit_state = 'accepted'")
    for job in (local, remote, there):
        await rig.set(job.id, "due = now() - interval '1 s'")
    seq = await rig.value("SELECT max(seq) FROM {s}.worker_jobs_open")
    async with rig.adapter.database.connection() as conn:
        promoted = await upkeep.promote(conn, rig.schema)
        assert (promoted.queues, promoted.remote, promoted.count) == ({"default"}, True, 2)
        assert (await upkeep.promote(conn, rig.schema)).count == 0
        assert 3500 < ((await look(conn, rig.schema, HOUR)).due_s or 0) <= 3600
    assert [await rig.status(job.id) for job in (local, remote, early, there)] == [
        "QUEUED", "PENDING", "DELAYED", "DELAYED",
    ]  # fmt: skip
    assert (await rig.row(local.id))["seq"] > seq, "what became ready later is claimed later"


async def test_two_promoters_share_the_work(rig: Rig) -> None:
    for n in range(30):
        await rig.adapter.schedule_job("echo", n, delay=HOUR)
    await rig.sql("UPDATE {s}.worker_jobs_open SET due = now()")

    async def promote() -> int:
        async with rig.adapter.database.connection() as conn:
            return (await upkeep.promote(conn, rig.schema, limit=20)).count

    counts = await asyncio.gather(promote(), promote(), promote())
    assert sum([*counts, await promote()]) == 30


@pytest.mark.parametrize(
    ("task", "state", "expires"),
    [
        ("echo", "status = 'QUEUED'", True),
        ("echo", "status = 'DELAYED'", True),
        ("echo", "status = 'WAITING', waiting_for = 'executor'", True),
        ("echo", "status = 'QUEUED', started = now()", False),
        ("echo", "status = 'EXECUTING', started = now()", False),
        ("remote", "submit_state = 'never'", True),
        ("remote", "submit_state = 'trying', dispatch_lease = gen_random_uuid()", False),
        ("remote", "submit_state = 'unknown'", False),
        ("remote", "submit_state = 'accepted', status = 'QUEUED'", False),
    ],
)
async def test_only_what_nobody_was_given_expires(rig: Rig, task: str, state: Any, expires: bool) -> None:
    job = await rig.adapter.schedule_job(task, 1, ttl=HOUR, idempotency_key="k")
    await rig.set(job.id, state)
    await rig.set(job.id, "expires_at = now() - interval '1 s'")
    async with rig.adapter.database.connection() as conn:
        ended = await upkeep.expire(conn, rig.schema)
    assert [each.id for each in ended] == ([job.id] if expires else [])
    row = await rig.row(job.id)
    assert (row["status"] == "EXPIRED") is expires
    if expires:
        assert (row["success"], row["error"]["name"]) == (False, "Expired")
        assert await rig.value("SELECT count(*) FROM {s}.job_keys") == 0


async def test_jobs_are_admitted_when_a_worker_that_can_run_them_appears(database_url: str) -> None:
    async with rigged(database_url) as rig:
        mine = await rig.adapter.schedule_job("remote", 1, executor="local")
        other = await rig.adapter.schedule_job("idempotent", 1, executor="local")
        async with rig.adapter.database.connection() as conn:
            assert await upkeep.admit(conn, rig.schema, ["remote", "never heard of"]) == {"default"}
            assert await upkeep.admit(conn, rig.schema, ["remote"]) == frozenset()
        row = await rig.row(mine.id)
        assert (row["status"], row["waiting_for"]) == ("QUEUED", None)
        assert await rig.status(other.id) == "WAITING"


async def test_a_worker_without_the_handler_gives_the_job_back_and_one_with_it_admits_it(
    database_url: str,
) -> None:
    def capable(adapter: Adapter) -> None:
        @adapter.task("remote")
        async def remote(payload: Any) -> Any:
            return payload

        del remote

    async with rigged(database_url) as without, rigged(database_url, capable) as able:
        job = await able.adapter.schedule_job("remote", 7)
        await without.work()
        row = await able.row(job.id)
        assert (row["status"], row["waiting_for"], row["attempt"]) == ("WAITING", "executor", 0)
        await able.work()
        row = await able.row(job.id)
        assert (row["status"], row["result"]) == ("COMPLETED", 7)


async def test_an_idle_process_asks_one_question_for_each_of_its_loops(rig: Rig) -> None:
    """Each second, in each process: what that costs a database is this times the size of the fleet."""
    adapter = rig.adapter
    loops = (
        adapter.maintenance,
        adapter.router,
        adapter.firing,
        adapter.shadows,
        adapter.bulk,
        adapter.hand_overs,
    )
    for each in loops:
        # What is done when a process begins, or now and then.
        await each.loop._work()
    with mock.patch.object(AsyncCursor, "execute", autospec=True, side_effect=AsyncCursor.execute) as execute:
        for each in loops:
            await each.loop._work()
    assert execute.call_count == len(loops), execute.call_args_list


async def test_each_chore_that_waits_is_seen_and_done(rig: Rig) -> None:
    """One question decides what is done at all: whatever it forgets is done by nobody."""
    adapter, margin = rig.adapter, timedelta(seconds=60)

    async def seen() -> Outlook:
        async with adapter.database.connection() as conn:
            return await look(conn, rig.schema, margin)

    nothing = Outlook(
        due_s=None,
        timeout_s=None,
        have_expired=False,
        are_overrun=False,
        are_done_waiting=False,
        were_canceled=False,
    )
    assert await seen() == nothing
    due = await adapter.schedule_job("echo", 1, delay=HOUR)
    assert 3500 < ((await seen()).next_s or 0) <= 3600
    await rig.set(due.id, "due = now() - interval '1 s'")
    expired = await adapter.schedule_job("echo", 2, ttl=HOUR)
    await rig.set(expired.id, "expires_at = now()")
    waiting = await adapter.schedule_job("echo", 3)
    await rig.set(
        waiting.id, "status = 'WAITING', waiting_for = 'token', awaiting = ARRAY[gen_random_uuid()]"
    )
    token = await adapter.create_token(timeout=HOUR)
    await rig.sql(
        "UPDATE {s}.wait_tokens SET timeout_at = now() - interval '1 s' WHERE id = %(id)s", id=token.id
    )
    overrun = await adapter.schedule_job("echo", 4, queue="other", max_duration=timedelta(seconds=5))
    lease, _ = await rig.claim(queue="other")
    # Whoever holds it is known, and so nobody rescues it.
    await rig.sql(
        "INSERT INTO {s}.workers (id, name, host, pid, lease) VALUES (%(id)s, 'w', 'h', 1, '1 h')",
        id=lease.worker_id,
    )
    await rig.set(overrun.id, "deadline = now() - interval '1 h'")
    parent = await adapter.schedule_job("echo", 5)
    child = await adapter.schedule_job("echo", 6)
    await rig.sql(
        "UPDATE {s}.worker_jobs_open SET parent_id = %(parent)s WHERE id = %(id)s",
        parent=parent.id,
        id=child.id,
    )
    await rig.sql(
        "INSERT INTO {s}.family_cancels (job_id, reason, actor) VALUES (%(id)s, 'why', 'who')", id=parent.id
    )
    outlook = await seen()
    assert (outlook.are_due, outlook.are_timed_out) == (True, True)
    assert replace(outlook, due_s=None, timeout_s=None) == replace(
        nothing, have_expired=True, are_overrun=True, are_done_waiting=True, were_canceled=True
    )
    await adapter.maintenance.run_once()
    assert [await rig.status(job.id) for job in (due, expired, waiting, overrun, child)] == [
        "QUEUED", "EXPIRED", "QUEUED", "TIMED_OUT", "CANCELED",
    ]  # fmt: skip
    assert await rig.value("SELECT status FROM {s}.wait_tokens") == "TIMED_OUT"
    # Kept for a minute, in case a child is committed late.
    assert await seen() == replace(nothing, were_canceled=True)
