"""Schedules under contention: one caller among many, faults that only the database sees, clocks kept elsewhere."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, LiteralString

import pytest

from adapter import Adapter
from adapter.core.cron import firing
from adapter.domain.cron import Cron
from adapter.domain.errors import ScheduleStateError
from tests.rig import Rig, rigged


async def nothing(_payload: Any) -> None:
    """Do nothing."""


def tasks(adapter: Adapter) -> None:
    adapter.task("report")(nothing)
    adapter.task("sweep", cron=Cron("30 3 * * *", "Europe/Berlin"))(nothing)


@pytest.fixture
async def rig(database_url: str) -> AsyncGenerator[Rig]:
    async with rigged(database_url, tasks) as made:
        yield made


async def let_be_due(rig: Rig, task: str, ago: timedelta = timedelta(0)) -> None:
    await rig.sql(
        "UPDATE {s}.job_schedules SET next_at = date_trunc('minute', now()) - %(ago)s WHERE task = %(task)s",
        task=task,
        ago=ago,
    )


async def test_many_processes_that_say_the_same_key_at_once_make_one_schedule(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        rigs = [await stack.enter_async_context(rigged(database_url, tasks)) for _ in range(8)]
        for number in range(5):
            made = await asyncio.gather(
                *(each.adapter.schedule_cron("report", "0 9 * * *", key=f"k{number}") for each in rigs)
            )
            assert len({each.id for each in made}) == 1
        assert await rigs[0].value("SELECT count(*) FROM {s}.job_schedules") == 5


async def test_ticks_that_the_database_refuses_starve_no_other_and_are_not_lost(
    rig: Rig, database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(firing, "_BATCH", 2)
    await rig.adapter.firing.run_once()
    for month in ("May", "May", "June"):
        await rig.adapter.schedule_cron("report", "* * * * *", {"month": month})
    await let_be_due(rig, "report", timedelta(minutes=1))
    await rig.sql(
        "UPDATE {s}.job_schedules SET next_at = date_trunc('minute', now()) WHERE data ->> 'month' = 'June'"
    )
    await rig.sql("ALTER TABLE {s}.worker_jobs_open ADD CONSTRAINT no_may CHECK (data ->> 'month' <> 'May')")
    try:
        with caplog.at_level(logging.ERROR, "adapter.cron"):
            # Two that fail fill the batch, and the good one is behind them.
            assert await rig.adapter.firing.run_once() == 1
            said = len(caplog.records)
            assert await rig.adapter.firing.run_once() == 0
            # Not tried over and over, and not said over and over.
            assert len(caplog.records) == said
        assert "May" not in caplog.text
    finally:
        await rig.sql("ALTER TABLE {s}.worker_jobs_open DROP CONSTRAINT no_may")
    shown = [each for each in await rig.adapter.list_schedules("report") if each.data == {"month": "May"}]
    assert all("refused" in (each.problem or "") for each in shown)
    # Nobody else tries before it is time, and then it is the tick that was due.
    async with rigged(database_url, tasks) as other:
        assert await other.adapter.firing.run_once() == 0
        await rig.sql(
            "UPDATE {s}.job_schedules SET extra = extra || jsonb_build_object('refused_until', now()) WHERE extra ? 'refused_until'"
        )
        assert await other.adapter.firing.run_once() == 2
    shown = await rig.adapter.list_schedules("report")
    assert [each.problem for each in shown] == [None] * 3


@pytest.mark.parametrize(
    "moved",
    [
        "owner = 'trigger', next_at = NULL",
        "handover_state = 'creating', handover_to = 'trigger', next_at = NULL",
    ],
)
async def test_neither_a_call_nor_a_boot_changes_a_schedule_whose_clock_is_not_ours_alone(
    rig: Rig, database_url: str, caplog: pytest.LogCaptureFixture, moved: LiteralString
) -> None:
    await rig.adapter.firing.run_once()
    await rig.adapter.schedule_cron("report", "0 9 * * *", key="k")
    await rig.sql("UPDATE {s}.job_schedules SET " + moved)
    # An application that says the same at each boot goes on doing so.
    await rig.adapter.schedule_cron("report", "0 9 * * *", key="k")
    with pytest.raises(ScheduleStateError):
        await rig.adapter.schedule_cron("report", "0 10 * * *", key="k")

    def changed(adapter: Adapter) -> None:
        adapter.task("report")(nothing)
        adapter.task("sweep", cron="0 4 * * *")(nothing)

    def without(adapter: Adapter) -> None:
        adapter.task("report")(nothing)
        adapter.task("sweep")(nothing)

    for each in (changed, without):
        async with rigged(database_url, each) as newer:
            await newer.adapter.firing.run_once()
    shown = {each.task: each for each in await rig.adapter.list_schedules()}
    assert (shown["report"].cron, shown["report"].next_at) == ("0 9 * * *", None)
    assert (shown["sweep"].cron, shown["sweep"].next_at, shown["sweep"].active) == ("30 3 * * *", None, True)
    assert caplog.text.count("is not changed") == 2
