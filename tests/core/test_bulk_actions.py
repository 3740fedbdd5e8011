"""One thing done to many jobs: found first, acted on then, once each, and gone on with after a stop."""

import asyncio
import dataclasses
from datetime import timedelta
from unittest import mock
from uuid import UUID

import psycopg
import pytest

from adapter import JobFilter, JobSpec, JobStatus
from adapter.core import bulk_actions as core
from adapter.core import bulk_verbs
from adapter.domain.bulk import BulkState
from adapter.domain.errors import BulkActionNotFoundError, DatabaseUnavailableError, InvalidArgumentError
from adapter.store import bulk_actions as store
from tests.rig import Rig, new_id


async def _all(rig: Rig) -> None:
    while await rig.adapter.bulk.run_once():
        pass


async def test_every_job_of_a_filter_is_canceled_and_no_other(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Many steps of finding and of acting.
    monkeypatch.setattr(bulk_verbs, "_PAGE", 3)
    monkeypatch.setattr(core, "_BATCH", 2)
    jobs = await rig.adapter.schedule_specs([JobSpec("echo", n, {"tags": ["mine"]}) for n in range(7)])
    other = (await rig.adapter.schedule_job("echo", 1)).id
    started = await rig.adapter.start_bulk_action("cancel", JobFilter(tags=("mine",)), name="n", actor="me")
    assert (started.state, started.total, started.name) == (BulkState.PENDING, 0, "n")
    await _all(rig)
    done = await rig.adapter.bulk_action(started.id)
    assert (done.state, done.total, done.succeeded, done.failed) == (BulkState.COMPLETED, 7, 7, 0)
    assert done.finished_at is not None
    assert {await rig.status(job.id) for job in jobs} == {"CANCELED"}
    assert await rig.status(other) == "QUEUED"
    shown = await rig.adapter.list_jobs(JobFilter(bulk_action_id=started.id))
    assert {job.id for job in shown.jobs} == {job.id for job in jobs}
    (event,) = await rig.adapter.job_events(jobs[0].id)
    assert event.actor == "me"


async def test_jobs_that_are_named_are_replayed_once_whatever_happens(rig: Rig) -> None:
    jobs = [(await rig.adapter.schedule_job("echo", n)).id for n in range(3)]
    gone = new_id()
    started = await rig.adapter.start_bulk_action("replay", [*jobs, gone], overrides={"priority": 3})
    assert (started.total, started.selected) == (4, True)
    # A process dies with the new jobs made and not committed; the next goes on once the lease is over.
    lost = mock.AsyncMock(side_effect=DatabaseUnavailableError("gone"))
    with mock.patch.object(store, "settle", lost), pytest.raises(DatabaseUnavailableError):
        await rig.adapter.bulk.run_once()
    assert await rig.adapter.bulk.run_once() == 0
    await rig.sql("UPDATE {s}.bulk_actions SET held_until = now() - interval '1 second'")
    await _all(rig)
    done = await rig.adapter.bulk_action(started.id)
    assert (done.state, done.succeeded, done.failed) == (BulkState.COMPLETED, 3, 1)
    made = (await rig.adapter.list_jobs(JobFilter(bulk_action_id=started.id))).jobs
    assert {UUID(job.extra["replay_of"]) for job in made} == set(jobs)
    assert [job.priority for job in made] == [3, 3, 3]
    problems = await rig.sql("SELECT job_id, problem FROM {s}.bulk_action_jobs WHERE outcome = 'failed'")
    assert [row["job_id"] for row in problems] == [gone]


async def test_two_processes_at_one_action_replay_each_job_once(rig: Rig) -> None:
    """The lease is not the guard: one that was paused for longer than it goes on where another is at work."""
    jobs = [(await rig.adapter.schedule_job("echo", n)).id for n in range(5)]
    started = await rig.adapter.start_bulk_action("replay", jobs)
    bulk = rig.adapter.bulk
    await asyncio.gather(*(bulk._replay(started, jobs) for _ in range(3)))
    await _all(rig)
    done = await rig.adapter.bulk_action(started.id)
    assert (done.state, done.succeeded, done.failed) == (BulkState.COMPLETED, 5, 0)
    made = await rig.value("SELECT count(*) FROM {s}.worker_jobs_open WHERE extra ? 'replay_of'")
    assert made == 5


async def test_a_job_that_has_ended_counts_as_failed(rig: Rig) -> None:
    job = (await rig.adapter.schedule_job("echo", 1)).id
    await rig.work()
    started = await rig.adapter.start_bulk_action("cancel", JobFilter(statuses=(JobStatus.COMPLETED,)))
    await _all(rig)
    done = await rig.adapter.bulk_action(started.id)
    assert (done.total, done.succeeded, done.failed) == (1, 0, 1)
    assert await rig.status(job) == "COMPLETED"


async def test_what_is_stopped_stays_stopped(rig: Rig) -> None:
    job = (await rig.adapter.schedule_job("echo", 1)).id
    started = await rig.adapter.start_bulk_action("cancel", [job])
    for _ in range(2):
        stopped = await rig.adapter.abort_bulk_action(started.id)
        assert (stopped.state, stopped.succeeded) == (BulkState.ABORTED, 0)
    await _all(rig)
    assert await rig.status(job) == "QUEUED"
    with pytest.raises(BulkActionNotFoundError):
        await rig.adapter.abort_bulk_action(new_id())


async def test_a_call_that_is_made_again_finds_what_it_made_and_lists_show_the_newest_first(
    rig: Rig,
) -> None:
    one = await rig.adapter.start_bulk_action("cancel", [new_id()], request_key="call")
    again = await rig.adapter.start_bulk_action("cancel", [new_id()], request_key="call")
    assert (again.id, again.total) == (one.id, 1)
    ids = [one.id, *[(await rig.adapter.start_bulk_action("replay", [new_id()])).id for _ in range(3)]][::-1]
    first = await rig.adapter.bulk_actions(2)
    second = await rig.adapter.bulk_actions(2, after=first.next)
    assert [each.id for each in (*first.actions, *second.actions)] == ids
    assert (first.previous, second.next) == (None, None)
    back = await rig.adapter.bulk_actions(2, after=first.next, before=second.previous)
    assert (back.actions, back.previous) == (first.actions, None)


async def test_a_large_one_does_not_hold_a_small_one_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "_BATCH", 1)
    large = await rig.adapter.start_bulk_action("cancel", [new_id() for _ in range(5)])
    small = await rig.adapter.start_bulk_action("cancel", [new_id()])
    for _ in range(4):
        await rig.adapter.bulk.run_once()
    assert (await rig.adapter.bulk_action(small.id)).state is BulkState.COMPLETED
    assert (await rig.adapter.bulk_action(large.id)).state is BulkState.PENDING


async def test_what_cannot_be_meant_is_refused(rig: Rig) -> None:
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.start_bulk_action("cancel", [])
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.start_bulk_action("delete", [new_id()])  # pyright: ignore[reportArgumentType] - that is the point


async def test_it_is_forgotten_with_its_jobs_when_it_is_old(rig: Rig) -> None:
    started = await rig.adapter.start_bulk_action("cancel", [new_id()])
    await _all(rig)
    await rig.sql("UPDATE {s}.bulk_actions SET finished_at = now() - interval '31 days'")
    for _ in range(2):
        await rig.adapter.retention.run_once()
    assert await rig.value("SELECT count(*) FROM {s}.bulk_action_jobs") == 0
    with pytest.raises(BulkActionNotFoundError):
        await rig.adapter.bulk_action(started.id)


async def test_the_loops_of_a_process_carry_it_out(rig: Rig) -> None:
    handle = await rig.adapter.schedule_job("echo", 1)
    async with rig.adapter.running():
        await rig.adapter.start_bulk_action("cancel", [handle.id])
        ended = await rig.adapter.wait_for(handle.id, timeout=timedelta(seconds=10))
    assert ended.status == "CANCELED"


async def test_who_has_lost_an_action_does_not_take_its_selection_back(rig: Rig) -> None:
    jobs = [(await rig.adapter.schedule_job("echo", n)).id for n in range(5)]
    started = await rig.adapter.start_bulk_action("cancel", JobFilter(types=("echo",)))
    adapter, slow = rig.adapter, new_id()
    async with adapter.database.connection() as conn:
        work = await store.hold(conn, adapter.database.schema, slow, timedelta(0), started.id)
        assert work is not None
        assert work.wanted is not None
        # Others go on, and find all; then it wakes up with the first page in its hands.
        await rig.adapter.bulk.run_once()
        one = dataclasses.replace(work.wanted, limit=2)
        late = (await rig.adapter.schedule_job("echo", 9)).id
        await store.select_more(conn, adapter.database.schema, started.id, slow, one)
    found = await rig.adapter.bulk_action(started.id)
    assert (found.selected, found.total) == (True, 5)
    await _all(rig)
    assert {await rig.status(each) for each in jobs} == {"CANCELED"}
    assert await rig.status(late) == "QUEUED"


async def test_an_abort_comes_before_a_step_or_behind_it(rig: Rig) -> None:
    job = (await rig.adapter.schedule_job("echo", 1)).id
    started = await rig.adapter.start_bulk_action("replay", [job])
    database = rig.adapter.database
    async with database.transaction() as conn:
        assert await store.take(conn, database.schema, started.id, [job]) == {job}
        await rig.sql("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await store.abort(rig.conn, database.schema, started.id)
        await store.settle(conn, database.schema, started.id, done={job: new_id()}, failed={})
    assert (await rig.adapter.abort_bulk_action(started.id)).succeeded == 1
    async with database.transaction() as conn:
        assert await store.take(conn, database.schema, started.id, [job]) == set()
