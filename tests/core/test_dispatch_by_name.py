"""Only a process that knows what a remote calls a task hands its jobs out: keys are per name there."""

import logging

import pytest

from adapter import Adapter
from tests.rig import Rig, rigged


async def test_a_dispatcher_without_the_application_leaves_its_jobs_alone(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """Not under the task's own id: the repeat by one who knows would be another run."""
    first = await rig.adapter.schedule_job("both", 1, executor="trigger")
    uncertain = await rig.adapter.schedule_job("both", 2, executor="trigger")
    rig.fake.next_fault("timeout_after", on="trigger")
    await rig.dispatch(uncertain.id)
    await rig.due_now(uncertain.id)

    def nothing(_adapter: Adapter) -> None:
        """No task is declared."""

    with caplog.at_level(logging.WARNING, logger="adapter.dispatch"):
        async with rigged(rig.url, nothing, fake=rig.fake) as stranger:
            assert [await stranger.dispatch() for _ in range(2)] == [0, 0]
    assert [each.getMessage() for each in caplog.records if "wait" in each.getMessage()] == [
        "jobs of 'both' wait: this process does not know what trigger calls it"
    ]
    assert await rig.dispatch() == 2
    assert {run.task for run in rig.fake.runs.values()} == {"both-there"}
    assert len(rig.fake.runs) == 2
    assert (await rig.row(first.id))["submit_state"] == "accepted"


async def test_a_kill_switch_to_a_remote_that_has_no_such_task_makes_its_jobs_wait(rig: Rig) -> None:
    await rig.adapter.kill("echo", to="trigger", reason="test")
    job = await rig.adapter.schedule_job("echo", 1)
    assert await rig.dispatch() == 0
    assert (await rig.status(job.id), len(rig.fake.runs)) == ("WAITING", 0)
    # Back, and it runs.
    await rig.adapter.kill("echo", to="local", reason="test")
    await rig.dispatch()
    assert await rig.work() == 1
    assert await rig.status(job.id) == "COMPLETED"
