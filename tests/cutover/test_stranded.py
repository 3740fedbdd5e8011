"""Jobs that a switch sends to where nobody can run them: accepted, waiting, and let go again."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from adapter import Adapter, JobStatus
from adapter.core.worker import Worker
from adapter.domain.clock import SystemClock
from adapter.domain.errors import UnknownExecutorError
from adapter.testing.remote import MemoryExecutor
from tests.fakes.clock import ManualClock
from tests.fakes.trigger_dev import FakeTriggerDev
from tests.rig import Rig, rigged, trigger_executor, usual_tasks


async def shown(rig: Rig, job_id: Any) -> tuple[Any, ...]:
    row = await rig.row(job_id)
    return row["executor"], row["status"], row["waiting_for"], row["epoch"]


async def test_a_job_for_a_remote_that_lacks_its_task_waits_for_one_that_has_it(
    rig: Rig, database_url: str
) -> None:
    await rig.adapter.kill(to="trigger", reason="INC-7")
    (note,) = (await rig.adapter.explain("echo")).notes
    assert note == "Nobody is known to run it at trigger: it would wait there for somebody who can."
    job = await rig.adapter.schedule_job("echo")
    assert (job.executor, job.status, job.job.waiting_for) == ("trigger", JobStatus.WAITING, "executor")
    await rig.dispatch()
    assert await shown(rig, job.id) == ("trigger", "WAITING", "executor", 1)
    assert not rig.fake.runs

    def declare(adapter: Adapter) -> None:
        adapter.remote_task("echo", executor="trigger")

    async with rigged(database_url, declare, fake=rig.fake) as newer:
        await newer.adapter.dispatcher.run_once()
        await newer.adapter.dispatcher.run_once()
        assert await shown(newer, job.id) == ("trigger", "QUEUED", None, 1)
    assert len(rig.fake.runs) == 1


async def test_a_delayed_job_for_a_remote_that_lacks_its_task_waits_when_it_is_due(rig: Rig) -> None:
    await rig.adapter.kill("echo", to="trigger", reason="INC-7")
    sent = await rig.adapter.schedule_job("echo", delay=timedelta(hours=1))
    later = await rig.adapter.schedule_job("echo", delay=timedelta(hours=2))
    has_it = await rig.adapter.schedule_job("remote", delay=timedelta(hours=1))
    for each in (sent, has_it):
        await rig.set(each.id, "due = now()")
    await rig.adapter.maintenance.run_once()
    await rig.dispatch()
    assert await shown(rig, sent.id) == ("trigger", "WAITING", "executor", 1)
    assert await shown(rig, later.id) == ("trigger", "DELAYED", None, 1)
    assert (await shown(rig, has_it.id))[1] == "QUEUED"
    assert (await rig.adapter.why_waiting(sent.id))[0].code == "no_handler"
    await rig.adapter.clear_flag("kill", "echo", reason="over")
    await rig.dispatch()
    assert await shown(rig, sent.id) == ("local", "QUEUED", None, 2)


async def test_what_a_newer_dispatcher_has_tried_is_left_to_it_by_an_older_one(
    rig: Rig, database_url: str
) -> None:
    def declare(adapter: Adapter) -> None:
        adapter.remote_task("echo", executor="trigger")

    async with rigged(database_url, declare, fake=rig.fake) as newer:
        job = await newer.adapter.schedule_job("echo")
        rig.fake.next_fault(429, headers={"retry-after": "60"})
        await newer.dispatch(job.id)
    before = await rig.row(job.id)
    assert (before["status"], before["submit_state"], before["submit_tries"]) == ("PENDING", "never", 1)
    await rig.dispatch()
    after = await rig.row(job.id)
    assert (after["status"], after["next_try_at"]) == ("PENDING", before["next_try_at"])


async def test_a_switch_from_one_remote_to_one_that_lacks_the_task_lets_its_jobs_wait_there(
    database_url: str,
) -> None:
    fake = FakeTriggerDev(ManualClock(SystemClock().now()))

    def declare(adapter: Adapter) -> None:
        adapter.remote_task("report", executor="trigger")

    async with rigged(
        database_url, declare, executors=[trigger_executor(fake), MemoryExecutor("other")], fake=fake
    ) as rig:
        now = await rig.adapter.schedule_job("report")
        later = await rig.adapter.schedule_job("report", delay=timedelta(hours=1))
        await rig.adapter.kill("report", to="other", reason="INC-7")
        await rig.dispatch()
        assert await shown(rig, now.id) == ("other", "WAITING", "executor", 2)
        await rig.set(later.id, "due = now()")
        await rig.adapter.maintenance.run_once()
        await rig.dispatch()
        assert await shown(rig, later.id) == ("other", "WAITING", "executor", 2)


async def test_what_a_switch_takes_from_the_outbox_waits_where_it_cannot_run(database_url: str) -> None:
    async with rigged(database_url) as rig:
        job = await rig.adapter.schedule_job("remote")
        await rig.adapter.kill("remote", to="local", reason="INC-7")
        await rig.dispatch()
        assert await shown(rig, job.id) == ("local", "WAITING", "executor", 2)
        assert await rig.work() == 0


async def test_a_switch_that_is_taken_away_lets_what_it_held_up_go(rig: Rig) -> None:
    await rig.adapter.kill(reason="INC-7")
    here = await rig.adapter.schedule_job("remote")
    assert here.status is JobStatus.WAITING
    await rig.dispatch()
    assert await shown(rig, here.id) == ("local", "WAITING", "executor", 1)
    await rig.adapter.clear_flag("kill", "*", reason="over")
    await rig.adapter.kill("echo", to="trigger", reason="INC-8")
    there = await rig.adapter.schedule_job("echo")
    await rig.adapter.clear_flag("kill", "echo", reason="over")
    await rig.dispatch()
    assert await shown(rig, here.id) == ("trigger", "QUEUED", None, 2)
    assert await shown(rig, there.id) == ("local", "QUEUED", None, 2)
    assert await rig.events(here.id) == ["rerouted"]
    assert [each.detail for each in (await rig.adapter.explain_job(there.id)).moves] == [
        {"from": "trigger", "to": "local", "reason": "no switch sends it to trigger any more; default"}
    ]
    assert await rig.work() == 1
    assert len(rig.fake.runs) == 1


async def test_a_second_switch_moves_what_the_first_one_held_up(rig: Rig) -> None:
    await rig.adapter.kill(reason="INC-7")
    job = await rig.adapter.schedule_job("remote")
    await rig.adapter.kill("remote", to="trigger", reason="but not this one")
    await rig.dispatch()
    assert await shown(rig, job.id) == ("trigger", "QUEUED", None, 2)


async def test_what_was_asked_to_end_or_has_begun_is_not_moved(rig: Rig) -> None:
    await rig.adapter.kill(reason="INC-7")
    begun = await rig.adapter.schedule_job("remote")
    recalled = await rig.adapter.schedule_job("remote")
    canceled = await rig.adapter.schedule_job("remote")
    await rig.set(begun.id, "started = now(), attempt = 1")
    await rig.set(recalled.id, "recall_id = gen_random_uuid()")
    await rig.adapter.cancel_job(canceled.id)
    await rig.adapter.clear_flag("kill", "*", reason="over")
    await rig.dispatch()
    assert [await rig.status(each.id) for each in (begun, recalled, canceled)] == [
        "WAITING",
        "WAITING",
        "CANCELED",
    ]


@pytest.fixture
async def fleet(database_url: str) -> AsyncIterator[tuple[Rig, Worker, Worker]]:
    """Two workers: one that can run everything, and an older one without `new`."""

    def newer(adapter: Adapter) -> None:
        usual_tasks(adapter)

        @adapter.task("new")
        async def new(payload: Any) -> Any:
            return payload

        del new

    async with rigged(database_url) as old, rigged(database_url, newer) as rig:
        yield rig, old.worker(), rig.worker()


async def test_a_job_that_an_older_worker_puts_down_is_taken_up_within_seconds(
    fleet: tuple[Rig, Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, old, new = fleet
    await new.run_once()
    job = await rig.adapter.schedule_job("new")
    assert await old.run_once() == 1
    assert await shown(rig, job.id) == ("local", "WAITING", "executor", 1)
    row = await rig.row(job.id)
    assert (row["attempt"], row["started"]) == (0, None)
    # It looks around every few seconds, and not only when it says again what it can run.
    new.look_again()
    assert await new.run_once() == 1
    assert await rig.status(job.id) == "COMPLETED"


async def test_a_global_switch_stops_no_boot_though_executors_are_missing(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        usual_tasks(adapter)
        adapter.remote_task("keeps", executor="trigger", on_kill="keep")

    with pytest.raises(UnknownExecutorError):
        async with rigged(database_url, declare, executors=[]):
            pass
    async with rigged(database_url, declare, executors=[], kill_switches={"*": "local"}) as rig:
        waits = await rig.adapter.schedule_job("remote")
        stays = await rig.adapter.schedule_job("keeps")
        assert await shown(rig, waits.id) == ("local", "WAITING", "executor", 1)
        assert await shown(rig, stays.id) == ("trigger", "PENDING", None, 1)
        flags = await rig.adapter.flags()
        assert rig.adapter.steering.beforehand("local", flags) == (["idempotent", "remote"], ["keeps"])
        assert rig.adapter.steering.boot_findings(flags) == [
            "kill switch: environment, all tasks: idempotent cannot run at local; its jobs wait for local",
            "kill switch: environment, all tasks: keeps cannot run at local; its jobs stay where they are",
            "kill switch: environment, all tasks: remote cannot run at local; its jobs wait for local",
        ]
