"""Schedules whose clock is ours: one job per tick, whoever looks, and nothing that stops the others."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from adapter import Adapter, JobContext
from adapter.domain.clock import SystemClock
from adapter.domain.cron import Cron
from adapter.domain.errors import (
    InvalidArgumentError,
    InvalidCronError,
    InvalidPayloadError,
    ScheduleNotFoundError,
    TaskDisabledError,
    UnknownExecutorError,
    UnknownTaskError,
)
from tests import kit
from tests.rig import Rig, new_id, rigged

SEEN: list[Any] = []


class Report(BaseModel):
    month: str


def tasks(adapter: Adapter) -> None:
    @adapter.task("report", remote_id={"trigger": "report-there"})
    async def report(payload: Report, ctx: JobContext) -> None:
        SEEN.append((payload.month, ctx.tick, ctx.job.schedule_id))

    @adapter.task("sweep", cron=Cron("30 3 * * *", "Europe/Berlin"), description="tidies up")
    async def sweep(_payload: Any) -> None:
        SEEN.append("swept")

    adapter.task("off", enabled=False)(sweep_nothing)
    del report, sweep


async def sweep_nothing(_payload: Any) -> None:
    raise AssertionError


@pytest.fixture
async def rig(database_url: str) -> AsyncGenerator[Rig]:
    SEEN.clear()
    async with rigged(database_url, tasks) as made:
        yield made


async def is_due(rig: Rig, schedule_id: UUID, ago: timedelta = timedelta(0)) -> datetime:
    """Let the schedule's next tick be the last full minute, or that long before."""
    rows = await rig.sql(
        "UPDATE {s}.job_schedules SET next_at = date_trunc('minute', now()) - %(ago)s WHERE id = %(id)s RETURNING next_at",
        id=schedule_id,
        ago=ago,
    )
    return rows[0]["next_at"]


async def fire_again(rig: Rig, schedule_id: UUID) -> None:
    """Fire the last full minute as if nobody had before."""
    await rig.sql("DELETE FROM {s}.schedule_ticks WHERE schedule_id = %(id)s", id=schedule_id)
    await is_due(rig, schedule_id)
    assert await rig.adapter.firing.run_once() == 1


async def jobs_of(rig: Rig, schedule_id: UUID) -> list[dict[str, Any]]:
    return await rig.sql(
        "SELECT * FROM {s}.worker_jobs_open WHERE schedule_id = %(id)s ORDER BY id", id=schedule_id
    )


async def test_a_tick_becomes_a_job_that_knows_its_time(rig: Rig) -> None:
    made = await rig.adapter.schedule_cron(
        "report", "* * * * *", {"month": "May"}, user_id=7, description="monthly", external_id="x"
    )
    assert made.next_at is not None
    assert made.next_at > SystemClock().now()
    assert await rig.adapter.firing.run_once() == 0
    at = await is_due(rig, made.id)
    assert await rig.adapter.firing.run_once() == 1
    [row] = await jobs_of(rig, made.id)
    assert (row["user_id"], row["executor"], row["status"]) == ("7", "local", "QUEUED")
    assert await rig.work() == 1
    assert [("May", at, made.id)] == SEEN
    after = await rig.adapter.get_schedule(made.id)
    assert after.last_at == at
    assert after.next_at is not None
    assert after.next_at > at


async def test_ten_schedulers_make_one_job_per_tick(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        rigs = [await stack.enter_async_context(rigged(database_url, tasks)) for _ in range(10)]
        made = [
            await rigs[0].adapter.schedule_cron("report", "* * * * *", {"month": str(each)})
            for each in range(30)
        ]
        for _ in range(3):
            for each in made:
                await is_due(rigs[0], each.id)
            # The same tick comes back twice, as after a clock that was set back: it stays taken.
            await asyncio.gather(*(each.adapter.firing.run_once() for each in rigs))
        ticks = await rigs[0].value("SELECT count(*) FROM {s}.schedule_ticks")
        jobs = await rigs[0].value("SELECT count(*) FROM {s}.worker_jobs")
        distinct = await rigs[0].value("SELECT count(DISTINCT job_id) FROM {s}.schedule_ticks")
        assert jobs == ticks == distinct
        assert 30 <= jobs <= 60


async def test_each_tick_is_routed_like_any_job_so_a_cutover_holds_from_the_next_on(rig: Rig) -> None:
    made = await rig.adapter.schedule_cron("report", "* * * * *", {"month": "May"})
    await fire_again(rig, made.id)
    await rig.adapter.rollout("report", to="trigger", percent=100, reason="week 1")
    await fire_again(rig, made.id)
    await rig.adapter.kill(reason="INC-7")
    await fire_again(rig, made.id)
    assert [row["executor"] for row in await jobs_of(rig, made.id)] == ["local", "trigger", "local"]


async def test_while_a_ticks_job_has_not_started_its_tag_keeps_the_next_from_making_a_second(
    rig: Rig,
) -> None:
    made = await rig.adapter.schedule_cron(
        "report", "* * * * *", {"month": "May"}, tag="nightly", missed="all"
    )
    await is_due(rig, made.id, timedelta(minutes=2))
    await rig.adapter.firing.run_once()
    [row] = await jobs_of(rig, made.id)
    ticks = await rig.sql("SELECT job_id FROM {s}.schedule_ticks WHERE schedule_id = %(id)s", id=made.id)
    assert [each["job_id"] for each in ticks][:3] == [row["id"]] * 3


@pytest.mark.parametrize(("missed", "jobs"), [("all", 5), ("last", 1), ("skip", 1)])
async def test_missed_ticks_go_by_the_schedules_policy(rig: Rig, missed: Any, jobs: int) -> None:
    made = await rig.adapter.schedule_cron("report", "* * * * *", {"month": "May"}, missed=missed)
    await is_due(rig, made.id, timedelta(minutes=4))
    # The last one may be a few seconds late, which is not missed; the four before it are.
    await rig.adapter.firing.run_once()
    assert len(await jobs_of(rig, made.id)) == jobs


async def test_what_cannot_be_scheduled_says_so_on_its_row_and_stops_no_other(rig: Rig) -> None:
    bad = await rig.adapter.schedule_cron("report", "* * * * *", {"month": "May"})
    good = await rig.adapter.schedule_cron("report", "* * * * *", {"month": "June"})
    await rig.sql("UPDATE {s}.job_schedules SET data = '{}' WHERE id = %(id)s", id=bad.id)
    await is_due(rig, bad.id, timedelta(minutes=1))
    await is_due(rig, good.id)
    assert await rig.adapter.firing.run_once() == 1
    shown = await rig.adapter.get_schedule(bad.id)
    assert shown.problem is not None
    assert shown.problem.startswith("The payload of 'report' is not valid")
    assert shown.last_at is None
    assert len(await jobs_of(rig, good.id)) == 1
    await rig.sql("""UPDATE {s}.job_schedules SET data = '{"month": "May"}' WHERE id = %(id)s""", id=bad.id)
    await is_due(rig, bad.id)
    assert await rig.adapter.firing.run_once() == 1
    assert (await rig.adapter.get_schedule(bad.id)).problem is None


async def test_a_fault_that_only_the_database_sees_stops_no_other(rig: Rig) -> None:
    bad = await rig.adapter.schedule_cron("report", "* * * * *", {"month": "May"})
    good = await rig.adapter.schedule_cron("report", "* * * * *", {"month": "June"})
    await rig.sql("ALTER TABLE {s}.worker_jobs_open ADD CONSTRAINT no_may CHECK (data ->> 'month' <> 'May')")
    try:
        await is_due(rig, bad.id, timedelta(minutes=1))
        await is_due(rig, good.id)
        assert await rig.adapter.firing.run_once() == 1
    finally:
        await rig.sql("ALTER TABLE {s}.worker_jobs_open DROP CONSTRAINT no_may")
    assert len(await jobs_of(rig, good.id)) == 1


async def test_a_disabled_task_rests_and_a_task_nobody_here_knows_waits_for_who_knows_it(rig: Rig) -> None:
    with pytest.raises(TaskDisabledError):
        await rig.adapter.schedule_cron("off", "* * * * *")
    made = await rig.adapter.schedule_cron("report", "* * * * *", {"month": "May"})
    await rig.sql("UPDATE {s}.job_schedules SET task = 'off' WHERE id = %(id)s", id=made.id)
    await is_due(rig, made.id)
    assert await rig.adapter.firing.run_once() == 0
    assert "is disabled" in ((await rig.adapter.get_schedule(made.id)).problem or "")
    await rig.sql("UPDATE {s}.job_schedules SET task = 'elsewhere' WHERE id = %(id)s", id=made.id)
    at = await is_due(rig, made.id)
    assert await rig.adapter.firing.run_once() == 0
    assert (await rig.adapter.get_schedule(made.id)).next_at == at


async def test_a_second_call_with_a_key_changes_the_first_ones_schedule(rig: Rig) -> None:
    first = await rig.adapter.schedule_cron("report", "0 9 * * *", {"month": "May"}, key="k", tz="Asia/Tokyo")
    same = await rig.adapter.schedule_cron("report", "0 9 * * *", {"month": "May"}, key="k", tz="Asia/Tokyo")
    assert same == first
    moved = await rig.adapter.schedule_cron(
        "report", "0 10 * * *", {"month": "May"}, key="k", tz="Asia/Tokyo"
    )
    assert (moved.id, moved.cron) == (first.id, "0 10 * * *")
    assert moved.next_at != first.next_at
    history = await rig.adapter.cutover_history("report")
    assert [each.said for each in history] == ["schedule changed", "schedule made"]
    assert "month" not in str(history)


async def test_paused_it_does_not_fire_and_resumed_it_misses_nothing_of_the_pause(rig: Rig) -> None:
    made = await rig.adapter.schedule_cron("report", "* * * * *", {"month": "May"}, missed="all")
    paused = await rig.adapter.pause_schedule(made.id, reason="quiet week", actor="ada")
    assert (paused.active, paused.next_at) == (False, None)
    await is_due(rig, made.id, timedelta(minutes=10))
    assert await rig.adapter.firing.run_once() == 0
    resumed = await rig.adapter.resume_schedule(made.id, reason="over", actor="ada")
    assert resumed.next_at is not None
    assert resumed.next_at > SystemClock().now()
    assert await rig.adapter.firing.run_once() == 0
    gone = await rig.adapter.cancel_schedule(made.id, reason="no more")
    assert gone.id == made.id
    with pytest.raises(ScheduleNotFoundError):
        await rig.adapter.get_schedule(made.id)
    said = [(each.said, each.actor) for each in await rig.adapter.cutover_history("report", limit=3)]
    assert said == [
        ("schedule canceled", "application"),
        ("schedule resumed", "ada"),
        ("schedule paused", "ada"),
    ]


async def test_what_a_tick_could_not_be_is_refused_at_once_and_nothing_is_written(rig: Rig) -> None:
    verb = rig.adapter.schedule_cron
    for error, call in (
        (InvalidCronError, verb("report", "nonsense", {"month": "May"})),
        (InvalidCronError, verb("report", "* * * * *", {"month": "May"}, tz="Mars/Olympus")),
        (InvalidPayloadError, verb("report", "* * * * *", {"year": 1})),
        (UnknownTaskError, verb("reprot", "* * * * *")),
        (UnknownExecutorError, verb("report", "* * * * *", {"month": "May"}, executor="nowhere")),
        (InvalidArgumentError, verb("report", "* * * * *", {"month": "May"}, key="task:report")),
        (InvalidArgumentError, verb("report", "* * * * *", {"month": "May"}, missed="some")),  # pyright: ignore[reportArgumentType] - it is wrong on purpose
        (InvalidArgumentError, verb("report", "* * * * *", {"month": "May"}, reason=" ")),
    ):
        with pytest.raises(error):
            await call
    with pytest.raises(ScheduleNotFoundError):
        await rig.adapter.pause_schedule(new_id(), reason="x")
    assert await rig.adapter.list_schedules("report") == []


async def test_next_ticks_of_a_schedule_and_of_an_expression_nobody_has_scheduled(rig: Rig) -> None:
    after = datetime(2026, 3, 28, 12, tzinfo=UTC)
    ticks = await rig.adapter.next_ticks(Cron("30 2 * * *", "Europe/Berlin"), 2, after=after)
    assert [each.isoformat() for each in ticks] == ["2026-03-29T01:30:00+00:00", "2026-03-30T00:30:00+00:00"]
    made = await rig.adapter.schedule_cron("report", "0 0 1 1 *", {"month": "January"})
    assert (await rig.adapter.next_ticks(made.id, 1)) == [made.next_at]
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.next_ticks("* * * * *", 0)


# ---- declared in the registry --------------------------------------------------------------------


async def test_a_declared_schedule_follows_the_code_and_rests_when_it_is_declared_no_more(
    rig: Rig, database_url: str
) -> None:
    await rig.adapter.firing.run_once()
    [declared] = await rig.adapter.list_schedules("sweep")
    assert (declared.cron, declared.timezone, declared.key) == ("30 3 * * *", "Europe/Berlin", "task:sweep")
    assert declared.is_declared
    await is_due(rig, declared.id)
    assert await rig.adapter.firing.run_once() == 1

    def changed(adapter: Adapter) -> None:
        adapter.task("sweep", cron="0 4 * * *")(sweep_nothing)

    async with rigged(database_url, changed) as newer:
        await newer.adapter.firing.run_once()
    [moved] = await rig.adapter.list_schedules("sweep")
    assert (moved.id, moved.cron, moved.timezone) == (declared.id, "0 4 * * *", "UTC")

    def without(adapter: Adapter) -> None:
        adapter.task("sweep")(sweep_nothing)

    async with rigged(database_url, without) as newer:
        await newer.adapter.firing.run_once()
        assert [each.active for each in await newer.adapter.list_schedules("sweep")] == [False]
    async with rigged(database_url, changed) as newer:
        await newer.adapter.firing.run_once()
        assert [each.active for each in await newer.adapter.list_schedules("sweep")] == [True]


async def test_a_declared_schedule_that_a_person_paused_stays_paused_over_boots(
    rig: Rig, database_url: str
) -> None:
    await rig.adapter.firing.run_once()
    [declared] = await rig.adapter.list_schedules("sweep")
    await rig.adapter.pause_schedule(declared.id, reason="INC-7")
    async with rigged(database_url, tasks) as later:
        await later.adapter.firing.run_once()
        assert [each.active for each in await later.adapter.list_schedules("sweep")] == [False]


def test_a_declaration_that_cannot_be_read_stops_the_declaring() -> None:
    with pytest.raises(InvalidCronError):
        Adapter().task("x", cron="nonsense")(sweep_nothing)


async def test_the_loops_fire_in_time(database_url: str) -> None:
    SEEN.clear()
    async with rigged(database_url, tasks) as rig, rig.adapter.running(work=True, dispatch=False):
        made = await rig.adapter.schedule_cron("report", "* * * * *", {"month": "May"})
        await rig.sql(
            "UPDATE {s}.job_schedules SET next_at = now() + interval '300 milliseconds' WHERE id = %(id)s",
            id=made.id,
        )
        rig.adapter.poke("!cron")
        await kit.eventually(lambda: SEEN, within=10)
