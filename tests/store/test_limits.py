"""Limits per key and rates: what one claim after the other takes."""

from collections import Counter
from datetime import timedelta
from typing import Any, LiteralString

import pytest

from adapter import JobSpec
from adapter.core.planning import ScheduleOptions
from adapter.domain.job import Job
from adapter.domain.limits import Limits, Rate
from adapter.domain.outcome import Lease
from adapter.store import limited_claims, processes, retention
from tests.rig import Rig, new_id

MINUTE = timedelta(minutes=1)


async def declare(rig: Rig, **limits: Any) -> None:
    async with rig.adapter.database.connection() as conn:
        await processes.declare_queues(conn, rig.schema, {"few": Limits(**limits)})


async def add(rig: Rig, *keys: str | None, priority: int = 0) -> None:
    options = [ScheduleOptions(queue="few", concurrency_key=key, priority=priority) for key in keys]
    await rig.adapter.schedule_specs([JobSpec("echo", n, each) for n, each in enumerate(options)])


async def fill(rig: Rig, key: LiteralString, count: int) -> None:
    """Many ready jobs at once; ``key`` is an expression over ``n``."""
    await rig.sql(
        "INSERT INTO {s}.worker_jobs_open (id, type, status, executor, queue, concurrency_key)"
        " SELECT gen_random_uuid(), 'echo', 'QUEUED', 'local', 'few', "
        + key
        + " FROM generate_series(1, %(count)s::int) AS n",
        count=count,
    )
    # Rows of tests before, dead but not removed, would be in the way of whatever counts what is read.
    await rig.sql("VACUUM (ANALYZE) {s}.worker_jobs_open")


async def claim(rig: Rig, room: int = 100) -> list[Job]:
    async with rig.adapter.database.connection() as conn:
        lease = Lease(new_id(), 1)
        claimed = await limited_claims.claim_limited(conn, rig.schema, lease, ["few"], room)
        return [each.job for each in claimed]


async def later(rig: Rig, by: timedelta) -> None:
    """Let time pass: what was counted was counted that much earlier."""
    for table in ("job_queues", "concurrency_keys"):
        shifted: LiteralString = (
            "UPDATE {s}."
            + table
            + " SET starts = (SELECT array_agg(ARRAY[starts[i][1] - %(by)s, starts[i][2]])"
            " FROM generate_subscripts(starts, 1) AS i) WHERE starts IS NOT NULL"
        )
        await rig.sql(shifted, by=by // timedelta(microseconds=1))


def keys(jobs: list[Job]) -> Counter[str | None]:
    return Counter(job.concurrency_key for job in jobs)


def _sum(counters: list[Counter[str | None]]) -> Counter[str | None]:
    return Counter(key for each in counters for key in each.elements())


async def test_each_key_has_its_own_copy_of_the_queues_limit(rig: Rig) -> None:
    await declare(rig, concurrency_limit=2)
    await add(rig, *["a"] * 5, *["b"] * 5, "c", *[None] * 5)
    assert keys(await claim(rig)) == {"a": 2, "b": 2, "c": 1, None: 2}
    assert await claim(rig) == []
    await rig.sql(
        "UPDATE {s}.worker_jobs_open SET status = 'QUEUED' WHERE status = 'EXECUTING' AND concurrency_key = 'b'"
    )
    assert keys(await claim(rig)) == {"b": 2}


async def test_a_key_limit_makes_the_queues_limit_one_over_all_keys(rig: Rig) -> None:
    await declare(rig, concurrency_limit=7, key_limit=2)
    await add(rig, *["a"] * 5, *["b"] * 5, *["c"] * 5, *[None] * 5)
    taken = keys(await claim(rig, 4)) + keys(await claim(rig))
    assert taken.total() == 7
    assert all(taken[key] == 2 for key in ("a", "b", "c")) or taken[None] >= 2
    assert max(taken[key] for key in ("a", "b", "c")) == 2
    assert await claim(rig) == []


async def test_a_key_limit_alone_leaves_jobs_without_a_key_alone(rig: Rig) -> None:
    await declare(rig, key_limit=1)
    await add(rig, *["a"] * 3, *[None] * 3)
    assert keys(await claim(rig)) == {"a": 1, None: 3}


async def test_a_queue_of_keys_with_a_limit_of_zero_stands_still(rig: Rig) -> None:
    await declare(rig, concurrency_limit=0)
    await add(rig, "a", None)
    assert await claim(rig) == []


async def test_keys_take_turns_and_priority_goes_first(rig: Rig) -> None:
    await declare(rig, key_limit=10)
    await add(rig, *["busy"] * 20)
    await add(rig, "late", "later")
    await add(rig, "urgent", "urgent", priority=5)
    first = await claim(rig, 5)
    assert keys(first) == {"urgent": 2, "busy": 1, "late": 1, "later": 1}
    assert keys(await claim(rig, 5)) == {"busy": 5}


async def test_what_runs_already_counts_for_the_turns_of_keys(rig: Rig) -> None:
    await declare(rig, key_limit=10)
    await add(rig, *["busy"] * 20)
    await claim(rig, 4)
    await add(rig, *["new"] * 5)
    assert keys(await claim(rig, 4)) == {"new": 4}


async def test_a_hundred_thousand_blocked_jobs_of_one_key_cost_one_probe(rig: Rig) -> None:
    await declare(rig, concurrency_limit=2)
    await fill(rig, "'blocked'", 100_000)
    assert keys(await claim(rig)) == {"blocked": 2}
    await add(rig, "free")
    parameters: dict[str, Any] = {
        "worker_id": new_id(),
        "claim_number": 1,
        "plain": [],
        "queue": "few",
        "room": 20,
    }
    statement = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + limited_claims._CLAIM_WALKING
    await rig.sql("BEGIN")
    ((found,),) = [tuple(row.values()) for row in await rig.sql(statement, **parameters)]
    await rig.sql("ROLLBACK")
    assert found[0]["Plan"]["Shared Hit Blocks"] + found[0]["Plan"]["Shared Read Blocks"] < 1000
    assert keys(await claim(rig)) == {"free": 1}


async def test_two_thousand_keys_each_have_their_turn(rig: Rig) -> None:
    await declare(rig, concurrency_limit=1)
    await fill(rig, "'k' || mod(n, 2000)", 4000)
    taken: Counter[str | None] = Counter()
    for _ in range(45):
        taken += keys(await claim(rig, 50))
    assert len(taken) == taken.total() == 2000


async def test_a_key_behind_thousands_of_blocked_ones_is_found_within_a_few_claims(rig: Rig) -> None:
    await declare(rig, concurrency_limit=10, key_rate=Rate(1, timedelta(days=1)))
    await fill(rig, "'a' || mod(n, 2500)", 2500)
    while await claim(rig, 100):
        pass
    await fill(rig, "'a' || mod(n, 2500)", 2500)
    await add(rig, "z")
    found = [keys(await claim(rig)) for _ in range(3)]
    assert _sum(found) == {"z": 1}


async def test_a_job_without_a_key_behind_thousands_of_blocked_ones_is_found_within_a_few_claims(
    rig: Rig,
) -> None:
    await declare(rig, concurrency_limit=2)
    await fill(rig, "'blocked'", 2500)
    await claim(rig)
    await add(rig, None, None, None)
    found = [keys(await claim(rig)) for _ in range(3)]
    assert _sum(found) == {None: 2}
    await rig.sql(
        "UPDATE {s}.worker_jobs_open SET status = 'QUEUED' WHERE status = 'EXECUTING' AND concurrency_key IS NULL"
    )
    # It begins anew at the front, where the blocked ones are.
    assert _sum([keys(await claim(rig)) for _ in range(4)]) == {None: 2}


@pytest.mark.parametrize("key", [None, "a"])
async def test_a_rate_lets_so_many_start_in_any_window(rig: Rig, key: str | None) -> None:
    """At 0 s three start, at 40 s two: a bucket that is refilled would let five more start at 61 s."""
    await declare(rig, rate=Rate(5, MINUTE))
    await add(rig, *[key] * 30)
    assert len(await claim(rig, 3)) == 3
    await later(rig, timedelta(seconds=40))
    assert [len(await claim(rig)) for _ in range(2)] == [2, 0]
    await later(rig, timedelta(seconds=19))
    assert await claim(rig) == []
    await later(rig, timedelta(seconds=2))
    assert [len(await claim(rig)) for _ in range(2)] == [3, 0]
    await later(rig, timedelta(seconds=38))
    assert await claim(rig) == []
    await later(rig, timedelta(seconds=2))
    assert len(await claim(rig)) == 2


async def test_a_rate_per_key_counts_each_key_for_itself(rig: Rig) -> None:
    await declare(rig, key_rate=Rate(2, MINUTE))
    await add(rig, *["a"] * 6, *["b"] * 3, *[None] * 4)
    assert keys(await claim(rig)) == {"a": 2, "b": 2, None: 4}
    assert await claim(rig) == []
    await later(rig, timedelta(seconds=61))
    assert keys(await claim(rig)) == {"a": 2, "b": 1}


async def test_the_smallest_of_all_limits_holds(rig: Rig) -> None:
    await declare(rig, concurrency_limit=9, key_limit=4, rate=Rate(6, MINUTE), key_rate=Rate(3, MINUTE))
    await add(rig, *["a"] * 9, *["b"] * 9)
    assert keys(await claim(rig)) == {"a": 3, "b": 3}
    await later(rig, timedelta(seconds=61))
    assert keys(await claim(rig)) == {"a": 1, "b": 1}


async def test_starts_are_kept_in_a_hundred_pieces_however_many_they_are(rig: Rig) -> None:
    await declare(rig, rate=Rate(10_000, MINUTE), key_rate=Rate(10_000, MINUTE))
    await fill(rig, "'a'", 400)
    for _ in range(200):
        assert len(await claim(rig, 2)) == 2
        await later(rig, timedelta(seconds=0.5))
    for table in ("job_queues", "concurrency_keys"):
        count: LiteralString = "SELECT array_length(starts, 1) FROM {s}." + table
        assert await rig.value(count) <= 202
        total: LiteralString = (
            "SELECT sum(starts[i][2]) FROM {s}." + table + ", generate_subscripts(starts, 1) AS i"
        )
        assert await rig.value(total) >= 100


@pytest.mark.parametrize(
    "limits", [{"rate": Rate(3, MINUTE)}, {"key_rate": Rate(3, MINUTE)}], ids=["queue", "key"]
)
async def test_a_clock_that_was_set_back_delays_no_longer_than_one_period(
    rig: Rig, limits: dict[str, Any]
) -> None:
    await declare(rig, **limits)
    await add(rig, *["a"] * 9)
    assert len(await claim(rig)) == 3
    await later(rig, -timedelta(hours=5))
    assert await claim(rig) == []
    await later(rig, timedelta(seconds=55))
    assert await claim(rig) == []
    await later(rig, timedelta(seconds=7))
    assert len(await claim(rig)) == 3


async def test_starts_of_before_a_rate_was_set_are_not_counted_and_those_after_stay(rig: Rig) -> None:
    await declare(rig, concurrency_limit=50)
    await add(rig, *[None] * 20)
    assert len(await claim(rig, 4)) == 4
    await declare(rig, rate=Rate(3, MINUTE))
    assert len(await claim(rig)) == 3
    await declare(rig, rate=Rate(5, MINUTE))
    assert len(await claim(rig)) == 2


async def test_the_starts_of_a_key_are_forgotten_once_none_of_them_counts(rig: Rig) -> None:
    await declare(rig, key_rate=Rate(2, MINUTE))
    await add(rig, "a", "b")
    assert len(await claim(rig)) == 2
    await rig.sql("UPDATE {s}.concurrency_keys SET free_at = now() - interval '1 second' WHERE key = 'a'")
    async with rig.adapter.database.connection() as conn:
        await retention.upkeep(conn, rig.schema)
    assert [row["key"] for row in await rig.sql("SELECT key FROM {s}.concurrency_keys")] == ["b"]
