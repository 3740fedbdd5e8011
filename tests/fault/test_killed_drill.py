"""kill -9 of the process that carries a drill out: the flags are as they were, put back by whoever runs."""

from typing import Any

import pytest

from tests.fakes.trigger_dev import SECRET_KEY
from tests.fault.site import Site
from tests.kit import eventually


def flags(site: Site) -> list[Any]:
    rows = site.rows(
        "SELECT kind, task, executor, percent, salt, reason, actor FROM executor_flags ORDER BY 1, 2"
    )
    return [tuple(row.values()) for row in rows]


@pytest.mark.parametrize("switched", [True, False], ids=["a switch before", "none before"])
async def test_a_killed_drill_is_put_back_by_another_process(site: Site, switched: bool) -> None:
    site.env |= {"TRIGGER_SECRET_KEY": SECRET_KEY, "TRIGGER_API_URL": "http://127.0.0.1:9"}
    async with site.adapter() as adapter:
        await adapter.rollout("either", to="trigger", percent=25, reason="week 2")
        if switched:
            await adapter.kill("either", to="trigger", reason="INC-7", actor="bob")
    before = flags(site)
    drilling = await site.start("drill").ready()
    await eventually(lambda: site.count("drills", "state = 'running'") == 1, within=20)
    assert ("kill", "either", "local") in [each[:3] for each in flags(site)]
    drilling.kill()
    site.rows("UPDATE drills SET held_until = now() - interval '1 second'")
    await site.start("worker").ready()
    await eventually(lambda: site.count("drills", "state = 'interrupted'") == 1, within=20)
    assert flags(site) == before
