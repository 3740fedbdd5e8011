"""Parents that run again, and cancels on their way down: the same children, and nobody waits for ever."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from adapter import Adapter, JobContext, JobFilter, RetryPolicy
from adapter.domain.job import JobStatus
from tests.families.test_waiting import ONCE, family
from tests.kit import eventually
from tests.rig import Rig
from tests.stage import Stage, playing, running


async def waits(rig: Rig, job_id: UUID) -> bool:
    row = await rig.row(job_id)
    return row["status"] == "WAITING" and row["waiting_for"] == "children"


async def children(rig: Rig, job_id: UUID) -> list[UUID]:
    return [each.id for each in (await rig.adapter.list_jobs(JobFilter(parent_id=job_id))).jobs]


async def test_a_stop_lets_go_of_who_waits_and_the_next_worker_finds_the_child(database_url: str) -> None:
    async with playing(database_url, family) as (rig, stage):
        async with running(rig.worker(concurrency=1, grace=timedelta(seconds=0.2))):
            job = await rig.adapter.schedule_job("parent", "held")
            await eventually(lambda: waits(rig, job.id))
        row = await rig.row(job.id)
        assert (row["status"], row["worker_id"], row["attempt"]) == ("WAITING", None, 0)
        assert "returned" in await rig.events(job.id)
        stage.gate.set()
        async with running(rig.worker(concurrency=1)):
            [child] = await children(rig, job.id)
            await eventually(lambda: ended(rig, child))
            await rig.adapter.maintenance.run_once()
            assert await job.result(timedelta(seconds=10)) == 42
        assert await children(rig, job.id) == [child]
        assert (await rig.row(job.id))["attempt"] == 1


async def ended(rig: Rig, job_id: UUID) -> bool:
    return JobStatus(await rig.status(job_id)).is_terminal


async def test_a_parent_without_holder_is_not_woken_before_its_last_child_ends(database_url: str) -> None:
    async with playing(database_url, family) as (rig, stage):
        async with running(rig.worker(grace=timedelta(seconds=0.2))):
            job = await rig.adapter.schedule_job("parent", "held")
            await eventually(lambda: waits(rig, job.id))
        await rig.adapter.maintenance.run_once()
        assert await rig.status(job.id) == "WAITING"
        await rig.adapter.cancel_job((await children(rig, job.id))[0])
        await rig.adapter.maintenance.run_once()
        assert await rig.status(job.id) == "QUEUED"
        assert stage.seen.count("before") == 1


async def test_a_waiting_parent_of_a_dead_worker_is_rescued_and_its_children_are_not_made_again(
    database_url: str,
) -> None:
    async with playing(database_url, family) as (rig, stage):
        async with running(rig.worker(concurrency=1)):
            job = await rig.adapter.schedule_job("parent", "held", max_attempts=2)
            await eventually(lambda: ("child", 21) in stage.seen)
            dead = UUID(int=7)
            lost = await rig.row(job.id)
            await rig.sql(
                "UPDATE {s}.worker_jobs_open SET worker_id = %(dead)s WHERE id = %(id)s", dead=dead, id=job.id
            )
            await rig.sql(
                "INSERT INTO {s}.workers (id, name, host, pid, lease, seen_at)"
                " VALUES (%(id)s, 'dead', 'there', 1, interval '0', now() - interval '1 hour')",
                id=dead,
            )
            stage.gate.set()
            await eventually(lambda: rescued(rig, job.id), within=20)
            assert await job.result(timedelta(seconds=10)) == 42
        assert lost["status"] == "WAITING"
        assert len(await children(rig, job.id)) == 1
        assert (await rig.row(job.id))["attempt"] == 2


async def rescued(rig: Rig, job_id: UUID) -> bool:
    await rig.adapter.maintenance.run_once()
    return "rescued" in await rig.events(job_id)


async def test_a_retry_keeps_what_was_done_and_makes_what_failed_anew(database_url: str) -> None:
    def declare(adapter: Adapter, stage: Stage) -> None:
        @adapter.task("good")
        async def good(_: Any) -> str:
            stage.seen.append("good")
            return "good"

        @adapter.task("bad-once", retry=ONCE)
        async def bad_once(_: Any) -> str:
            stage.seen.append("bad")
            if stage.seen.count("bad") == 1:
                raise ValueError("once")
            return "well"

        at_once = RetryPolicy(max_attempts=2, min_timeout_in_ms=0, max_timeout_in_ms=0)

        @adapter.task("tries", retry=at_once)
        async def tries(_: Any, ctx: JobContext) -> list[str]:
            return [await ctx.trigger_and_wait(good, None), await ctx.trigger_and_wait(bad_once, None)]

        del tries

    async with playing(database_url, declare) as (rig, stage), running(rig.worker()):
        job = await rig.adapter.schedule_job("tries")
        assert await job.result(timedelta(seconds=20)) == ["good", "well"]
        assert stage.seen == ["good", "bad", "bad"]


async def test_another_order_of_calls_in_a_second_try_is_refused(database_url: str) -> None:
    def declare(adapter: Adapter, stage: Stage) -> None:
        family(adapter, stage)
        at_once = RetryPolicy(max_attempts=2, min_timeout_in_ms=0, max_timeout_in_ms=0)

        @adapter.task("fickle", retry=at_once)
        async def fickle(_: Any, ctx: JobContext) -> None:
            await ctx.trigger_and_wait("double" if ctx.attempt == 1 else "held", 1)
            raise ValueError("again")

        del fickle

    async with playing(database_url, declare) as (rig, _), running(rig.worker()):
        job = await rig.adapter.schedule_job("fickle")
        await eventually(lambda: ended(rig, job.id), within=20)
        assert (await rig.row(job.id))["error"]["name"] == "ReplayMismatchError"


async def test_a_cancel_ends_the_parent_and_goes_down_to_its_children(database_url: str) -> None:
    async with playing(database_url, family) as (rig, stage), running(rig.worker()):
        job = await rig.adapter.schedule_job("parent", "held")
        await eventually(lambda: ("child", 21) in stage.seen)
        await eventually(lambda: waits(rig, job.id))
        [child] = await children(rig, job.id)
        await rig.adapter.cancel_job(job.id, reason="enough")
        await eventually(lambda: ended(rig, job.id))
        await eventually(lambda: ended(rig, child))
        assert (await rig.status(job.id), await rig.status(child)) == ("CANCELED", "CANCELED")
        assert "after" not in stage.seen


def generations(adapter: Adapter, stage: Stage) -> None:
    @adapter.task("leaf")
    async def leaf(_: Any) -> None: ...

    @adapter.task("middle")
    async def middle(_: Any, ctx: JobContext) -> None:
        await ctx.schedule_job("leaf", delay=timedelta(hours=1))
        await stage.gate.wait()

    @adapter.task("top")
    async def top(_: Any, ctx: JobContext) -> None:
        await ctx.schedule_job("middle")
        await ctx.schedule_job("leaf", delay=timedelta(hours=1), detached=True)
        await stage.gate.wait()

    del leaf, middle, top


async def test_a_cancel_goes_down_every_generation_but_not_to_the_detached(database_url: str) -> None:
    async with playing(database_url, generations) as (rig, _), running(rig.worker()):
        job = await rig.adapter.schedule_job("top")
        await eventually(lambda: count(rig, job.id, 3))
        await rig.adapter.cancel_job(job.id)
        await eventually(lambda: all_ended(rig, job.id, 2))
        left = await rig.sql("SELECT type, extra FROM {s}.worker_jobs_open")
        assert [(row["type"], row["extra"]["detached"]) for row in left] == [("leaf", True)]


async def count(rig: Rig, root: UUID, wanted: int) -> bool:
    return len((await rig.adapter.list_jobs(JobFilter(root_id=root))).jobs) == wanted


async def all_ended(rig: Rig, root: UUID, wanted: int) -> bool:
    page = await rig.adapter.list_jobs(JobFilter(root_id=root, statuses=(JobStatus.CANCELED,)))
    return len(page.jobs) == wanted and await ended(rig, root)


async def test_upkeep_finishes_a_cancel_that_a_crash_has_left_half_way(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with playing(database_url, generations) as (rig, _), running(rig.worker()):
        job = await rig.adapter.schedule_job("top")
        await eventually(lambda: count(rig, job.id, 3))

        async def crashed() -> int:
            return 0

        with monkeypatch.context() as crash:
            crash.setattr(rig.adapter.canceler, "go_down", crashed)
            await rig.adapter.cancel_job(job.id)
        await eventually(lambda: ended(rig, job.id))
        assert await rig.value("SELECT count(*) FROM {s}.family_cancels") == 1
        await rig.adapter.maintenance.run_once()
        await eventually(lambda: all_ended(rig, job.id, 2))
