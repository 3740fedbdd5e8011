"""What the guides show of cron jobs, and what it is here."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from pydantic import SecretStr

from adapter import Adapter, Settings
from adapter.domain.errors import ScheduleNotFoundError
from tests.rig import Rig, rigged


def tasks(adapter: Adapter) -> None:
    adapter.remote_task("dailyReportGeneration", executor="trigger")
    adapter.task("news", cron="0 */2 * * *", enabled=False)(nothing)


async def nothing(_payload: Any) -> None:
    raise AssertionError


@pytest.fixture
async def rig(database_url: str) -> AsyncGenerator[Rig]:
    async with rigged(database_url, tasks) as made:
        yield made


async def test_s3_schedule_unified_cron_job_returns_a_schedule_that_can_be_canceled(rig: Rig) -> None:
    schedule = await rig.adapter.schedule_cron(
        "dailyReportGeneration",
        "0 0 * * *",
        {"reportType": "daily"},
        tz="America/New_York",
        tag="daily-report",
        user_id=0,
        executor="trigger",
        persistent=True,
        description="Generate daily report",
    )
    assert (schedule.cron, schedule.user_id, schedule.persistent) == ("0 0 * * *", "0", True)
    # The clock is ours, so there is no schedule at the remote until it is handed over.
    assert schedule.remote_schedule_id is None
    await rig.sql("UPDATE {s}.job_schedules SET next_at = now()")
    await rig.adapter.firing.run_once()
    [job] = (await rig.adapter.list_jobs()).jobs
    assert (job.executor, job.tag, job.schedule_id) == ("trigger", "daily-report", schedule.id)
    await rig.adapter.cancel_schedule(schedule.id, reason="no more")
    with pytest.raises(ScheduleNotFoundError):
        await rig.adapter.get_schedule(schedule.id)


async def test_s0_jobs_cron_tz_is_the_zone_of_schedules_that_name_none(database_url: str) -> None:
    settings = Settings.from_env({"DATABASE_URL": database_url, "JOBS_CRON_TZ": "Asia/Tokyo"})
    assert settings.cron_timezone == "Asia/Tokyo"
    async with rigged(database_url, tasks, cron_timezone="Asia/Tokyo") as rig:
        made = await rig.adapter.schedule_cron("dailyReportGeneration", "0 9 * * *")
        assert made.timezone == "Asia/Tokyo"
    assert Settings(database_url=SecretStr(database_url)).cron_timezone == "UTC"


async def test_s0_the_crons_of_a_disabled_group_rest(rig: Rig) -> None:
    await rig.adapter.firing.run_once()
    await rig.sql("UPDATE {s}.job_schedules SET next_at = now() WHERE task = 'news'")
    assert await rig.adapter.firing.run_once() == 0
    [schedule] = await rig.adapter.list_schedules("news")
    assert "disabled" in (schedule.problem or "")
