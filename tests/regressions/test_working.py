"""A worker that stumbles: what it holds, what it starts, what its outcomes may touch."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from adapter import Adapter, JobContext
from adapter.core.claiming import Claimer
from adapter.domain.job import JobStatus
from adapter.domain.outcome import Returned, Stopped
from adapter.store import claims, endings, jobs
from adapter.store.endings import Ending, GivingBack
from tests.kit import eventually
from tests.rig import Rig, new_id, rigged


def threaded(adapter: Adapter) -> None:
    @adapter.task("sync")
    def sync(payload: Any) -> Any:
        return payload

    del sync


async def test_a_worker_that_fell_and_starts_again_still_runs_handlers_in_threads(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rigged(database_url, threaded) as rig:
        fell = list[int]()
        claim = Claimer._claim

        async def falling(self: Claimer, room: int, ahead: int) -> bool:
            if not fell:
                fell.append(1)
                raise psycopg.errors.UndefinedTable("it fell")
            return await claim(self, room, ahead)

        monkeypatch.setattr(Claimer, "_claim", falling)
        async with rig.adapter.running(work=True, dispatch=False, sync=False):
            job = await rig.adapter.schedule_job("sync", 7, max_attempts=1)
            ended = await rig.adapter.wait_for(job.id, timedelta(seconds=10))
        assert (ended.status, ended.result) == (JobStatus.COMPLETED, 7)
        assert fell


async def test_a_worker_that_fell_with_a_try_longer_than_its_grace_starts_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, falls = asyncio.Event(), [1]

    def tasks(adapter: Adapter) -> None:
        @adapter.task("slow")
        async def slow(payload: Any) -> None:
            if not begun.is_set():
                begun.set()
                await asyncio.Event().wait()

        del slow

    claim = Claimer._claim

    async def falling(self: Claimer, room: int, ahead: int) -> bool:
        if begun.is_set() and falls:
            falls.clear()
            raise psycopg.errors.UndefinedTable("it fell")
        return await claim(self, room, ahead)

    monkeypatch.setattr(Claimer, "_claim", falling)
    async with (
        rigged(database_url, tasks) as rig,
        rig.adapter.running(work=True, dispatch=False, sync=False, grace=timedelta(0)) as worker,
    ):
        assert worker is not None
        job = await rig.adapter.schedule_job("slow")
        await begun.wait()
        worker.look_again()
        ended = await rig.adapter.wait_for(job.id, timedelta(seconds=10))
        assert ended.status is JobStatus.COMPLETED
        assert not falls


@pytest.mark.parametrize("outcome", [Stopped("canceled"), Returned("stopped")], ids=["canceled", "returned"])
async def test_a_try_that_is_stopped_before_its_first_step_still_has_an_outcome(
    rig: Rig, outcome: Stopped | Returned
) -> None:
    job = await rig.adapter.schedule_job("echo", 1)
    worker = rig.worker()
    _, claimed = await rig.claim(worker=worker.id)
    worker._begin(claimed)
    # The task of the try has been made and has not run yet.
    worker._tries.running[str(job.id)].stop(outcome)
    await eventually(lambda: worker.running == 0)
    await worker._completer.flush()
    expected = "CANCELED" if isinstance(outcome, Stopped) else "QUEUED"
    assert await rig.status(job.id) == expected


async def test_a_worker_that_was_fenced_while_it_claimed_starts_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = list[int]()

    def tasks(adapter: Adapter) -> None:
        @adapter.task("count")
        async def count(payload: int) -> None:
            started.append(payload)

        del count

    async with rigged(database_url, tasks) as rig:
        worker = rig.worker()

        async def slow(*given: Any, **options: Any) -> Sequence[Any]:
            jobs = await claims.claim(*given, **options)
            worker._fence()
            return jobs

        monkeypatch.setattr("adapter.core.claiming.claim", slow)
        job = await rig.adapter.schedule_job("count", 1)
        await worker.run_once()
        assert started == []
        row = await rig.row(job.id)
        assert (row["status"], row["attempt"]) == ("QUEUED", 0)


async def test_an_outcome_of_an_older_claim_rides_on_no_newer_one(rig: Rig) -> None:
    """Both may wait in one batch when a worker lost a job and got it again."""
    job = await rig.adapter.schedule_job("echo", 1, idempotency_key="k")
    worker = new_id()
    old, _ = await rig.claim(1, worker=worker)
    await rig.set(job.id, "status = 'QUEUED', worker_id = NULL, claim_number = NULL")
    new, _ = await rig.claim(2, worker=worker)
    lost = Ending(job_id=job.id, epoch=1, lease=old, status=JobStatus.FAILED, error={"name": "Old"})
    won = Ending(job_id=job.id, epoch=1, lease=new, status=JobStatus.COMPLETED, result=1)
    async with rig.adapter.database.connection() as conn:
        ended = await endings.finish(conn, rig.schema, [lost, won])
    assert [each.status for each in ended] == [JobStatus.COMPLETED]
    assert (await rig.row(job.id))["result"] == 1


async def test_a_return_of_an_older_claim_rides_on_no_newer_one(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo", 1)
    worker = new_id()
    old, _ = await rig.claim(1, worker=worker)
    await rig.set(job.id, "status = 'QUEUED', worker_id = NULL, claim_number = NULL")
    new, _ = await rig.claim(2, worker=worker)
    stale = GivingBack(job_id=job.id, epoch=1, lease=old, kind="returned", unspent=True)
    retry = GivingBack(
        job_id=job.id, epoch=1, lease=new, kind="retry", error={"name": "E"}, delay=timedelta(hours=1)
    )
    async with rig.adapter.database.connection() as conn:
        for batch in ([stale, retry], [retry, stale]):
            await endings.give_back(conn, rig.schema, batch)
    row = await rig.row(job.id)
    assert (row["status"], row["attempt"]) == ("DELAYED", 2)


async def test_a_retry_policy_that_cannot_be_read_does_not_run_the_job_for_ever(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo", 1)
    await rig.set(job.id, "retry = '{\"no_such\": 1}'")
    worker = rig.worker()
    await worker.run_once()
    worker.look_again()
    assert await worker.run_once() == 0
    assert await rig.status(job.id) == "COMPLETED"


async def test_a_job_that_no_worker_could_run_has_not_started_and_expires(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo", 1, ttl=timedelta(hours=1))
    await rig.set(job.id, "type = 'unheard-of'")
    await rig.work()
    row = await rig.row(job.id)
    assert (row["status"], row["waiting_for"], row["attempt"], row["started"]) == (
        "WAITING",
        "executor",
        0,
        None,
    )
    await rig.set(job.id, "expires_at = now()")
    await rig.adapter.maintenance.run_once()
    assert await rig.status(job.id) == "EXPIRED"


async def test_a_handler_s_cleanup_is_interrupted_once(database_url: str) -> None:
    begun, cleaning, cleaned = asyncio.Event(), asyncio.Event(), asyncio.Event()
    interrupted = list[str]()

    def tasks(adapter: Adapter) -> None:
        @adapter.task("careful")
        async def careful(payload: Any, ctx: JobContext) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cleaning.set()
                try:
                    await cleaned.wait()
                except asyncio.CancelledError:
                    interrupted.append("again")
                    raise

        del careful

    async with rigged(database_url, tasks) as rig:
        worker = rig.worker()
        job = await rig.adapter.schedule_job("careful")
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run_once())
            await begun.wait()
            # Each heartbeat names the jobs that are to be canceled for as long as they run.
            worker.cancel_tries([job.id])
            await cleaning.wait()
            worker.cancel_tries([job.id])
            # A round trip gives the handler its turn.
            await rig.status(job.id)
            cleaned.set()
        assert interrupted == []
        assert await rig.status(job.id) == "CANCELED"


async def test_a_cancel_that_comes_between_two_hands_is_not_left_lying(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job leaves its worker after the first look of `cancel` and before the second."""
    job = await rig.adapter.schedule_job("echo", 1)
    lease, _ = await rig.claim()
    fetch, looks = jobs.fetch, list[int]()

    async def between(conn: Any, schema: Any, template: Any, parameters: Any = None) -> Any:
        looks.append(1)
        if len(looks) == 2:
            back = GivingBack(
                job_id=job.id,
                epoch=1,
                lease=lease,
                kind="retry",
                error={"name": "E"},
                delay=timedelta(hours=1),
            )
            async with rig.adapter.database.connection() as other:
                assert await endings.give_back(other, rig.schema, [back])
        return await fetch(conn, schema, template, parameters)

    monkeypatch.setattr(jobs, "fetch", between)
    canceled = await rig.adapter.cancel_job(job.id)
    assert canceled.status is JobStatus.CANCELED
    assert await rig.status(job.id) == "CANCELED"
