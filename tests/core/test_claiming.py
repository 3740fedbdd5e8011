"""When a worker claims: at news and while there is more, not each time that one of its jobs has ended."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from adapter import Adapter, Queue
from adapter.core import claiming
from adapter.core.surroundings import Surroundings
from adapter.domain.outcome import Lease
from adapter.store import claims, endings
from adapter.store.limited_claims import are_any_ready, claim_limited
from adapter.store.own_connection import OwnConnection
from tests.fakes.clock import ManualClock
from tests.kit import eventually
from tests.rig import Rig, new_id, rigged

NUMBER = 12


@pytest.fixture(autouse=True)
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found here is found because somebody told."""
    monkeypatch.setattr(claiming, "_POLL_S", 60.0)


async def _completed(rig: Rig) -> int:
    return await rig.value("SELECT count(*) FROM {s}.worker_jobs_finished WHERE success")


@pytest.mark.direct("without news the ends ask")
async def test_the_end_of_a_job_asks_for_no_other_when_none_was_left(database_url: str) -> None:
    async with rigged(database_url) as producer, rigged(database_url) as rig:
        running = rig.adapter.running(work=True, dispatch=False, sync=False)
        async with running as worker:
            assert worker is not None
            await eventually(lambda: worker._claimer.is_drained)
            before = worker._claimer.count
            for number in range(NUMBER):
                await producer.adapter.schedule_job("echo", number)

                async def is_done(count: int = number + 1) -> bool:
                    return await _completed(rig) == count

                await eventually(is_done)
            # News that come while it claims make it look again; ends do not.
            assert NUMBER <= worker._claimer.count - before < NUMBER * 1.5


@pytest.mark.direct("there are no news")
async def test_news_that_find_no_room_are_not_forgotten(database_url: str) -> None:
    gate, seen = asyncio.Event(), list[int]()

    def declare(adapter: Adapter) -> None:
        @adapter.task("slow")
        async def slow(payload: int) -> None:
            seen.append(payload)
            await gate.wait()

        del slow

    async with rigged(database_url, declare) as producer, rigged(database_url, declare) as rig:
        running = rig.adapter.running(work=True, dispatch=False, sync=False, concurrency=1)
        async with running as worker:
            assert worker is not None
            await eventually(lambda: worker._claimer.is_drained)
            await producer.adapter.schedule_job("slow", 1)
            await eventually(lambda: seen == [1])
            await producer.adapter.schedule_job("slow", 2)
            await producer.adapter.schedule_job("slow", 3)
            gate.set()
            await eventually(lambda: seen == [1, 2, 3])


async def test_a_claim_that_comes_short_behind_the_head_is_followed_by_one_from_there(
    database_url: str,
) -> None:
    async with rigged(database_url) as rig:
        worker = rig.worker()
        await worker.run_once()
        for number in range(2):
            await rig.adapter.schedule_job("echo", number)
        worker._claimer._cursors._after["default"] = (2**30, 0)
        assert [await worker._fill(0), worker._tries.taken] == [True, 0]
        assert [await worker._fill(0), worker._tries.taken] == [False, 2]
        await worker.run_once()


@pytest.mark.direct("no plan is kept")
async def test_plans_that_were_made_for_an_empty_table_read_no_full_one(database_url: str) -> None:
    """They are kept as long as the worker's connection, and what is true of an empty table does not last."""
    async with rigged(database_url) as rig:
        own = OwnConnection(rig.adapter.database, "claim")
        own.hold()
        claimed = {"queues": ["default"], "room": 20, "after_priority": [0], "after_seq": [0]}
        given = {"worker_id": new_id(), "ids": "{}", "epochs": "{}", "claim_numbers": "{}", "results": "{}"}
        holder: dict[str, Any] = {"worker_id": new_id(), "claim_number": 1, "plain": []}
        try:
            async with own.lend() as conn:
                for template, parameters in (
                    (claims._CLAIM, holder | claimed),
                    (endings._COMPLETE, given),
                ):
                    cursor = await conn.execute(b"EXPLAIN " + rig.schema.sql(template).encode(), parameters)
                    plan = "\n".join(row["QUERY PLAN"] for row in await cursor.fetchall())
                    assert "Seq Scan on worker_jobs_open" not in plan, plan
        finally:
            await own.close()


async def test_a_job_that_has_just_come_does_not_wait_for_a_look_at_the_queues(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, clock = list[str](), ManualClock()
    look, take = Surroundings.look, claiming.claim

    async def looked(self: Surroundings, known: Sequence[str]) -> bool:
        order.append("look")
        return await look(self, known)

    async def claimed(*args: Any, **options: Any) -> list[claims.Claimed]:
        order.append("claim")
        return await take(*args, **options)

    monkeypatch.setattr(Surroundings, "look", looked)
    monkeypatch.setattr(claiming, "claim", claimed)
    async with rigged(database_url, clock=clock) as rig:
        worker = rig.worker()
        await rig.adapter.schedule_job("echo", 1)
        assert await worker.run_once() == 1
        # Only the first time: without a look it knows of no queue.
        assert order == ["look", "claim"]
        assert await worker.run_once() == 0
        clock.advance(60)
        await rig.adapter.schedule_job("echo", 2)
        assert await worker.run_once() == 1
        assert order[2:] == ["claim", "claim", "look"]
        # A queue that it hears of and does not know is another matter.
        worker.heard({"new"})
        await rig.adapter.schedule_job("echo", 3, queue="new")
        assert await worker.run_once() == 1
        assert order[5:] == ["look", "claim"]


async def test_room_that_another_worker_makes_under_a_limit_is_found_though_nobody_tells(
    database_url: str,
) -> None:
    def declare(adapter: Adapter) -> None:
        @adapter.task("narrow", queue=Queue("narrow", concurrency_limit=1))
        async def narrow(payload: int) -> int:
            return payload

        del narrow

    async with rigged(database_url, declare) as rig:
        holder = rig.worker()
        # So it is known, and alive for as long as its lease.
        assert await holder.run_once() == 0
        schema, lease = rig.schema, Lease(holder.id, 2)
        jobs = [await rig.adapter.schedule_job("narrow", number) for number in range(2)]
        async with rig.adapter.database.connection() as conn:
            [held] = await claim_limited(conn, schema, lease, ["narrow"], 1)
        async with rig.adapter.running(work=True, dispatch=False, sync=False) as worker:
            assert worker is not None
            await eventually(lambda: worker._claimer.misses > 2)
            assert await rig.status(jobs[1].id) == "QUEUED"
            async with rig.adapter.database.connection() as conn:
                done = endings.Completion(held.key, held.epoch, lease.claim_number, "0")
                assert await endings.complete(conn, schema, lease.worker_id, [done]) == 1
            assert await jobs[1].result(timedelta(seconds=10)) == 1
            await eventually(lambda: worker._claimer.misses == 0)


async def test_what_is_claimed_begins_before_the_queues_with_a_limit_are_looked_at(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, begun_before = list[str](), list[list[str]]()

    def declare(adapter: Adapter) -> None:
        @adapter.task("free")
        async def free(payload: str) -> None:
            seen.append(payload)

        @adapter.task("limited", queue=Queue("limited", concurrency_limit=1))
        async def limited(payload: str) -> None:
            seen.append(payload)

        del free, limited

    async def look(*given: Any) -> bool:
        begun_before.append([*seen])
        return await are_any_ready(*given)

    monkeypatch.setattr(claiming, "are_any_ready", look)
    async with rigged(database_url, declare) as rig:
        await rig.adapter.schedule_job("free", "a")
        await rig.adapter.schedule_job("limited", "b")
        assert await rig.worker().run_once() == 2
    assert begun_before == [["a"]]
    assert seen == ["a", "b"]
