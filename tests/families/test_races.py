"""Two things happen to a family at the same moment, and it never gets stuck."""

from datetime import timedelta

import pytest

from tests.families.test_again import children, ended, waits
from tests.families.test_waiting import family
from tests.kit import eventually
from tests.stage import playing, running


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_cancel_of_the_parent_meets_the_end_of_its_last_child(
    database_url: str, *, cancel_first: bool
) -> None:
    async with playing(database_url, family) as (rig, stage), running(rig.worker(concurrency=1)):
        job = await rig.adapter.schedule_job("parent", "held")
        await eventually(lambda: ("child", 21) in stage.seen)
        await eventually(lambda: waits(rig, job.id))
        [child] = await children(rig, job.id)
        if cancel_first:
            await rig.adapter.cancel_job(job.id)
            stage.gate.set()
        else:
            stage.gate.set()
            await rig.adapter.cancel_job(job.id)
        await eventually(lambda: ended(rig, job.id))
        await eventually(lambda: ended(rig, child))
        assert await rig.status(job.id) in {"CANCELED", "COMPLETED"}


async def test_two_last_children_end_at_the_same_moment(database_url: str) -> None:
    async with playing(database_url, family) as (rig, _), running(rig.worker(concurrency=16)):
        jobs = [await rig.adapter.schedule_job("fan", 2) for _ in range(20)]
        for job in jobs:
            assert await job.result(timedelta(seconds=20)) == [0, 2]
