"""The inbox of webhooks, the budgets of remote calls, and leases: what processes share."""

import asyncio
from datetime import timedelta
from typing import Any

from adapter.store import inbox, processes
from tests.rig import Rig, new_id, rigged


async def _take(rig: Rig, delivery: str, body: Any = None) -> int | None:
    async with rig.adapter.database.connection() as conn:
        return await inbox.take_in(
            conn, rig.schema, source="s", delivery_id=delivery, secret_id="1", body=body or {}
        )


async def _pending(rig: Rig, limit: int = 100) -> list[inbox.Delivery]:
    async with rig.adapter.database.connection() as conn:
        return await inbox.pending(conn, rig.schema, limit)


async def test_a_delivery_is_stored_once_though_twenty_bring_it_at_once(rig: Rig) -> None:
    found = await asyncio.gather(*(_take(rig, "d") for _ in range(20)))
    assert sum(each is not None for each in found) == 1


async def test_deliveries_are_handed_to_one_and_offered_again_when_nothing_is_said(rig: Rig) -> None:
    for n in range(10):
        await _take(rig, str(n))
    handed = await asyncio.gather(*(_pending(rig, 5) for _ in range(4)))
    ids = [each.id for deliveries in handed for each in deliveries]
    assert len(ids) == len(set(ids)) == 10
    assert await _pending(rig) == []
    await rig.sql("UPDATE {s}.webhook_inbox SET next_try_at = next_try_at - interval '31 s'")
    again = await _pending(rig)
    assert [each.attempts for each in again] == [2] * 10
    assert [each.id for each in again] == sorted(ids)


async def test_what_was_settled_stays_settled(rig: Rig) -> None:
    entry = await _take(rig, "d") or 0
    async with rig.adapter.database.connection() as conn:
        await inbox.applied(conn, rig.schema, [inbox.Settled(entry, "changed")])
        await inbox.later(conn, rig.schema, entry, error="e", delay=timedelta(0))
        await inbox.dead(conn, rig.schema, entry, error="e")
        assert await inbox.replay(conn, rig.schema) == 0
        (seen,) = await inbox.entries(conn, rig.schema)
    assert (seen.state, seen.result, seen.error) == ("applied", "changed", None)


async def test_dead_letters_are_seen_and_replayed_one_or_all(rig: Rig) -> None:
    entries = [await _take(rig, str(n)) or 0 for n in range(3)]
    async with rig.adapter.database.connection() as conn:
        for entry in entries:
            await inbox.dead(conn, rig.schema, entry, error="why")
        assert [each.id for each in await inbox.entries(conn, rig.schema, state="dead", limit=2)] == entries[
            :0:-1
        ]
        assert [each.id for each in await inbox.entries(conn, rig.schema, before=entries[1])] == entries[:1]
        assert await inbox.replay(conn, rig.schema, entries[1]) == 1
        assert [each.id for each in await inbox.pending(conn, rig.schema)] == [entries[1]]
        assert await inbox.replay(conn, rig.schema) == 2
    assert sorted(each.id for each in await _pending(rig)) == [entries[0], entries[2]]


async def _spend(rig: Rig, share: str = "dispatch", n: int = 1) -> float:
    async with rig.adapter.database.connection() as conn:
        return await processes.spend(conn, rig.schema, executor="x", share=share, n=n)


async def _declare(rig: Rig, capacity: float, per_second: float, share: str = "dispatch") -> None:
    async with rig.adapter.database.connection() as conn:
        await processes.declare_budget(
            conn, rig.schema, executor="x", share=share, capacity=capacity, per_second=per_second
        )


async def test_a_share_gives_out_its_burst_and_then_says_how_long_to_wait(rig: Rig) -> None:
    await _declare(rig, 3, 0.1)
    assert [await _spend(rig) for _ in range(3)] == [0.0] * 3
    assert 8 < await _spend(rig) <= 10
    await rig.sql("UPDATE {s}.remote_budgets SET refilled_at = now() - interval '11 s'")
    assert await _spend(rig) == 0.0
    assert await _spend(rig) > 0


async def test_twenty_at_once_never_spend_more_than_there_is(rig: Rig) -> None:
    await _declare(rig, 7, 0.001)
    found = await asyncio.gather(*(_spend(rig) for _ in range(20)))
    assert sum(each == 0.0 for each in found) == 7


async def test_a_share_refills_no_further_than_its_capacity(rig: Rig) -> None:
    await _declare(rig, 2, 1000)
    await rig.sql("UPDATE {s}.remote_budgets SET refilled_at = now() - interval '1 h'")
    await _spend(rig)
    assert await rig.value("SELECT tokens FROM {s}.remote_budgets") == 1


async def test_shares_do_not_take_from_each_other(rig: Rig) -> None:
    await _declare(rig, 1, 0.001, "dispatch")
    await _declare(rig, 1, 0.001, "cancel")
    assert [await _spend(rig, "dispatch"), await _spend(rig, "cancel")] == [0.0, 0.0]
    assert await _spend(rig, "dispatch") > 0


async def test_a_pause_stops_every_share_until_it_is_over_and_the_longest_holds(rig: Rig) -> None:
    await _declare(rig, 9, 1)
    async with rig.adapter.database.connection() as conn:
        for seconds in (60, 10):
            pause = timedelta(seconds=seconds)
            await processes.pause_budget(conn, rig.schema, "x", ["dispatch", "reads"], pause)
    assert 55 < await _spend(rig) <= 60
    assert 55 < await _spend(rig, "reads") <= 60
    await rig.sql("UPDATE {s}.remote_budgets SET paused_until = now() - interval '1 s'")
    assert await _spend(rig) == 0.0


async def test_our_shares_leave_a_quarter_to_the_application(database_url: str) -> None:
    async with rigged(database_url, trigger={"requests_per_minute": 600, "burst": 100}) as rig:
        await rig.sent()
        rows = await rig.sql("SELECT share, capacity, per_second FROM {s}.remote_budgets ORDER BY share")
        assert {row["share"]: (row["capacity"], row["per_second"]) for row in rows} == {
            "cancel": (10, 1), "dispatch": (40, 4), "reads": (25, 2.5),
        }  # fmt: skip


async def test_a_lease_has_one_holder_who_may_renew_it(rig: Rig) -> None:
    one, two = new_id(), new_id()
    long = timedelta(minutes=1)
    async with rig.adapter.database.connection() as conn:
        take = processes.take_lease
        assert (await take(conn, rig.schema, "l", one, long) or {})["term"] == 1
        assert await take(conn, rig.schema, "l", two, long) is None
        assert (await take(conn, rig.schema, "l", one, long) or {})["term"] == 1
        await processes.release_lease(conn, rig.schema, "l", two, done=True)
        assert await take(conn, rig.schema, "l", two, long) is None
        await processes.release_lease(conn, rig.schema, "l", one, done=True)
        found = await take(conn, rig.schema, "l", two, timedelta(0)) or {}
        assert found["term"] == 2
        assert 0 <= found["done_ago"] < 60
