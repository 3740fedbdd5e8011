"""The kit for users' tests, on an application as a user would write it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel

from adapter import AbortJobError, Adapter, JobContext, JobStatus, RetryPolicy, Settings, testing
from adapter.core import dispatch
from adapter.domain.errors import ConfigurationError, InvalidArgumentError, InvalidPayloadError
from adapter.testing import Failure, JobDatabase, JobsKit, MemoryExecutor, embedded_database, opened
from tests import kit as own

pytestmark = pytest.mark.timeout(60)


class Order(BaseModel):
    order_id: int
    lines: dict[str, int] = {}


shop = Adapter(Settings())
attempts: list[int] = []


#: Long, beside what a test may take on a busy machine.
HOUR_MS = 3_600_000
HOURLY = RetryPolicy(max_attempts=3, min_timeout_in_ms=HOUR_MS, max_timeout_in_ms=HOUR_MS, randomize=False)


@shop.task("ship", retry=HOURLY)
async def ship(order: Order, ctx: JobContext) -> dict[str, int]:
    attempts.append(ctx.attempt)
    if order.order_id < 0 and ctx.attempt < 3:
        raise ValueError("no such address")
    await ctx.schedule_job("mail", {"about": order.order_id}, tag=f"order-{order.order_id}")
    return {"shipped": order.order_id}


@shop.task("mail")
def mail(payload: dict[str, Any]) -> str:
    return f"mail about {payload['about']}"


@shop.task("refuse")
async def refuse(payload: Any) -> None:
    raise AbortJobError("never")


@shop.task("again")
async def again(payload: int, ctx: JobContext) -> None:
    await ctx.schedule_job("again", payload + 1)


report = shop.remote_task("report", executor="trigger")


@pytest.fixture
def remote() -> MemoryExecutor:
    return MemoryExecutor("trigger")


@pytest.fixture
def jobs_database(database_url: str) -> JobDatabase:
    return JobDatabase(database_url, schema=own.SCHEMA)


@pytest.fixture
async def jobs(jobs_database: JobDatabase, remote: MemoryExecutor) -> AsyncIterator[JobsKit]:
    attempts.clear()
    async with opened(shop, jobs_database, executors=[remote]) as kit:
        yield kit
    jobs_database.close()


async def test_pending_jobs_run_with_what_they_schedule(jobs: JobsKit) -> None:
    await ship.schedule(Order(order_id=1))
    ran = await jobs.run_pending()
    assert [(job.type, job.status, job.result) for job in ran] == [
        ("ship", JobStatus.COMPLETED, {"shipped": 1}),
        ("mail", JobStatus.COMPLETED, "mail about 1"),
    ]
    assert await jobs.run_pending() == []


async def test_a_retry_waits_until_time_is_moved(jobs: JobsKit) -> None:
    await ship.schedule(Order(order_id=-1))
    (waiting,) = await jobs.run_pending()
    assert (waiting.status, attempts) == (JobStatus.DELAYED, [1])
    assert await jobs.run_pending() == []
    jobs.advance(minutes=59)
    assert await jobs.run_pending() == []
    jobs.advance(minutes=2)
    assert [job.type for job in await jobs.run_pending()] == ["ship"]
    assert attempts == [1, 2]
    jobs.advance(timedelta(hours=1))
    assert [job.status for job in await jobs.run_pending()] == [JobStatus.COMPLETED] * 2
    assert attempts == [1, 2, 3]


async def test_ticks_fire_when_a_test_says_so_and_their_time_has_come(jobs: JobsKit) -> None:
    schedule = await shop.schedule_cron("mail", "0 3 * * *", {"about": 7})
    assert await jobs.fire_ticks() == []
    jobs.advance(days=1)
    (job,) = await jobs.fire_ticks()
    assert (job.type, job.schedule_id, job.status) == ("mail", schedule.id, JobStatus.QUEUED)
    assert await jobs.fire_ticks() == []
    assert [each.result for each in await jobs.run_pending()] == ["mail about 7"]


async def test_retries_need_not_wait(jobs: JobsKit) -> None:
    await ship.schedule(Order(order_id=-1))
    later = await mail.schedule({"about": 0}, delay=timedelta(hours=1))
    ran = await jobs.run_pending(retries_now=True)
    assert [job.type for job in ran] == ["ship", "mail"]
    assert attempts == [1, 2, 3]
    assert (await later.refresh()).status is JobStatus.DELAYED


async def test_time_moves_what_is_due_what_expires_and_what_holds_a_key(jobs: JobsKit) -> None:
    due = await mail.schedule({"about": 1}, delay=timedelta(hours=2))
    late = await mail.schedule({"about": 2}, delay=timedelta(hours=1), ttl=timedelta(minutes=1))
    await mail.schedule({"about": 3}, idempotency_key="once", idempotency_ttl=timedelta(hours=3))
    jobs.advance(minutes=61, seconds=30)
    await jobs.run_pending()
    assert (await due.refresh()).status is JobStatus.DELAYED
    jobs.advance(hours=1)
    await jobs.run_pending()
    assert (await due.refresh()).status is JobStatus.COMPLETED
    assert (await late.refresh()).status in {JobStatus.EXPIRED, JobStatus.COMPLETED}
    assert (await mail.schedule({"about": 4}, idempotency_key="once")).deduplicated
    jobs.advance(hours=2)
    assert not (await mail.schedule({"about": 5}, idempotency_key="once")).deduplicated


async def test_what_was_scheduled_is_asserted(jobs: JobsKit) -> None:
    await ship.schedule(Order(order_id=7, lines={"a": 1, "b": 2}), tag="order-7")
    await ship.schedule(Order(order_id=8), priority=5)
    (job,) = await jobs.assert_scheduled(ship, {"lines": {"a": 1}}, tag="order-7", count=1)
    assert job.data["order_id"] == 7
    await jobs.assert_scheduled("ship", Order(order_id=8), priority=5)
    await jobs.assert_scheduled("ship", count=2)
    await jobs.assert_not_scheduled("ship", {"order_id": 9})
    await jobs.assert_not_scheduled("mail")
    assert [job.data["order_id"] for job in await jobs.scheduled_jobs()] == [7, 8]
    with pytest.raises(
        AssertionError, match=r"found 0; all of that task:\n  QUEUED tag=order-7 at local: .*7"
    ):
        await jobs.assert_scheduled(ship, {"order_id": 9})
    with pytest.raises(AssertionError, match="expected 0 matching of 'ship', found 2"):
        await jobs.assert_not_scheduled(ship)
    # What has run was scheduled all the same.
    await jobs.run_pending()
    await jobs.assert_scheduled(ship, count=2, status=JobStatus.COMPLETED)


async def test_more_jobs_than_a_page_are_all_seen_in_order(jobs: JobsKit) -> None:
    await mail.schedule_many([mail.job({"about": number}) for number in range(230)])
    assert len(await jobs.scheduled_jobs("mail")) == 230
    assert len({job.id for job in await jobs.scheduled_jobs()}) == 230


async def test_one_handler_is_run_through_all_that_surrounds_it(jobs: JobsKit) -> None:
    waiting = await mail.schedule({"about": 0})
    done = await jobs.run_job(ship, {"order_id": "5"})
    assert (done.status, done.result, done.attempt) == (JobStatus.COMPLETED, {"shipped": 5}, 1)
    failed = await jobs.run_job("ship", Order(order_id=-5))
    assert (failed.status, (failed.error or {})["message"]) == (JobStatus.DELAYED, "no such address")
    aborted = await jobs.run_job("refuse")
    assert (aborted.status, (aborted.error or {})["name"]) == (JobStatus.FAILED, "AbortJobError")
    # Only what the handler itself scheduled is there.
    await jobs.assert_not_scheduled(ship)
    await jobs.assert_scheduled(mail, {"about": 5}, tag="order-5", count=1)
    assert (await waiting.refresh()).status is JobStatus.QUEUED
    with pytest.raises(InvalidPayloadError):
        await jobs.run_job(ship, {"order_id": "five"})
    with pytest.raises(InvalidArgumentError, match="no handler"):
        await jobs.run_job(report, {})


async def test_a_job_that_schedules_itself_is_found_out(
    jobs: JobsKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter.testing.kit._MOST_ROUNDS", 2)
    monkeypatch.setattr("adapter.core.worker.Worker.run_until_idle", _one)
    await again.schedule(0)
    with pytest.raises(AssertionError, match="does one schedule itself"):
        await jobs.run_pending()


async def _one(worker: Any) -> int:
    return await worker.run_once()


# ---- a remote that does not --------------------------------------------------------------------------


async def test_a_remote_runs_a_job_as_the_test_says(jobs: JobsKit, remote: MemoryExecutor) -> None:
    job = await report.schedule({"month": "2026-10"})
    await jobs.run_pending()
    run = remote.only_run()
    assert (run.task, run.payload) == ("report", {"month": "2026-10"})
    assert (await job.refresh()).remote_run_id == run.id
    remote.start(run)
    await jobs.run_pending()
    assert (await job.refresh()).status is JobStatus.EXECUTING
    remote.complete(run, {"pages": 3})
    await jobs.run_pending()
    assert await job.result(timeout=timedelta(seconds=5)) == {"pages": 3}


async def test_a_remote_run_fails(jobs: JobsKit, remote: MemoryExecutor) -> None:
    job = await report.schedule({})
    await jobs.run_pending()
    remote.fail(remote.only_run(), "out of paper")
    await jobs.run_pending()
    assert ((await job.refresh()).status, (job.job.error or {})["message"]) == (
        JobStatus.FAILED,
        "out of paper",
    )


@pytest.mark.parametrize("failure", [Failure.NOT_SENT, Failure.THROTTLED, Failure.UNKNOWN])
async def test_a_submit_that_fails_is_tried_again_and_runs_once(
    jobs: JobsKit, remote: MemoryExecutor, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backoff(tries: int, *, longest: float = 0) -> timedelta:
        return timedelta(minutes=5)

    # However slow the machine is, the second try is not yet due when the first has failed.
    monkeypatch.setattr(dispatch, "backoff", backoff)
    job = await report.schedule({})
    remote.fail_next(failure)
    await jobs.run_pending()
    assert (await job.refresh()).status is JobStatus.PENDING
    jobs.advance(minutes=10)
    await jobs.run_pending()
    assert (await job.refresh()).status is JobStatus.QUEUED
    remote.complete(remote.only_run(), 1)
    await jobs.run_pending()
    assert (await job.refresh()).status is JobStatus.COMPLETED


async def test_a_run_whose_answer_was_lost_is_found_and_not_made_twice(
    jobs: JobsKit, remote: MemoryExecutor
) -> None:
    job = await report.schedule({})
    remote.fail_next(Failure.ACCEPT_LATE)
    await jobs.run_pending()
    run = remote.only_run()
    assert (await job.refresh()).remote_run_id == run.id
    jobs.advance(minutes=10)
    await jobs.run_pending()
    assert (remote.only_run(), len(remote.submits)) == (run, 1)


async def test_a_refused_job_fails(jobs: JobsKit, remote: MemoryExecutor) -> None:
    remote.fail_next("rejected")
    job = await report.schedule({})
    await jobs.run_pending()
    assert (await job.refresh()).status is JobStatus.FAILED
    assert remote.runs == {}


async def test_a_remote_job_is_canceled(jobs: JobsKit, remote: MemoryExecutor) -> None:
    job = await report.schedule({})
    await jobs.run_pending()
    await job.cancel(reason="never mind")
    await jobs.run_pending()
    assert (await job.refresh()).status is JobStatus.CANCELED


def test_the_names_are_sorted_and_there() -> None:
    assert testing.__all__ == sorted(testing.__all__)
    assert all(hasattr(testing, name) for name in testing.__all__)


# ---- the database --------------------------------------------------------------------------------------


async def test_each_test_begins_empty_and_the_adapter_is_as_it_was(jobs_database: JobDatabase) -> None:
    before = (shop.settings, shop.executors)
    for _ in range(2):
        async with opened(shop, jobs_database) as jobs:
            assert await jobs.scheduled_jobs() == []
            assert shop.executors.names == ["trigger"]
            await mail.schedule({"about": 1})
            await jobs.run_pending()
    assert (shop.settings, shop.executors) == before
    with psycopg.connect(jobs_database.url) as conn:
        assert conn.execute("SELECT count(*) FROM adapter.worker_jobs").fetchone() == (0,)
        assert conn.execute("SELECT count(*) FROM adapter.workers").fetchone() == (0,)
    jobs_database.close()


def test_a_database_that_is_not_for_tests_is_not_emptied() -> None:
    with pytest.raises(ConfigurationError, match="does not look like one for tests"):
        JobDatabase("postgresql://ann@db.example.com/shop")
    JobDatabase("postgresql://ann@db.example.com/shop", any_name=True)


async def test_a_database_of_its_own(server_dir: Any) -> None:
    with embedded_database(bin_dir=own.own_setting("PG_BIN")) as database:
        async with opened(shop, database) as jobs:
            assert (await jobs.run_job(mail, {"about": 1})).result == "mail about 1"
