"""What the incremental plan calls success, as far as it is about one switch between two systems."""

from typing import Any

import pytest

from adapter import Adapter, Settings
from tests.rig import rigged


def import_task(adapter: Adapter) -> None:
    async def import_article(payload: Any) -> str:
        if payload == "broken":
            raise SystemExit(1)
        return f"imported {payload}"

    adapter.task("import-article", executor="trigger")(import_article)
    adapter.remote_task("evaluation", executor="trigger")


@pytest.mark.parametrize(
    ("environment", "executor"),
    [
        ({}, "trigger"),
        ({"ADAPTER_EXECUTOR__IMPORT_ARTICLE": "local"}, "local"),
        ({"ADAPTER_EXECUTOR": ""}, "trigger"),
    ],
)
async def test_can_toggle_between_systems_with_an_environment_variable(
    database_url: str, environment: dict[str, str], executor: str
) -> None:
    switches = Settings.from_env(environment).kill_switches
    async with rigged(database_url, import_task, kill_switches=switches) as rig:
        assert (await rig.adapter.schedule_job("import-article", "a")).executor == executor
        # No change to the other jobs.
        assert (await rig.adapter.schedule_job("evaluation", {})).executor == "trigger"


async def test_the_worker_does_not_crash(database_url: str) -> None:
    async with rigged(database_url, import_task, kill_switches={"*": "local"}) as rig:
        bad = await rig.adapter.schedule_job("import-article", "broken", max_attempts=1)
        good = await rig.adapter.schedule_job("import-article", "a")
        assert await rig.work() == 2
        assert (await rig.status(bad.id), await rig.status(good.id)) == ("FAILED", "COMPLETED")
