"""A clock that changes hands: no tick doubled, none missed, wherever the process dies."""

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any
from unittest import mock
from uuid import UUID

import pytest

from adapter import Adapter
from adapter.domain.errors import ScheduleStateError, UnknownOutcomeError, UnsupportedError
from adapter.executors import trigger_schedules
from adapter.executors.trigger_schedules import TriggerSchedules
from adapter.store import hand_overs
from adapter.store.schedules import Schedule
from tests.fakes.trigger_engine import FakeRun
from tests.rig import Rig, rigged

#: Far from every run of the tests.
YEARLY = "0 0 1 1 *"


def tasks(adapter: Adapter) -> None:
    adapter.task("report", remote_id={"trigger": "report-there"})(nothing)
    adapter.task("only-here")(nothing)


async def nothing(_payload: Any) -> None:
    return None


@pytest.fixture
async def rig(database_url: str) -> AsyncGenerator[Rig]:
    async with rigged(database_url, tasks) as made:
        made.adapter.hand_overs._lag = timedelta(0)
        yield made


async def a_schedule(rig: Rig, cron: str = YEARLY, **options: Any) -> Schedule:
    return await rig.adapter.schedule_cron("report", cron, **options)


async def steps(rig: Rig, times: int = 6) -> None:
    for _ in range(times):
        await rig.adapter.hand_overs.run_once()


async def there(rig: Rig, schedule: Schedule) -> Schedule:
    """Hand it over, to the end."""
    await rig.adapter.hand_over_schedule(schedule.id, to="trigger", reason="they keep it")
    await steps(rig)
    found = await rig.adapter.get_schedule(schedule.id)
    assert (found.owner, found.handover_state) == ("trigger", None)
    return found


def fires(rig: Rig, remote_id: str, at: datetime) -> FakeRun:
    """Let it be that time there, and the schedule fire."""
    rig.fake.clock.advance((at - rig.fake.clock.now()).total_seconds())
    return rig.fake.fire(remote_id, at)


async def ticks(rig: Rig, schedule_id: UUID) -> list[datetime]:
    rows = await rig.sql(
        "SELECT fire_time FROM {s}.schedule_ticks WHERE schedule_id = %(id)s ORDER BY 1", id=schedule_id
    )
    return [row["fire_time"] for row in rows]


async def test_to_the_remote_it_is_made_exact_and_fires_from_the_cut_on(rig: Rig) -> None:
    made = await a_schedule(rig, tz="Asia/Tokyo")
    after = await there(rig, made)
    [remote] = rig.fake.schedules.values()
    assert (remote.task, remote.cron, remote.timezone, remote.window) == (
        "report-there",
        YEARLY,
        "Asia/Tokyo",
        "0m",
    )
    assert (after.remote_schedule_id, after.next_at, after.problem) == (remote.id, None, None)
    assert made.next_at is not None
    run = fires(rig, remote.id, made.next_at)
    rig.fake.start(run.id)
    await rig.adapter.hand_overs.run_once()
    [job] = (await rig.adapter.list_jobs()).jobs
    assert (job.executor, job.remote_run_id, job.schedule_id, job.status) == (
        "trigger",
        run.id,
        made.id,
        "EXECUTING",
    )
    assert await ticks(rig, made.id) == [made.next_at]
    # Looked at again, and ended there: the same job.
    rig.fake.complete(run.id, {"ok": 1})
    await rig.adapter.hand_overs.run_once()
    await rig.adapter.reconcile()
    assert (await rig.row(job.id))["result"] == {"ok": 1}
    assert len(await ticks(rig, made.id)) == 1


async def test_while_it_changes_hands_and_after_nothing_is_fired_here(rig: Rig) -> None:
    made = await a_schedule(rig)
    begun = await rig.adapter.hand_over_schedule(made.id, to="trigger", reason="x")
    assert begun.next_at is None
    await rig.sql("UPDATE {s}.job_schedules SET next_at = NULL")
    assert await rig.adapter.firing.run_once() == 0
    with pytest.raises(ScheduleStateError):
        await rig.adapter.pause_schedule(made.id, reason="x")
    with pytest.raises(ScheduleStateError):
        await rig.adapter.hand_over_schedule(made.id, to="trigger", reason="again")
    with pytest.raises(ScheduleStateError):
        await rig.adapter.cancel_schedule(made.id, reason="x")


async def test_back_to_us_what_was_fired_there_is_adopted_and_the_rest_is_fired_here(rig: Rig) -> None:
    made = await there(rig, await a_schedule(rig, missed="all"))
    [remote] = rig.fake.schedules.values()
    begun = await rig.adapter.hand_over_schedule(made.id, to="local", reason="home")
    cut = begun.handover_cut
    assert cut is not None
    # We were slow: it fired the cut itself, a year later nobody was there, and the list lags behind.
    await rig.adapter.hand_overs.run_once()
    remote.active = True
    run = fires(rig, remote.id, cut)
    remote.active = False
    await steps(rig)
    home = await rig.adapter.get_schedule(made.id)
    assert (home.owner, home.handover_state, home.next_at) == ("local", None, cut)
    assert await ticks(rig, made.id) == [cut]
    # When its time comes here, the tick is taken: nothing is fired twice.
    passed = await rig.value("SELECT date_trunc('minute', now())")
    await rig.sql("UPDATE {s}.job_schedules SET next_at = %(at)s, cron = '* * * * *'", at=passed)
    await rig.sql("UPDATE {s}.schedule_ticks SET fire_time = %(at)s", at=passed)
    await rig.adapter.firing.run_once()
    jobs = (await rig.adapter.list_jobs()).jobs
    assert [job.remote_run_id for job in jobs if job.executor == "trigger"] == [run.id]
    assert len([job for job in jobs if job.extra.get("tick") == passed.isoformat()]) == 0


@pytest.mark.parametrize("fault", ["timeout_before", "timeout_after", 500])
@pytest.mark.parametrize("call", ["schedules", "activate"])
async def test_a_call_that_goes_wrong_on_the_way_there_is_made_again(rig: Rig, call: Any, fault: Any) -> None:
    made = await a_schedule(rig)
    await rig.adapter.hand_over_schedule(made.id, to="trigger", reason="x")
    for _ in range(3 if fault == 500 else 1):
        rig.fake.next_fault(fault, on=call)
    for _ in range(8):
        await rig.sql("UPDATE {s}.job_schedules SET extra = extra - 'handover_until'")
        await rig.adapter.hand_overs.run_once()
    found = await rig.adapter.get_schedule(made.id)
    assert (found.owner, found.handover_state) == ("trigger", None)
    assert len(rig.fake.schedules) == 1


class _DiedError(Exception):
    pass


@pytest.mark.parametrize(
    "death", [(to, at, early) for to in ("trigger", "local") for at in (1, 2) for early in (True, False)]
)
async def test_it_dies_at_any_step_and_whoever_goes_on_ends_it_right(
    rig: Rig, database_url: str, monkeypatch: pytest.MonkeyPatch, death: tuple[str, int, bool]
) -> None:
    made = await a_schedule(rig)
    to, at, early = death
    if to == "local":
        made = await there(rig, made)
    await rig.adapter.hand_over_schedule(made.id, to=to, reason="x")
    count = 0
    for name in ("step", "end"):
        real = getattr(hand_overs, name)

        async def dying(*given: Any, real: Any = real, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == at and early:
                raise _DiedError
            done = await real(*given, **named)
            if count == at:
                raise _DiedError
            return done

        monkeypatch.setattr(hand_overs, name, dying)
    with pytest.raises(_DiedError):
        await steps(rig)
    monkeypatch.undo()
    async with rigged(database_url, tasks, fake=rig.fake) as other:
        other.adapter.hand_overs._lag = timedelta(0)
        await steps(other)
        found = await other.adapter.get_schedule(made.id)
    assert (found.owner, found.handover_state, found.problem) == (to, None, None)
    assert [each.active for each in rig.fake.schedules.values()] == [to == "trigger"]


async def test_one_that_died_until_after_the_cut_takes_back_and_nothing_is_fired_twice(rig: Rig) -> None:
    made = await a_schedule(rig)
    begun = await rig.adapter.hand_over_schedule(made.id, to="trigger", reason="x")
    await rig.adapter.hand_overs.run_once()
    [remote] = rig.fake.schedules.values()
    assert begun.handover_cut is not None
    # Made there it fires from the cut on, whether we have read so or not.
    run = fires(rig, remote.id, begun.handover_cut)
    await steps(rig)
    found = await rig.adapter.get_schedule(made.id)
    assert (found.owner, found.handover_state, found.next_at) == ("local", None, begun.handover_cut)
    assert "hand it over again" in (found.problem or "")
    assert remote.active is False
    assert await ticks(rig, made.id) == [begun.handover_cut]
    [job] = (await rig.adapter.list_jobs()).jobs
    assert job.remote_run_id == run.id


async def test_a_list_that_lags_hides_the_last_tick_and_it_is_not_fired_here_as_well(rig: Rig) -> None:
    made = await there(rig, await a_schedule(rig, missed="all"))
    [remote] = rig.fake.schedules.values()
    rig.adapter.hand_overs._lag = timedelta(seconds=30)
    rig.fake.lag = timedelta(seconds=45)
    await rig.adapter.hand_over_schedule(made.id, to="local", reason="home")
    # The process was away until the cut had passed: the remote has fired it this second.
    cut = await rig.value("SELECT date_trunc('minute', now())")
    await rig.sql("UPDATE {s}.job_schedules SET handover_cut = %(at)s, cron = '* * * * *'", at=cut)
    run = fires(rig, remote.id, cut)
    await rig.adapter.hand_overs.run_once()
    left = await rig.value("SELECT (extra ->> 'handover_until')::timestamptz - now() FROM {s}.job_schedules")
    assert timedelta(minutes=4) < left <= timedelta(minutes=5)
    # Half a minute later it does not show yet, and nothing is decided; then it does.
    rig.fake.advance(30)
    await steps(rig)
    assert (await rig.adapter.get_schedule(made.id)).handover_state == "waiting"
    rig.fake.advance(270)
    await rig.sql("UPDATE {s}.job_schedules SET extra = extra - 'handover_until'")
    await steps(rig)
    await rig.adapter.firing.run_once()
    [job] = (await rig.adapter.list_jobs()).jobs
    assert (job.remote_run_id, await ticks(rig, made.id)) == (run.id, [cut])


async def test_where_the_last_tick_lies_before_the_cut_half_a_minute_is_enough(rig: Rig) -> None:
    made = await there(rig, await a_schedule(rig))
    rig.adapter.hand_overs._lag = timedelta(seconds=30)
    await rig.adapter.hand_over_schedule(made.id, to="local", reason="home")
    await rig.adapter.hand_overs.run_once()
    left = await rig.value("SELECT (extra ->> 'handover_until')::timestamptz - now() FROM {s}.job_schedules")
    assert timedelta(seconds=20) < left <= timedelta(seconds=30)


async def test_however_many_ticks_were_fired_there_all_are_adopted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trigger_schedules, "_PAGE", 2)
    begun = await a_schedule(rig)
    made = await there(rig, begun)
    [remote] = rig.fake.schedules.values()
    assert begun.next_at is not None
    times = [begun.next_at + timedelta(minutes=each) for each in range(1, 44)]
    for at in times:
        fires(rig, remote.id, at)
    await rig.adapter.hand_overs.run_once()
    assert await ticks(rig, made.id) == times


async def test_what_is_read_before_a_look_breaks_off_is_kept(rig: Rig) -> None:
    begun = await a_schedule(rig)
    made = await there(rig, begun)
    [remote] = rig.fake.schedules.values()
    assert begun.next_at is not None
    times = [begun.next_at + timedelta(minutes=each) for each in range(1, 4)]
    runs = [fires(rig, remote.id, at) for at in times]
    tick = TriggerSchedules.tick

    async def breaking(clock: TriggerSchedules, run_id: str) -> Any:
        if run_id == runs[2].id:
            raise UnknownOutcomeError("away")
        return await tick(clock, run_id)

    with mock.patch.object(TriggerSchedules, "tick", breaking):
        await rig.adapter.hand_overs.run_once()
    assert await ticks(rig, made.id) == times[:2]
    await rig.adapter.hand_overs.run_once()
    assert await ticks(rig, made.id) == times


async def test_a_webhook_that_names_a_tick_adopts_it_at_once(rig: Rig) -> None:
    begun = await a_schedule(rig)
    made = await there(rig, begun)
    [remote] = rig.fake.schedules.values()
    at = begun.next_at
    assert at is not None
    run = fires(rig, remote.id, at)
    rig.fake.start(run.id)
    stray = rig.fake.make("report-there", {"timestamp": "never"}, {}, [])
    other = rig.fake.make("another", None, {}, [])
    for each in (run, stray, other):
        await rig.webhook("RUN_STARTED", each)
    calls = len(rig.fake.requests)
    await rig.adapter.inbox.run_once()
    [job] = (await rig.adapter.list_jobs()).jobs
    assert (job.remote_run_id, job.schedule_id, job.status) == (run.id, made.id, "EXECUTING")
    assert await ticks(rig, made.id) == [at]
    assert len(rig.fake.requests) - calls == 2, "a run of a task without a schedule there is not looked at"
    rig.fake.complete(run.id, {"ok": 1})
    await rig.webhook("RUN_COMPLETED", run, attempt=1)
    await rig.adapter.inbox.work_once()
    assert (await rig.row(job.id))["result"] == {"ok": 1}
    await rig.adapter.hand_overs.run_once()
    assert len((await rig.adapter.list_jobs()).jobs) == 1


async def test_what_the_remote_refuses_goes_on_here(rig: Rig) -> None:
    rig.fake.unscheduled.add("report-there")
    made = await a_schedule(rig)
    await rig.adapter.hand_over_schedule(made.id, to="trigger", reason="x")
    await steps(rig)
    found = await rig.adapter.get_schedule(made.id)
    assert (found.owner, found.handover_state, found.next_at) == ("local", None, made.next_at)
    assert "not a scheduled task" in (found.problem or "")


async def test_a_refusal_after_an_answer_that_was_lost_takes_it_back(rig: Rig) -> None:
    made = await a_schedule(rig)
    await rig.adapter.hand_over_schedule(made.id, to="trigger", reason="x")
    rig.fake.next_fault("timeout_after", on="schedules")
    await rig.adapter.hand_overs.run_once()
    rig.fake.unscheduled.add("report-there")
    for _ in range(6):
        await rig.sql("UPDATE {s}.job_schedules SET extra = extra - 'handover_until'")
        await rig.adapter.hand_overs.run_once()
    assert [each.active for each in rig.fake.schedules.values()] == [False]
    assert (await rig.adapter.get_schedule(made.id)).owner == "local"


async def test_what_cannot_be_handed_over_is_refused(rig: Rig) -> None:
    near = await a_schedule(rig, "* * * * *")
    with pytest.raises(ScheduleStateError, match="within two minutes"):
        await rig.adapter.hand_over_schedule(near.id, to="trigger", reason="x")
    made = await a_schedule(rig)
    with pytest.raises(ScheduleStateError, match="already"):
        await rig.adapter.hand_over_schedule(made.id, to="local", reason="x")
    with pytest.raises(UnsupportedError):
        await rig.adapter.hand_over_schedule(made.id, to="nowhere", reason="x")
    here = await rig.adapter.schedule_cron("only-here", YEARLY)
    with pytest.raises(UnsupportedError, match="no id at"):
        await rig.adapter.hand_over_schedule(here.id, to="trigger", reason="x")
    await rig.adapter.pause_schedule(made.id, reason="x")
    with pytest.raises(ScheduleStateError, match="rests"):
        await rig.adapter.hand_over_schedule(made.id, to="trigger", reason="x")


async def test_ticks_that_are_still_to_be_fired_here_keep_it_here(rig: Rig) -> None:
    made = await a_schedule(rig, missed="all")
    year = "UPDATE {s}.job_schedules SET next_at = next_at - interval '1 year'"
    await rig.sql(year)
    with pytest.raises(ScheduleStateError, match="still to be fired"):
        await rig.adapter.hand_over_schedule(made.id, to="trigger", reason="x")
    assert await rig.adapter.firing.run_once() >= 1
    begun = await rig.adapter.hand_over_schedule(made.id, to="trigger", reason="x")
    assert begun.handover_cut == made.next_at


async def test_canceled_it_is_gone_here_and_there(rig: Rig) -> None:
    made = await there(rig, await a_schedule(rig))
    await rig.adapter.cancel_schedule(made.id, reason="no more")
    assert rig.fake.schedules == {}
    assert await rig.adapter.list_schedules() == []


async def test_another_task_of_the_same_schedule_is_made_anew_there(rig: Rig) -> None:
    made = await there(rig, await a_schedule(rig))
    await rig.adapter.hand_over_schedule(made.id, to="local", reason="home")
    await steps(rig)
    [first] = rig.fake.schedules.values()
    # As after another remote_id in the registry: upstream would go on with the old task in silence.
    first.task = "renamed-since"
    await there(rig, made)
    [second] = rig.fake.schedules.values()
    assert second.task == "report-there"


async def test_only_one_process_at_a_time_takes_steps(rig: Rig) -> None:
    made = await a_schedule(rig)
    await rig.adapter.hand_over_schedule(made.id, to="trigger", reason="x")
    await rig.sql(
        "INSERT INTO {s}.leases (name, holder, until) VALUES ('schedules', %(id)s, now() + interval '1 minute')"
        " ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until",
        id=made.id,
    )
    await steps(rig, 2)
    assert rig.fake.schedules == {}
    await rig.sql("UPDATE {s}.leases SET until = now() - interval '1 second'")
    await steps(rig)
    assert (await rig.adapter.get_schedule(made.id)).owner == "trigger"
