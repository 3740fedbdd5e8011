"""How far ahead a worker claims, and when it gives back what it has not begun."""

import asyncio
import itertools

import pytest

from adapter import Adapter, JobSpec
from adapter.core.look_ahead import LookAhead
from adapter.domain.outcome import Lease
from adapter.store.claims import Claimed
from tests.fakes.clock import ManualClock
from tests.kit import eventually
from tests.rig import new_id, rigged


def claimed(payload: str) -> Claimed:
    columns = [str(new_id()), "quick", payload, 1, 1, 1, 0, 1, "default", None, None]
    return Claimed(columns, Lease(new_id(), 1))


@pytest.mark.parametrize(("rate", "ahead"), [(0, 0), (100, 20), (5_000, 1_000), (100_000, 2_000)])
def test_it_holds_a_fifth_of_a_seconds_work_and_no_more_than_it_may(rate: int, ahead: int) -> None:
    look_ahead = LookAhead(2_000)
    assert look_ahead.measure(10.0, 0) == 0
    assert look_ahead.measure(11.0, rate) == ahead


def test_large_payloads_are_not_hoarded() -> None:
    look_ahead, seconds = LookAhead(2_000), itertools.count(1)

    def after(payload: str) -> int:
        look_ahead.saw([claimed(payload)])
        now = next(seconds)
        return look_ahead.measure(float(now), now * 100_000)

    assert after("x" * 100) == 2_000
    assert after("x" * 1_000_000) == 16
    # And not at once again after a small one.
    assert 16 < after("x") <= 32
    look_ahead.saw([])
    assert [after("x") for _ in range(10)][-1] == 2_000


async def test_what_has_just_come_is_not_given_back_for_what_came_before_it(database_url: str) -> None:
    clock, gates = ManualClock(), [asyncio.Event(), asyncio.Event()]

    def declare(adapter: Adapter) -> None:
        @adapter.task("held")
        async def held(payload: int) -> None:
            await gates[payload].wait()

        del held

    async with rigged(database_url, declare, clock=clock) as rig:
        worker = rig.worker(concurrency=1)
        tries = worker._tries

        async def take(number: int, *payloads: int) -> None:
            await rig.adapter.schedule_specs([JobSpec("held", each) for each in payloads])
            _, jobs = await rig.claim(number, worker=worker.id)
            assert [job.data for job in jobs] == list(payloads)
            tries.take(jobs)

        await take(1, 0, 1)
        clock.advance(10)
        await take(2, 2, 3)
        gates[0].set()
        await eventually(lambda: len(tries.waiting) == 2)
        # Something has waited all along; what waits now has only come.
        tries.give_back_waiting(older_than=5)
        assert [job.data for job in tries.waiting.values()] == [2, 3]
        clock.advance(10)
        tries.give_back_waiting(older_than=5)
        assert not tries.waiting
        gates[1].set()
        await worker._families.settled()
        await worker._completer.flush()
        rows = await rig.sql("SELECT data, status, attempt FROM {s}.worker_jobs")
        states = [
            (row["data"], row["status"], row["attempt"]) for row in sorted(rows, key=lambda row: row["data"])
        ]
        assert states == [(0, "COMPLETED", 1), (1, "COMPLETED", 1), (2, "QUEUED", 0), (3, "QUEUED", 0)]
