"""A submit that is repeated may find a run that has long gone on, and told nobody."""

import pytest

from adapter.domain.errors import UnknownOutcomeError
from adapter.executors.base import RemoteRun
from adapter.executors.trigger_dev import TriggerDev
from tests.rig import Rig


async def test_a_run_that_ended_before_its_submit_was_repeated_is_seen_at_once(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    rig.fake.next_fault("timeout_after", on="trigger")
    await rig.dispatch(job.id)
    (run,) = rig.fake.runs.values()
    rig.fake.start(run.id)
    rig.fake.complete(run.id, {"done": True})
    await rig.due_now(job.id)
    await rig.dispatch(job.id)
    row = await rig.row(job.id)
    assert (row["status"], row["result"], row["remote_run_id"]) == ("COMPLETED", {"done": True}, run.id)
    assert len(rig.fake.runs) == 1


async def test_a_run_that_cannot_be_looked_at_then_is_bound_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def retrieve(_executor: TriggerDev, _run_id: str) -> RemoteRun | None:
        raise UnknownOutcomeError("injected")

    job = await rig.adapter.schedule_job("remote")
    rig.fake.next_fault("timeout_after", on="trigger")
    await rig.dispatch(job.id)
    monkeypatch.setattr(TriggerDev, "retrieve", retrieve)
    await rig.due_now(job.id)
    await rig.dispatch(job.id)
    row = await rig.row(job.id)
    assert (row["status"], row["submit_state"]) == ("QUEUED", "accepted")
