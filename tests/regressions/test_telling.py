"""What hooks tell early, and what one slow page of runs must not let slip."""

from adapter.core.planning import JobSpec, ScheduleOptions
from adapter.executors.base import RemoteRun
from adapter.executors.trigger_dev import TriggerDev
from tests.fakes.clock import ManualClock
from tests.fakes.trigger_dev import API_URL, SECRET_KEY, FakeTriggerDev
from tests.rig import Rig, rigged


async def test_an_end_told_by_a_hook_is_asked_for_until_the_engine_agrees(rig: Rig) -> None:
    """The hook speaks inside the run: a retrieve right after it sees the run still at work."""
    job, run = await rig.sent()
    rig.fake.start(run.id)
    await rig.webhook("RUN_COMPLETED", run, attempt=1)
    await rig.adapter.inbox.run_once()
    assert await rig.adapter.inbox.confirm_once() == 1
    assert await rig.status(job) == "EXECUTING"
    rig.fake.complete(run.id, 7)
    await rig.set(job, "confirm_at = confirm_at - interval '1 minute'")
    assert await rig.adapter.inbox.confirm_once() == 1
    row = await rig.row(job)
    assert (row["status"], row["result"]) == ("COMPLETED", 7)


async def test_a_later_attempt_ends_the_waiting_for_what_an_earlier_one_told(rig: Rig) -> None:
    job, run = await rig.sent()
    rig.fake.start(run.id)
    await rig.webhook("RUN_COMPLETED", run, attempt=1)
    await rig.adapter.inbox.run_once()
    # It crashed after all.
    rig.fake.fail_attempt(run.id)
    rig.fake.start(run.id)
    assert await rig.adapter.inbox.confirm_once() == 1
    row = await rig.row(job)
    assert (row["status"], row["remote_attempt"], row["confirm_at"]) == ("EXECUTING", "2", None)


async def test_many_twins_of_a_job_that_is_there_are_found_at_once(rig: Rig) -> None:
    first = await rig.adapter.schedule_job("echo", 0, idempotency_key="k")
    specs = [JobSpec("echo", n, ScheduleOptions(idempotency_key="k")) for n in range(1500)]
    handles = await rig.adapter.schedule_specs(specs)
    assert {each.id for each in handles} == {first.id}
    assert all(each.deduplicated for each in handles)


async def test_a_slow_page_keeps_its_lease(database_url: str) -> None:
    clock = ManualClock()

    class Slow(TriggerDev):
        async def retrieve(self, run_id: str) -> RemoteRun | None:
            clock.advance(10)
            await rig.sql("UPDATE {s}.leases SET until = until - interval '10 seconds'")
            await rig.sql("UPDATE {s}.leases SET term = -1 WHERE until < now()")
            return await super().retrieve(run_id)

    fake = FakeTriggerDev(ManualClock())
    executor = Slow(secret_key=SECRET_KEY, api_url=API_URL, requests_per_minute=0, transport=fake.transport)
    async with rigged(database_url, executors=[executor], fake=fake, clock=clock) as rig:
        for _ in range(18):
            _, run = await rig.sent()
            rig.fake.start(run.id)
            rig.fake.complete(run.id, 1)
        report = await rig.adapter.reconcile()
        assert report.stopped is None
        assert await rig.value("SELECT min(term) FROM {s}.leases") > 0


async def test_runs_looked_at_side_by_side_are_not_given_up_beyond_the_limit(rig: Rig) -> None:
    for _ in range(14):
        _, run = await rig.sent()
        rig.fake.lose(run.id)
    await rig.adapter.reconcile()
    await rig.sql("UPDATE {s}.remote_runs SET missing_since = now() - interval '11 minutes'")
    report = await rig.adapter.reconcile()
    assert report.stopped is not None
    assert len(report.orphaned) == 10
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs_finished WHERE orphaned") == 10
