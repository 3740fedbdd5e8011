"""What an executor still holds, and when nothing is left."""

from datetime import timedelta
from typing import Any

import pytest

from adapter import Adapter
from adapter.core.cutover.draining import DrainStatus, TaskDrain
from adapter.domain.errors import UnknownExecutorError
from tests.fakes.clock import ManualClock
from tests.rig import Rig, new_id, rigged, usual_tasks

OLD = "created_at = now() - interval '1 hour'"


async def at(rig: Rig, task: str = "remote", executor: str = "trigger", **options: Any) -> TaskDrain:
    (found,) = (await rig.adapter.drain_status(executor, task=task, **options)).tasks
    return found


async def age(rig: Rig) -> None:
    """Let an hour pass since everything that was scheduled, sent or ended."""
    for statement in (
        "UPDATE {s}.worker_jobs_open SET created_at = created_at - interval '1 hour'",
        "UPDATE {s}.worker_jobs_finished SET created_at = created_at - interval '1 hour', finished = finished - interval '1 hour'",
        "UPDATE {s}.remote_runs SET created_at = created_at - interval '1 hour', ended_at = ended_at - interval '1 hour'",
    ):
        await rig.sql(statement)


async def drained(rig: Rig, **options: Any) -> DrainStatus:
    return await rig.adapter.drain_status("trigger", **options)


async def test_nothing_was_ever_there(rig: Rig) -> None:
    found = await drained(rig)
    assert (found.drained, found.tasks, found.remote_unknown) == (True, [], {})


async def test_open_jobs_by_status_age_and_due(rig: Rig) -> None:
    old, _ = await rig.sent()
    await rig.set(old, OLD)
    await rig.adapter.schedule_job("remote")
    await rig.adapter.schedule_job("remote", delay=timedelta(days=2))
    found = await at(rig)
    assert found.open == {"DELAYED": 1, "PENDING": 1, "QUEUED": 1}
    assert found.oldest_at is not None
    assert found.furthest_due is not None
    assert (await drained(rig)).at - found.oldest_at > timedelta(minutes=59)
    assert timedelta(days=1) < found.furthest_due - found.oldest_at < timedelta(days=3)
    assert (found.runs, found.remote) == (1, 1)
    assert found.left[:3] == ["3 open", "1 runs not known to have ended", "1 open by its own count"]
    assert not (await drained(rig)).drained


async def test_an_uncertain_submit_is_counted_apart(rig: Rig) -> None:
    rig.fake.next_fault("timeout_after", on="trigger")
    job = await rig.adapter.schedule_job("remote")
    await rig.dispatch(job.id)
    assert (await at(rig)).uncertain == 1


async def test_a_run_of_a_closed_epoch_ties_though_its_job_has_ended_elsewhere(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("both")
    await rig.work()
    await rig.sql(
        "INSERT INTO {s}.remote_runs (executor, run_id, job_id, epoch, wanted) VALUES ('trigger', 'run_x', %(id)s, 1, 'canceled')",
        id=job.id,
    )
    await age(rig)
    found = await at(rig, "both")
    assert (found.open, found.runs, found.left) == ({}, 1, ["1 runs not known to have ended"])
    await rig.sql("UPDATE {s}.remote_runs SET ended_at = now()")
    assert (await drained(rig)).drained


async def test_a_run_of_a_job_that_is_gone_counts_for_every_task(rig: Rig) -> None:
    await rig.sql(
        "INSERT INTO {s}.remote_runs (executor, run_id, job_id, epoch) VALUES ('trigger', 'run_x', %(id)s, 1)",
        id=new_id(),
    )
    for task in (None, "remote"):
        (found,) = (await drained(rig, task=task)).tasks
        assert (found.task, found.runs) == ("", 1)


async def test_drained_needs_a_quiet_time_after_the_last_job(rig: Rig) -> None:
    job, run = await rig.sent()
    rig.fake.start(run.id)
    rig.fake.complete(run.id)
    await rig.adapter.reconcile()
    assert await rig.status(job) == "COMPLETED"
    found = await at(rig)
    assert (found.open, found.runs, found.remote) == ({}, 0, 0)
    assert len(found.left) == 1
    assert found.left[0].startswith("the last job came ")
    await age(rig)
    assert (await drained(rig)).drained
    assert not (await drained(rig, quiet=timedelta(hours=3))).drained


@pytest.mark.parametrize("column", ["owner", "handover_to"])
async def test_a_schedule_that_is_owned_there_ties(rig: Rig, column: str) -> None:
    await rig.sql(
        "INSERT INTO {s}.job_schedules (id, task, cron, owner, handover_to) VALUES (%(id)s, 'remote', '0 * * * *',"
        " CASE WHEN %(column)s = 'owner' THEN 'trigger' ELSE 'local' END, CASE WHEN %(column)s <> 'owner' THEN 'trigger' END)",
        id=new_id(),
        column=column,
    )
    assert (await at(rig)).left == ["1 schedules"]


async def test_what_the_remote_has_beside_us_ties_too(rig: Rig) -> None:
    rig.fake.make("remote", {}, {}, [])
    found = await at(rig)
    assert (found.open, found.runs, found.remote, found.left) == ({}, 0, 1, ["1 open by its own count"])


async def test_an_executor_that_cannot_say_is_not_drained(rig: Rig) -> None:
    for _ in range(5):
        rig.fake.next_fault(503, on="list")
    found = await drained(rig)
    assert not found.drained
    assert found.remote_unknown["trigger"].startswith("it cannot be asked")


async def test_its_own_count_keeps_to_a_few_pages(rig: Rig) -> None:
    for _ in range(1001):
        rig.fake.make("remote", {}, {}, [])
    found = await drained(rig)
    assert found.remote_unknown == {"trigger": "it has more than 1000 open runs"}
    assert sum(each.call == "list" for each in rig.fake.requests) == 10


async def test_its_own_count_keeps_to_the_rate_limit(database_url: str) -> None:
    async with rigged(database_url, trigger={"requests_per_minute": 1, "burst": 1}) as rig:
        assert (await drained(rig)).drained
        found = await drained(rig)
        assert found.remote_unknown == {"trigger": "its rate limit leaves no room to ask"}


async def test_how_long_it_takes_at_this_rate(rig: Rig) -> None:
    jobs = [await rig.adapter.schedule_job("echo") for _ in range(4)]
    await rig.work()
    assert await rig.status(jobs[0].id) == "COMPLETED"
    await rig.sql("UPDATE {s}.worker_jobs_finished SET created_at = now() - interval '1 hour'")
    left = await rig.adapter.schedule_job("echo")
    found = await at(rig, "echo", "local")
    # 4 ended and 1 came in a quarter of an hour: three more need another five minutes each.
    assert (found.arrivals, found.completions) == (1 / 900, 4 / 900)
    assert found.eta_seconds == pytest.approx(300)
    assert found.remote is None
    await rig.set(left.id, OLD)
    assert (await at(rig, "echo", "local")).eta_seconds == pytest.approx(225)
    for _ in range(4):
        await rig.adapter.schedule_job("echo")
    assert (await at(rig, "echo", "local")).eta_seconds is None


async def test_canaries_do_not_count(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        usual_tasks(adapter)
        adapter.canary("trigger")

    async with rigged(database_url, declare) as rig:
        assert await rig.adapter.failback.run_once() == []
        assert await rig.dispatch() == 1
        assert (await drained(rig)).drained


async def test_waiting_ends_when_it_is_drained_and_asks_the_remote_only_then(database_url: str) -> None:
    clock = ManualClock()
    async with rigged(database_url, clock=clock) as rig:
        job, run = await rig.sent()
        await rig.set(job, OLD)
        await rig.sql("UPDATE {s}.remote_runs SET created_at = now() - interval '1 hour'")
        slept = clock.sleep

        async def sleep(seconds: float) -> None:
            assert not [each for each in rig.fake.requests if each.call == "list"]
            rig.fake.start(run.id)
            rig.fake.complete(run.id)
            await rig.sql("DELETE FROM {s}.worker_jobs_open")
            await rig.sql("UPDATE {s}.remote_runs SET ended_at = now()")
            await slept(0)
            del seconds

        clock.sleep = sleep
        found = await rig.adapter.wait_drained("trigger", timeout=timedelta(minutes=30))
        assert found.drained


async def test_waiting_is_over_when_the_time_is(rig: Rig) -> None:
    await rig.sent()
    found = await rig.adapter.wait_drained("trigger", timeout=timedelta(0))
    assert not found.drained


async def test_an_executor_nobody_knows(rig: Rig) -> None:
    with pytest.raises(UnknownExecutorError):
        await rig.adapter.drain_status("mars")
    assert (await rig.adapter.drain_status("internal")).drained
