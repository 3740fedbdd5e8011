"""S0, "Playbook Tasks (2 tasks - disabled)": scheduling raises, its crons rest, waiting rows stay."""

from typing import Any

import pytest

from adapter import Adapter
from adapter.domain.errors import TaskDisabledError
from tests.rig import Rig, rigged


def playbooks(*, enabled: bool) -> Any:
    def declare(adapter: Adapter) -> None:
        @adapter.task("generate-playbook", enabled=enabled)
        async def generate(payload: Any) -> Any:
            return payload

        adapter.remote_task("publish-playbook", executor="trigger", enabled=enabled)
        del generate

    return declare


async def shown(rig: Rig, *jobs: Any) -> list[tuple[str, int]]:
    rows = [await rig.row(each.id) for each in jobs]
    return [(row["status"], row["attempt"]) for row in rows]


async def test_scheduling_a_disabled_task_raises_and_its_waiting_rows_stay(database_url: str) -> None:
    async with rigged(database_url, playbooks(enabled=True)) as before:
        here = await before.adapter.schedule_job("generate-playbook", 1)
        there = await before.adapter.schedule_job("publish-playbook", 2)
    async with rigged(database_url, playbooks(enabled=False)) as rig:
        for task in ("generate-playbook", "publish-playbook"):
            with pytest.raises(TaskDisabledError, match="disabled"):
                await rig.adapter.schedule_job(task, 3)
        await rig.work(2)
        await rig.dispatch()
        await rig.adapter.kill(to="local", reason="a switch does not move them either")
        await rig.dispatch()
        assert await shown(rig, here, there) == [("WAITING", 0), ("PENDING", 0)]
        assert not rig.fake.runs
        await rig.adapter.clear_flag("kill", "*", reason="x")
    async with rigged(database_url, playbooks(enabled=True)) as after:
        assert await after.work() == 1
        await after.dispatch()
        assert await shown(after, here, there) == [("COMPLETED", 1), ("QUEUED", 0)]
        assert len(after.fake.runs) == 1
