"""Two things happen to a family at the same moment, and it never gets stuck."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from adapter import Adapter, JobContext, Queue
from tests.families.test_again import children, ended, waits
from tests.families.test_waiting import family
from tests.kit import eventually
from tests.rig import Rig
from tests.stage import Stage, playing, running


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


@pytest.mark.parametrize("narrow", [Queue("narrow", 1), Queue("narrow", 2, key_limit=1)], ids=["copy", "key"])
async def test_two_parents_of_one_key_go_on_after_each_other(database_url: str, narrow: Queue) -> None:
    went_on: list[Any] = []
    go = asyncio.Event()

    def declare(adapter: Adapter, stage: Stage) -> None:
        family(adapter, stage)

        @adapter.task("keyed", queue=narrow)
        async def keyed(_: Any, ctx: JobContext) -> None:
            await ctx.trigger_and_wait("held", 1)
            went_on.append(ctx.job.id)
            await go.wait()

        del keyed

    async with playing(database_url, declare) as (rig, stage), running(rig.worker(concurrency=4)):
        jobs = [await rig.adapter.schedule_job("keyed", concurrency_key="a") for _ in range(2)]
        for job in jobs:
            await eventually(lambda job=job: waits(rig, job.id))
        stage.gate.set()
        try:
            [refused] = await eventually(lambda: _without_place(rig))
            await eventually(lambda: went_on)
            assert sorted([refused, *went_on]) == sorted(job.id for job in jobs)
        finally:
            go.set()
        for job in jobs:
            await job.result(timedelta(seconds=10))


async def _without_place(rig: Rig) -> list[UUID]:
    rows = await rig.sql(
        "SELECT id FROM {s}.worker_jobs_open WHERE waiting_for = 'children' AND awaiting IS NULL"
    )
    return [row["id"] for row in rows]
