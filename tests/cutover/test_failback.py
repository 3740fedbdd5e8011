"""Failback: what opens a circuit, what it does to jobs, and that only a person closes it."""

from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from adapter import Adapter
from adapter.domain.errors import InvalidArgumentError, TaskDefinitionError, UnknownExecutorError
from adapter.domain.failback import CANARY, IN_A_ROW
from tests.rig import Rig, rigged


def tasks(adapter: Adapter) -> None:
    adapter.remote_task("remote", executor="trigger")
    adapter.remote_task("other", executor="trigger")

    @adapter.task("both", executor="trigger", remote_id={"trigger": "both"}, fallback="local")
    async def both(payload: int) -> int:
        return payload

    adapter.canary("trigger", remote_id="beat", every=timedelta(minutes=1))
    del both


@pytest.fixture
async def rig(database_url: str) -> AsyncGenerator[Rig]:
    async with rigged(database_url, tasks) as made:
        # Its canary is a test of its own.
        await made.sql(
            "INSERT INTO {s}.canaries VALUES ('trigger', 'adapter-canary', '1 minute', now() + interval '1 hour')"
        )
        yield made


async def circuits(rig: Rig) -> list[tuple[str, str, str]]:
    health = await rig.adapter.executor_health()
    return [(each.task, each.executor, each.actor) for each in health.circuits]


async def broken_submits(rig: Rig, task: str, times: int) -> None:
    job = await rig.adapter.schedule_job(task, 1)
    for _ in range(times):
        for _ in range(3):
            rig.fake.next_fault("connect_error", on="trigger")
        await rig.due_now(job.id)
        await rig.dispatch(job.id)


async def ends(rig: Rig, task: str, statuses: list[str]) -> None:
    for status in statuses:
        _, run = await rig.sent(task, 1)
        rig.fake.start(run.id)
        if status == "COMPLETED":
            rig.fake.complete(run.id, output=1)
        else:
            rig.fake.fail(run.id, {"name": "X", "message": "x"}, status=status)
    await rig.adapter.reconcile()


async def test_five_submits_in_a_row_that_did_not_arrive_open_the_circuit_of_their_task_only(
    rig: Rig,
) -> None:
    await broken_submits(rig, "remote", IN_A_ROW - 1)
    assert await rig.adapter.failback.run_once() == []
    await broken_submits(rig, "remote", 1)
    opened = await rig.adapter.failback.run_once()
    assert len(opened) == 1
    assert await circuits(rig) == [("remote", "trigger", "failback")]
    # What is known of the others is nothing bad.
    assert (await rig.adapter.explain("other")).route.blocked is False
    assert (await rig.adapter.explain("remote")).route.blocked is True


async def test_one_that_arrives_begins_the_row_anew_and_throttling_is_an_answer(rig: Rig) -> None:
    await broken_submits(rig, "remote", IN_A_ROW - 1)
    await rig.adapter.failback.run_once()
    rig.fake.next_fault(429, on="trigger", headers={"retry-after": "0"})
    job = await rig.adapter.schedule_job("remote", 2)
    await rig.dispatch(job.id)
    await broken_submits(rig, "remote", IN_A_ROW - 1)
    assert await rig.adapter.failback.run_once() == []
    health = await rig.adapter.executor_health()
    assert [each.in_a_row for each in health.tasks if each.task == "remote"] == [IN_A_ROW - 1]
    assert await circuits(rig) == []


async def test_what_two_processes_saw_adds_up_to_one_row(rig: Rig, database_url: str) -> None:
    async with rigged(database_url, tasks) as elsewhere:
        await broken_submits(rig, "remote", 3)
        await broken_submits(elsewhere, "remote", 2)
        assert await rig.adapter.failback.run_once() == []
        assert len(await elsewhere.adapter.failback.run_once()) == 1


async def test_failures_of_the_executor_count_and_those_of_the_job_do_not(rig: Rig) -> None:
    await ends(rig, "remote", ["FAILED", "CRASHED", "TIMED_OUT", "COMPLETED"] * 3)
    assert await rig.adapter.failback.run_once() == []
    health = await rig.adapter.executor_health()
    assert [(each.runs, each.failures) for each in health.tasks if each.task == "remote"] == [(12, 0)]
    await ends(rig, "remote", ["SYSTEM_FAILURE"] * 3)
    assert len(await rig.adapter.failback.run_once()) == 1
    # Once is enough, and the first reason is kept.
    await ends(rig, "remote", [])
    assert await rig.adapter.failback.run_once() == []
    changes = await rig.sql("SELECT actor, source, reason FROM {s}.flag_changes WHERE kind = 'circuit'")
    assert [(each["actor"], each["source"]) for each in changes] == [("failback", "auto")]
    assert changes[0]["reason"].startswith("3 of the last 15 runs failed there")


async def test_an_open_circuit_sends_new_jobs_and_those_not_handed_over_to_the_fallback(rig: Rig) -> None:
    waiting = await rig.adapter.schedule_job("both", 1)
    given, _ = await rig.sent("both", 2)
    strict = await rig.adapter.schedule_job("both", 3, executor="trigger", strict=True)
    await rig.adapter.open_circuit("both", executor="trigger", reason="INC-1")
    new = await rig.adapter.schedule_job("both", 4)
    await rig.dispatch()
    places = {each: (await rig.row(each))["executor"] for each in (waiting.id, given, strict.id, new.id)}
    assert list(places.values()) == ["local", "trigger", "trigger", "local"]
    assert "rerouted" in await rig.events(waiting.id)
    # It said that it goes there or nowhere: it waits.
    assert (await rig.row(strict.id))["submit_state"] == "never"
    await rig.work(2)
    assert {await rig.status(waiting.id), await rig.status(new.id)} == {"COMPLETED"}


async def test_without_a_fallback_jobs_wait_until_a_person_resumes(rig: Rig) -> None:
    await broken_submits(rig, "remote", IN_A_ROW)
    await rig.adapter.failback.run_once()
    job = await rig.adapter.schedule_job("remote", 2)
    await rig.dispatch()
    assert (await rig.row(job.id))["submit_state"] == "never"
    await rig.adapter.clear_flag("circuit", "remote", reason="they mended it", actor="ada")
    # What was seen before does not count again.
    await broken_submits(rig, "remote", 1)
    assert await rig.adapter.failback.run_once() == []
    await rig.dispatch()
    assert (await rig.row(job.id))["submit_state"] == "accepted"
    assert await rig.adapter.clear_flag("circuit", "remote", executor="trigger", reason="again") is None


async def test_what_cannot_be_opened_is_refused(rig: Rig) -> None:
    with pytest.raises(UnknownExecutorError):
        await rig.adapter.open_circuit("remote", executor="nowhere", reason="x")
    with pytest.raises(InvalidArgumentError, match="no circuit"):
        await rig.adapter.open_circuit("remote", executor="local", reason="x")
    with pytest.raises(InvalidArgumentError, match="reason"):
        await rig.adapter.open_circuit("remote", executor="trigger", reason=" ")


# ---- canaries ------------------------------------------------------------------------------------


async def due(rig: Rig) -> None:
    await rig.sql("UPDATE {s}.canaries SET next_at = now()")


async def ages(rig: Rig, minutes: float) -> None:
    """Let time pass for the canary: everything it has seen was so long ago."""
    by = timedelta(minutes=minutes)
    await rig.sql("UPDATE {s}.canaries SET counted_from = counted_from - %(by)s", by=by)
    await rig.sql(
        "UPDATE {s}.worker_jobs_finished SET finished = finished - %(by)s WHERE type = 'adapter-canary'",
        by=by,
    )


async def beats(rig: Rig) -> int:
    return await rig.value("SELECT count(*) FROM {s}.worker_jobs WHERE type = 'adapter-canary'")


async def test_one_canary_goes_out_per_beat_however_many_processes_send_them(
    rig: Rig, database_url: str
) -> None:
    async with rigged(database_url, tasks) as elsewhere:
        await rig.adapter.failback.run_once()
        await due(rig)
        for each in (rig, elsewhere, rig, elsewhere):
            await each.adapter.failback.run_once()
        assert await beats(rig) == 1
        await due(rig)
        await elsewhere.adapter.failback.run_once()
        assert await beats(rig) == 2


async def test_a_canary_that_comes_back_keeps_the_circuit_closed_and_one_that_does_not_opens_it(
    rig: Rig,
) -> None:
    await due(rig)
    await rig.adapter.failback.run_once()
    await rig.dispatch()
    run = next(iter(rig.fake.runs.values()))
    assert run.task == "beat"
    await ages(rig, 2)
    rig.fake.start(run.id)
    rig.fake.complete(run.id)
    await rig.adapter.reconcile()
    [canary] = (await rig.adapter.executor_health()).canaries
    assert canary.last_success_at is not None
    assert canary.age < timedelta(minutes=1)
    await ages(rig, 2.9)
    assert await rig.adapter.failback.run_once() == []
    await ages(rig, 0.2)
    [opened] = await rig.adapter.failback.run_once()
    assert opened.startswith("* at trigger: the canary has not come back")
    assert (await rig.adapter.explain("other")).route.blocked is True


async def test_the_canary_goes_out_though_the_circuit_is_open_and_through_a_kill_switch(rig: Rig) -> None:
    await rig.adapter.open_circuit("*", executor="trigger", reason="INC-2")
    await rig.adapter.kill(reason="INC-2")
    await due(rig)
    await rig.adapter.failback.run_once()
    await rig.dispatch()
    assert [run.task for run in rig.fake.runs.values()] == ["beat"]
    # After a resume it has its three beats again.
    await ages(rig, 10)
    await rig.adapter.clear_flag("circuit", "*", reason="well again")
    assert await rig.adapter.failback.run_once() == []


async def test_canaries_that_rested_are_awaited_from_the_boot_on(rig: Rig, database_url: str) -> None:
    await rig.sql(
        "UPDATE {s}.canaries SET next_at = now() - interval '1 hour', counted_from = now() - interval '1 day'"
    )
    async with rigged(database_url, tasks) as later:
        assert await later.adapter.failback.run_once() == []


async def test_a_canary_needs_a_sane_interval() -> None:
    with pytest.raises(TaskDefinitionError, match="once a second"):
        Adapter().canary("trigger", every=timedelta(milliseconds=10))
    assert CANARY == "adapter-canary"
