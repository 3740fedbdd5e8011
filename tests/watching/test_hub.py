"""The hub: what it costs, what it sees, and what it does while it cannot hear."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from uuid import UUID

import pytest

from adapter import JobContext
from adapter.core.watching.feed import Feed, Interest
from adapter.domain.errors import DatabaseUnavailableError, NotOpenError
from adapter.domain.job import JobStatus
from adapter.store import watched
from adapter.store.database import Database
from adapter.store.listener import Listener
from adapter.store.wakeup import CHANGED, FINISHED, WATCHED, WHO_WATCHES
from adapter.store.watched import version_of
from tests.kit import eventually
from tests.rig import Rig, new_id, rigged
from tests.stage import running


@contextmanager
def counted() -> Generator[list[object]]:
    """Every use of a pool's connection in the block."""
    uses: list[object] = []
    lend = Database.connection

    @asynccontextmanager
    async def noting(self: Database) -> AsyncGenerator[Any]:
        uses.append(self)
        async with lend(self) as conn:
            yield conn

    with mock.patch.object(Database, "connection", noting):
        yield uses


async def settled(rig: Rig) -> None:
    """Until the hub has looked, and waits to be told."""
    hub = rig.adapter.hub
    await eventually(lambda: not hub._wake.is_rung)
    await hub.look()


def tagged(*tags: str, since: timedelta = timedelta(hours=1)) -> Interest:
    return Interest(tags=frozenset(tags), created_from=datetime.now(UTC) - since)  # noqa: TID251, RUF100 - the database's day


async def told(feed: Feed, mark: str) -> dict[UUID, bool]:
    """What changes next."""
    async with asyncio.timeout(5):
        while feed.mark == mark:
            await feed.moved(mark)
    return feed.since(mark) or {}


async def test_hundreds_who_watch_ask_once_and_nothing_while_nothing_happens(rig: Rig) -> None:
    hub = rig.adapter.hub
    handles = [await rig.adapter.schedule_job("echo", n, delay=timedelta(hours=1)) for n in range(300)]
    async with AsyncExitStack() as stack:
        with counted() as uses:
            feeds = await asyncio.gather(
                *(
                    stack.enter_async_context(hub.watch(Interest(job_id=each.job.id)))
                    for each in handles
                    for _ in range(2)
                )
            )
        assert len(uses) <= 4, "each subscriber asked for itself"
        assert len({id(feed) for feed in feeds}) == 300
        await settled(rig)
        marks = {feed.interest: feed.mark for feed in feeds}
        with counted() as uses:
            await rig.sql("UPDATE {s}.worker_jobs_open SET updated_at = now() WHERE data = '7' OR data = '8'")
            hub.heard({FINISHED})
            changed = [
                feed for feed in feeds if feed.interest.job_id in {handles[7].job.id, handles[8].job.id}
            ]
            await asyncio.gather(*(told(feed, marks[feed.interest]) for feed in changed))
            jobs = await asyncio.gather(*(hub.read(feed, feed.ids) for feed in changed))
        assert [len(found) for _, found in jobs] == [1, 1, 1, 1]
        assert len(uses) <= 3, "a change was asked for by each subscriber"
        assert [feed for feed in feeds if feed.mark != marks[feed.interest]] == changed


async def test_nobody_is_asked_for_jobs_that_have_ended(rig: Rig) -> None:
    job = (await rig.adapter.schedule_job("echo", 1)).job
    await rig.work()
    async with rig.adapter.hub.watch(Interest(job_id=job.id)) as feed:
        assert (len(feed.ids), feed.open) == (1, {})
        with counted() as uses:
            await rig.adapter.hub.look()
        assert not uses


async def test_a_job_is_seen_through_its_life(rig: Rig) -> None:
    job = (await rig.adapter.schedule_job("echo", 1)).job
    hub, seen = rig.adapter.hub, list[JobStatus]()
    async with hub.watch(Interest(job_id=job.id)) as feed:
        mark = ""
        for act in (None, rig.work):
            if act is not None:
                await act()
            while feed.mark == mark:
                await told(feed, mark)
            mark, jobs = await hub.read(feed, [job.id])
            seen.append(jobs[job.id].status)
        assert feed.mark == mark
    assert seen == [JobStatus.QUEUED, JobStatus.COMPLETED]


async def test_a_job_that_is_not_there_has_an_empty_feed(rig: Rig) -> None:
    async with rig.adapter.hub.watch(Interest(job_id=new_id())) as feed:
        assert (feed.ids, feed.mark) == ([], "0_0")
        assert await rig.adapter.hub.read(feed, [new_id()]) == ("0_0", {})


async def test_tags_all_have_to_match_and_later_jobs_come_as_new_ones(rig: Rig) -> None:
    hub = rig.adapter.hub

    async def schedule(*tags: str, **options: Any) -> UUID:
        return (await rig.adapter.schedule_job("echo", 1, tags=tags, **options)).job.id

    there, _, ended = await schedule("a", "b"), await schedule("a"), await schedule("b", "c", "a")
    old = await schedule("a", "b")
    await rig.set(old, "created_at = now() - interval '2 hours'")
    shadow = await schedule("a", "b")
    await rig.set(shadow, """extra = '{"shadow_of": "x"}'""")
    await rig.set(ended, "priority = 9")
    await rig.adapter.cancel_job(ended)
    async with hub.watch(tagged("a", "b")) as feed:
        assert set(feed.ids) == {there, ended}
        await settled(rig)
        mark = feed.mark
        waits = await schedule("b", "a", delay=timedelta(hours=1))
        await schedule("b")
        assert await told(feed, mark) == {waits: True}
        # Made and ended before anybody could look.
        with mock.patch.object(hub, "heard"):
            quick = await schedule("a", "b")
            await rig.adapter.cancel_job(quick)
        mark = feed.mark
        hub.heard({FINISHED})
        assert await told(feed, mark) == {quick: True}
        assert set(feed.open) == {there, waits}
        mark = feed.mark
        await rig.adapter.cancel_job(waits)
        assert await told(feed, mark) == {waits: False}


async def test_a_transaction_that_took_its_time_is_found_by_a_thorough_look(rig: Rig) -> None:
    hub = rig.adapter.hub
    async with hub.watch(tagged("a")) as feed:
        await settled(rig)
        late = (await rig.adapter.schedule_job("echo", 1, tags=["a"], notify="no")).job.id
        await rig.set(late, "created_at = now() - interval '2 min', updated_at = now() - interval '2 min'")
        with mock.patch.object(hub, "_thorough_at", float("inf")):
            await hub.look()
        assert feed.ids == []
        with mock.patch.object(hub, "_thorough_at", float("-inf")):
            await hub.look()
        assert feed.ids == [late]


async def test_who_reads_ahead_does_not_keep_news_from_others(rig: Rig) -> None:
    hub = rig.adapter.hub
    job = (await rig.adapter.schedule_job("echo", 1, tags=["a"], delay=timedelta(hours=1))).job
    one, other = Interest(job_id=job.id), tagged("a")
    for first, second in ((one, other), (other, one)):
        async with hub.watch(first) as reads, hub.watch(second) as waits:
            await settled(rig)
            mark = waits.mark
            with mock.patch.object(hub, "look"):
                await rig.set(job.id, "priority = priority + 1, updated_at = now()")
                _, jobs = await hub.read(reads, [job.id])
            assert (reads.open, waits.mark) == ({job.id: version_of(jobs[job.id]).written}, mark)
            await hub.look()
            assert waits.open == reads.open
            assert waits.since(mark) == {job.id: False}


async def test_a_batch_is_fed(rig: Rig) -> None:
    batch_id = new_id()
    first, second, _ = [(await rig.adapter.schedule_job("echo", n)).job.id for n in range(3)]
    for each in (first, second):
        await rig.sql(
            "UPDATE {s}.worker_jobs_open SET batch_id = %(batch)s WHERE id = %(id)s", batch=batch_id, id=each
        )
    async with rig.adapter.hub.watch(Interest(batch_id=batch_id)) as feed:
        assert set(feed.ids) == {first, second}
        await settled(rig)
        mark = feed.mark
        await rig.work()
        await eventually(lambda: not feed.open)
        assert feed.since(mark) == {first: False, second: False}


@pytest.mark.direct("a worker behind a pooler hears of nobody who watches")
async def test_progress_of_another_process_is_seen_while_it_runs(database_url: str) -> None:
    """The other process says so only since somebody watches."""
    go_on = asyncio.Event()

    def declare(adapter: Any) -> None:
        @adapter.task("in steps")
        async def in_steps(payload: Any, ctx: JobContext) -> None:
            ctx.progress(0.5, "half")
            await go_on.wait()

        del in_steps

    async with rigged(database_url, declare) as there, rigged(database_url, declare) as here:
        hub = here.adapter.hub
        job = (await here.adapter.schedule_job("in steps")).job
        async with (
            here.adapter.running(dispatch=False, sync=False),
            there.adapter.running(dispatch=False, sync=False),
        ):
            await eventually(lambda: here.adapter._can_hear() and there.adapter._can_hear())
            there.adapter.notifier._watched_until = float("-inf")
            with mock.patch.object(there.adapter.notifier, "poke", wraps=there.adapter.notifier.poke) as poke:
                there.adapter.notifier.changed()
                poke.assert_not_called()
                async with hub.watch(Interest(job_id=job.id)) as feed, running(there.worker()):
                    await eventually(lambda: there.adapter.notifier._watched_until > 0)

                    async def shown() -> Any:
                        _, jobs = await hub.read(feed, [job.id])
                        return (jobs[job.id].metadata or {}).get("progress")

                    assert await eventually(shown) == {"value": 0.5, "message": "half"}
                    assert {CHANGED} in [set(call.args) for call in poke.call_args_list]
                    go_on.set()
                    await eventually(lambda: not feed.open)


@pytest.mark.direct("a worker behind a pooler hears of nobody who watches")
async def test_who_begins_to_listen_asks_once_whether_anybody_watches(database_url: str) -> None:
    async with rigged(database_url) as here, here.adapter.running(dispatch=False, sync=False):
        hub, heard = here.adapter.hub, list[str]()
        here.adapter.notifier.subscribe(heard.extend)
        job = (await here.adapter.schedule_job("echo", 1)).job
        await eventually(here.adapter._can_hear)
        async with hub.watch(Interest(job_id=job.id)):
            # It has said so, and would say it again only in ten seconds.
            await eventually(lambda: heard.count(WATCHED) == 1)
            async with rigged(database_url) as there, there.adapter.running(dispatch=False, sync=False):
                soon = there.adapter.clock.monotonic() + 20
                await eventually(lambda: there.adapter.notifier._watched_until > soon)
            assert heard.count(WATCHED) == 2
        hub._feeds.clear()
        with mock.patch.object(hub, "heard", wraps=hub.heard) as asked:
            async with rigged(database_url) as there, there.adapter.running(dispatch=False, sync=False):
                await eventually(lambda: any(WHO_WATCHES in call.args[0] for call in asked.call_args_list))
                # Nobody does, so it tells for a second, in case somebody begins just now.
                assert there.adapter.notifier._watched_until < there.adapter.clock.monotonic() + 20
        assert heard.count(WATCHED) == 2


async def test_two_processes_give_one_state_the_same_mark(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other does not look before it is asked.
    monkeypatch.setattr("adapter.core.watching.hub._POLL_DEAF_S", 60.0)
    async with rigged(database_url) as one, rigged(database_url) as other:
        interest = tagged("a")
        for n in range(5):
            await one.adapter.schedule_job("echo", n, tags=["a"])
        async with one.adapter.hub.watch(interest) as here, other.adapter.hub.watch(interest) as there:
            assert here.mark == there.mark
            # The first look of each is over.
            await settled(one)
            await settled(other)
            await one.work(5)
            await one.adapter.hub.look()
            assert here.mark != there.mark
            # Whoever has been told more by the other process than this one knows is not told old news.
            assert await other.adapter.hub.changes(there, here.mark) == {}
            assert await other.adapter.hub.changes(there, "1_1") == dict.fromkeys(there.ids, True)


async def test_without_listen_a_poll_finds_what_has_changed(database_url: str) -> None:
    async with rigged(database_url) as rig:
        assert not rig.adapter._can_hear()
        job = (await rig.adapter.schedule_job("echo", 1)).job
        async with rig.adapter.hub.watch(Interest(job_id=job.id)) as feed:
            await settled(rig)
            mark = feed.mark
            await rig.set(job.id, "priority = 3, updated_at = now()")
            assert await told(feed, mark) == {job.id: False}


@pytest.mark.direct("a pooler never listens")
async def test_the_hub_knows_whether_it_is_told(rig: Rig) -> None:
    async def deaf(_: Listener) -> None:
        await asyncio.Event().wait()

    with mock.patch.object(Listener, "run", deaf):
        async with rig.adapter.running(dispatch=False, sync=False):
            assert not rig.adapter._can_hear()
    async with rig.adapter.running(dispatch=False, sync=False):
        await eventually(rig.adapter._can_hear)


@pytest.mark.direct("a pooler never listens")
async def test_news_is_found_although_the_listening_connection_was_lost(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It does not look by itself.
    monkeypatch.setattr("adapter.core.watching.hub._POLL_S", 60.0)
    async with rig.adapter.running(dispatch=False, sync=False):
        await eventually(rig.adapter._can_hear)
        job = (await rig.adapter.schedule_job("echo", 1, delay=timedelta(hours=1))).job
        async with rig.adapter.hub.watch(Interest(job_id=job.id)) as feed:
            await settled(rig)
            mark = feed.mark
            # Nobody says so. Before the loss: whoever listens again at once has not yet looked.
            await rig.set(job.id, "priority = 3, updated_at = now()")
            lost = await rig.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE '% listen' AND datname = current_database()"
            )
            assert lost
            assert await told(feed, mark) == {job.id: False}
        await eventually(rig.adapter._can_hear)


async def test_what_nobody_watches_any_more_is_forgotten(rig: Rig) -> None:
    hub = rig.adapter.hub
    job = (await rig.adapter.schedule_job("echo", 1)).job
    async with hub.watch(Interest(job_id=job.id)) as feed:
        hub._forget_the_unwatched()
        assert hub._feeds == {feed.interest: feed}
    hub._forget_the_unwatched()
    assert hub._feeds, "the next request of a subscriber comes in a moment"
    feed.left_at -= 60
    hub._forget_the_unwatched()
    assert not hub._feeds


async def test_a_process_that_stops_lets_everybody_go(rig: Rig) -> None:
    hub = rig.adapter.hub
    job = (await rig.adapter.schedule_job("echo", 1, delay=timedelta(hours=1))).job
    async with hub.watch(Interest(job_id=job.id)) as feed, asyncio.TaskGroup() as group:
        waiting = group.create_task(hub.until_moved(feed, feed.mark))
        await eventually(lambda: feed.holders == 1)
        hub.close()
        async with asyncio.timeout(5):
            await waiting


async def test_news_of_other_things_wake_nobody(rig: Rig) -> None:
    hub = rig.adapter.hub
    hub._wake.still()
    hub.heard({WATCHED, "!flags", "!cron", "!inbox"})
    assert not hub._wake.is_rung
    hub.heard({"some-queue"})
    assert hub._wake.is_rung


async def test_those_who_wait_for_results_ask_together(rig: Rig) -> None:
    handles = [await rig.adapter.schedule_job("echo", n) for n in range(40)]
    with counted() as uses:
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(each.result(timedelta(seconds=10))) for each in handles]
            await eventually(lambda: len(rig.adapter.hub._feeds) == len(handles))
            before = len(uses)
            # By another process, which pokes this one.
            async with rigged(rig.url) as there:
                await there.work()
            rig.adapter.hub.heard({FINISHED})
    assert sorted([wait.result() for wait in waits]) == list(range(40))
    ours = [each for each in uses if each is rig.adapter.database]
    assert len(ours) - before < len(handles) / 2


async def test_who_waits_for_a_result_is_told_that_the_adapter_is_closed(database_url: str) -> None:
    async with rigged(database_url) as rig:
        job = await rig.adapter.schedule_job("echo", 1, delay=timedelta(hours=1))
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(_outcome(job.result()))
            await eventually(lambda: any(feed.holders for feed in rig.adapter.hub._feeds.values()))
            rig.adapter.hub.close()
            assert isinstance(await waiting, NotOpenError)


async def _outcome(result: Awaitable[Any]) -> Any:
    try:
        return await result
    except NotOpenError as error:
        return error


async def test_watchers_outlast_a_database_that_is_away(rig: Rig) -> None:
    hub = rig.adapter.hub
    job = (await rig.adapter.schedule_job("echo", 1, delay=timedelta(hours=1))).job
    async with hub.watch(Interest(job_id=job.id)) as feed:
        await settled(rig)
        mark = feed.mark
        failing = mock.AsyncMock(side_effect=DatabaseUnavailableError("away for a moment"))
        with mock.patch.object(watched, "changed", failing):
            await rig.adapter.cancel_job(job.id)
            await eventually(lambda: failing.await_count >= 2)
            assert feed.mark == mark
        assert await told(feed, mark) == {job.id: False}


async def test_who_finds_nothing_looks_less_often(rig: Rig) -> None:
    hub = rig.adapter.hub
    job = (await rig.adapter.schedule_job("echo", 1, delay=timedelta(hours=1))).job
    async with hub.watch(Interest(job_id=job.id)) as feed:

        def busy_elsewhere() -> bool:
            hub.heard({FINISHED})
            return hub._pause >= 0.1

        await eventually(busy_elsewhere)
        mark = feed.mark
        await rig.adapter.cancel_job(job.id)
        await told(feed, mark)
        await eventually(lambda: hub._pause < 0.1)
