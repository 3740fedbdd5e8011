"""One body over every executor: a job means the same wherever it runs."""

from collections.abc import AsyncGenerator, Callable
from datetime import timedelta

import pytest

from adapter import JobFilter, JobStatus
from tests.conformance.places import PLACES, Place, working
from tests.kit import Broom, eventually, set_up


@pytest.fixture(scope="module")
def other_url(make_database: Callable[[], str]) -> Callable[[], str]:
    """A second database, made when a place first asks for it."""
    made: list[str] = []

    def url() -> str:
        if not made:
            made.append(make_database())
            set_up(made[0])
        broom = Broom(made[0])
        broom.sweep()
        broom.close()
        return made[0]

    return url


@pytest.fixture(params=PLACES)
async def place(
    request: pytest.FixtureRequest, database_url: str, other_url: Callable[[], str]
) -> AsyncGenerator[Place]:
    async with PLACES[request.param](database_url, other_url) as made:
        yield made


async def test_a_job_runs_and_its_result_comes_back(place: Place) -> None:
    job = await place.adapter.schedule_job("doubles", 21)
    await place.settle()
    assert await job.result(timedelta(seconds=1)) == {"doubled": 42}
    row = await place.rig.row(job.id)
    assert (row["status"], row["success"], row["attempt"]) == ("COMPLETED", True, 1)
    assert row["created_at"] <= row["started"] <= row["finished"]


async def test_a_job_that_fails_is_tried_as_often_as_it_may(place: Place) -> None:
    job = await place.adapter.schedule_job("fails", None, max_attempts=2)
    await place.settle()
    row = await place.rig.row(job.id)
    assert (row["status"], row["success"], row["attempt"]) == ("FAILED", False, 2)
    assert (row["error"]["name"], row["error"]["message"]) == ("ValueError", "boom")


async def test_a_job_is_canceled_before_it_starts(place: Place) -> None:
    early = await place.adapter.schedule_job("doubles", 1)
    assert (await place.adapter.cancel_job(early.id)).status is JobStatus.CANCELED
    handed = await place.adapter.schedule_job("doubles", 1)
    await place.deliver()
    assert (await place.adapter.cancel_job(handed.id)).status is JobStatus.CANCELED
    await place.settle()
    for job in (early, handed):
        row = await place.rig.row(job.id)
        assert (row["status"], row["started"], row["cancel_requested"]) == ("CANCELED", None, True)


async def test_a_job_is_canceled_while_it_runs(place: Place) -> None:
    async with working(place):
        job = await place.adapter.schedule_job("waits")
        await place.start(job.id)
        assert (await place.adapter.get_job(job.id) or job.job).status is JobStatus.EXECUTING
        await place.adapter.cancel_job(job.id)

        async def canceled() -> bool:
            if place.adapter.executors.names:
                await place.adapter.reconcile()
            return await place.rig.status(job.id) == "CANCELED"

        await eventually(canceled)
    assert (await place.rig.row(job.id))["started"] is not None


async def test_a_delayed_job_runs_when_it_is_due_and_not_before(place: Place) -> None:
    job = await place.adapter.schedule_job("doubles", 3, delay=timedelta(hours=1))
    await place.settle()
    assert await place.rig.status(job.id) == "DELAYED"
    await place.rig.set(job.id, "due = now()")
    await place.settle()
    assert await job.result(timedelta(seconds=1)) == {"doubled": 6}


async def test_a_key_makes_one_job_however_often_it_is_asked_for(place: Place) -> None:
    one = await place.adapter.schedule_job("doubles", 1, idempotency_key="k")
    two = await place.adapter.schedule_job("doubles", 2, idempotency_key="k")
    await place.settle()
    three = await place.adapter.schedule_job("doubles", 3, idempotency_key="k")
    assert (two.id, three.id, three.status) == (one.id, one.id, JobStatus.COMPLETED)
    assert await one.result(timedelta(seconds=1)) == {"doubled": 2}
    failed = await place.adapter.schedule_job("fails", None, idempotency_key="f", max_attempts=1)
    await place.settle()
    again = await place.adapter.schedule_job("fails", None, idempotency_key="f", max_attempts=1)
    assert again.id != failed.id


async def test_a_job_expires_when_nobody_starts_it_in_time(place: Place) -> None:
    job = await place.adapter.schedule_job("doubles", 1, ttl=timedelta(hours=1))
    await place.rig.set(job.id, "expires_at = now()")
    await place.settle()
    row = await place.rig.row(job.id)
    assert (row["status"], row["success"], row["started"]) == ("EXPIRED", False, None)


async def test_a_list_shows_it(place: Place) -> None:
    done = await place.adapter.schedule_job("doubles", 1, tags=["mine"])
    await place.settle()
    open_ = await place.adapter.schedule_job("doubles", 2, tags=["mine"], delay=timedelta(hours=1))
    await place.adapter.schedule_job("doubles", 3)
    page = await place.adapter.list_jobs(JobFilter(tags=("mine",)))
    assert [(job.id, job.status) for job in page.jobs] == [
        (open_.id, JobStatus.DELAYED),
        (done.id, JobStatus.COMPLETED),
    ]


async def test_nothing_is_left_behind(place: Place) -> None:
    for n in range(5):
        await place.adapter.schedule_job("doubles", n, idempotency_key=f"k{n}", tag=f"t{n}")
    await place.settle()
    assert await place.rig.value("SELECT count(*) FROM {s}.worker_jobs_open") == 0
    assert await place.rig.value("SELECT count(*) FROM {s}.worker_jobs_finished") == 5
    assert await place.rig.value("SELECT count(*) FROM {s}.remote_runs WHERE ended_at IS NULL") == 0
    assert await place.rig.value("SELECT count(*) FROM {s}.job_events") == 0
