"""What the dispatcher must not send, and what one refused job must not cost the others."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from adapter import Adapter
from adapter.domain.clock import SystemClock
from adapter.domain.errors import RejectedError
from adapter.executors.base import Accepted, Submission
from adapter.executors.trigger_dev import TriggerDev
from tests.fakes.clock import ManualClock
from tests.fakes.trigger_dev import API_URL, SECRET_KEY, FakeTriggerDev
from tests.rig import Rig, rigged

_MANY = 1200


async def test_a_kill_switch_holds_every_row_however_many_there_are(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("both", executor="trigger")
    columns = "type, status, executor, route_reason, queue, max_attempts, next_try_at"
    await rig.sql(
        "INSERT INTO {s}.worker_jobs_open (id, "
        + columns
        + ") SELECT gen_random_uuid(), "
        + columns
        + " FROM {s}.worker_jobs_open, generate_series(1, %(n)s) WHERE id = %(id)s",
        n=_MANY,
        id=job.id,
    )
    await rig.adapter.kill("both", reason="test")
    await rig.dispatch()
    assert rig.fake.requests == []
    while await rig.value("SELECT count(*) FROM {s}.worker_jobs_open WHERE executor = 'trigger'"):
        await rig.dispatch()
    assert rig.fake.requests == []
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs_open WHERE status = 'QUEUED'") == _MANY + 1


@pytest.mark.parametrize(("status", "left"), [(422, "FAILED"), (500, "unknown")])
async def test_words_postgresql_cannot_keep_cost_no_job_its_outcome(rig: Rig, status: int, left: str) -> None:
    jobs = [(await rig.adapter.schedule_job("remote")).id for _ in range(2)]
    for _ in range(6):
        rig.fake.next_fault(status, on="trigger", content=b'{"error": "nul \\u0000 here"}')
    await rig.dispatch()
    rows = [await rig.row(each) for each in jobs]
    assert [each["status" if left == "FAILED" else "submit_state"] for each in rows] == [left] * 2


async def test_a_refused_job_that_somebody_wants_canceled_ends_though_it_would_be_rerouted(
    database_url: str,
) -> None:
    canceling: list[Rig] = []

    class Refusing(TriggerDev):
        async def submit(self, submission: Submission) -> Accepted:
            await canceling[0].adapter.cancel_job(submission.job_id)
            raise RejectedError("no", status=422)

    def tasks(adapter: Adapter) -> None:
        @adapter.task("picky", executor="trigger", on_rejected="local")
        async def picky(payload: Any) -> Any:
            return payload

        del picky

    fake = FakeTriggerDev(ManualClock())
    executor = Refusing(
        secret_key=SECRET_KEY, api_url=API_URL, requests_per_minute=0, transport=fake.transport
    )
    async with rigged(database_url, tasks, executors=[executor], fake=fake) as rig:
        canceling.append(rig)
        job = await rig.adapter.schedule_job("picky")
        await rig.dispatch()
        assert await rig.status(job.id) == "CANCELED"


async def test_a_row_whose_lease_may_have_lapsed_is_not_submitted_any_more(database_url: str) -> None:
    """Whoever has taken it over may have canceled it, or proven that it never left."""
    clock = ManualClock()
    sent: list[UUID] = []

    class Slow(TriggerDev):
        async def submit(self, submission: Submission) -> Accepted:
            sent.append(submission.job_id)
            clock.advance(50)
            return await super().submit(submission)

    fake = FakeTriggerDev(ManualClock())
    executor = Slow(secret_key=SECRET_KEY, api_url=API_URL, requests_per_minute=0, transport=fake.transport)
    async with rigged(database_url, executors=[executor], fake=fake, clock=clock) as rig:
        rig.adapter.dispatcher._gate = asyncio.Semaphore(1)
        jobs = [(await rig.adapter.schedule_job("remote")).id for _ in range(3)]
        await rig.dispatch()
        assert len(sent) == 1
        left = [await rig.row(each) for each in jobs if each not in sent]
        assert [(each["submit_state"], each["first_try_at"]) for each in left] == [("never", None)] * 2
        for each in jobs:
            if each not in sent:
                await rig.due_now(each)
        await rig.dispatch()
        assert len(sent) == 2


async def test_a_job_that_was_canceled_before_it_left_ends_though_its_circuit_is_open(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    await rig.set(job.id, "cancel_requested = true")
    await rig.sql(
        "INSERT INTO {s}.executor_flags (kind, task, executor, version, reason, actor)"
        " VALUES ('circuit', '*', 'trigger', 1, 'test', 'test')"
    )
    rig.adapter._flags.forget()
    await rig.dispatch()
    assert await rig.status(job.id) == "CANCELED"
    assert rig.fake.requests == []


async def test_an_epoch_opened_because_its_run_expired_is_in_nobody_s_hands(rig: Rig) -> None:
    job, run = await rig.sent()
    await rig.set(job, "dispatch_lease = gen_random_uuid(), dispatch_lease_until = now() + interval '1 hour'")
    rig.fake.expire(run.id)
    await rig.adapter.reconcile()
    row = await rig.row(job)
    assert (row["epoch"], row["submit_state"], row["dispatch_lease"]) == (2, "never", None)
    assert (await rig.adapter.cancel_job(job)).status == "CANCELED"


async def test_a_remote_s_pause_is_counted_by_the_database_s_clock(database_url: str) -> None:
    """This machine may be an hour off."""
    fake = FakeTriggerDev(ManualClock(SystemClock().now() + timedelta(hours=1)))
    trigger = {"requests_per_minute": 6000}
    async with rigged(database_url, fake=fake, trigger=trigger, clock=fake.clock) as rig:
        job = await rig.adapter.schedule_job("remote")
        rig.fake.next_fault(429, on="trigger", headers={"retry-after": "30"})
        await rig.dispatch()
        wait = await rig.value(
            "SELECT extract(epoch FROM next_try_at - now())::float8 FROM {s}.worker_jobs_open WHERE id = %(id)s",
            id=job.id,
        )
        pause = await rig.value(
            "SELECT extract(epoch FROM max(paused_until) - now())::float8 FROM {s}.remote_budgets"
        )
        assert 0 < wait < 40
        assert 0 < pause < 40
