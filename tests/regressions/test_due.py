"""A job is in nobody's hands before it is due, unless they can hold it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from adapter import Adapter
from adapter.executors.base import Capabilities
from adapter.executors.trigger_dev import TriggerDev
from tests.fakes.clock import ManualClock
from tests.fakes.trigger_dev import API_URL, SECRET_KEY, FakeTriggerDev
from tests.rig import rigged


@pytest.mark.parametrize("can_delay", [True, False])
async def test_only_a_remote_that_can_hold_a_job_until_it_is_due_gets_it_before(
    database_url: str, can_delay: bool
) -> None:
    class Remote(TriggerDev):
        @property
        def capabilities(self) -> Capabilities:
            return replace(super().capabilities, remote_delay=can_delay)

    def tasks(adapter: Adapter) -> None:
        adapter.remote_task("later", executor="trigger", remote_delay=True)

    fake = FakeTriggerDev(ManualClock())
    executor = Remote(secret_key=SECRET_KEY, api_url=API_URL, requests_per_minute=0, transport=fake.transport)
    async with rigged(database_url, tasks, executors=[executor], fake=fake) as rig:
        job = await rig.adapter.schedule_job("later", delay=timedelta(hours=1))
        await rig.dispatch()
        assert await rig.status(job.id) == "DELAYED"
        assert ["delay" in run.options for run in fake.runs.values()] == ([True] if can_delay else [])
        if not can_delay:
            await rig.set(job.id, "due = now()")
            await rig.adapter.maintenance.run_once()
            await rig.dispatch()
            assert await rig.status(job.id) == "QUEUED"
