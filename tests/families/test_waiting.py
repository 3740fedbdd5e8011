"""Handlers that wait for their children: what they get, what is free meanwhile, and who wakes them."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from adapter import Adapter, JobContext, JobFailedError, JobFilter, Queue, RetryPolicy
from tests.kit import eventually
from tests.rig import Rig
from tests.stage import Stage, playing, running

ONCE = RetryPolicy(max_attempts=1)
AT_ONCE = RetryPolicy(max_attempts=3, min_timeout_in_ms=0, max_timeout_in_ms=0, randomize=False)


def family(adapter: Adapter, stage: Stage) -> None:
    @adapter.task("double")
    async def double(number: int) -> int:
        stage.seen.append(("child", number))
        return number * 2

    @adapter.task("held")
    async def held(number: int) -> int:
        stage.seen.append(("child", number))
        await stage.gate.wait()
        return number * 2

    @adapter.task("broken", retry=ONCE)
    async def broken(_: Any) -> None:
        stage.seen.append("broken")
        raise ValueError("no")

    @adapter.task("parent", retry=ONCE)
    async def parent(task: str, ctx: JobContext) -> Any:
        stage.seen.append("before")
        result = await ctx.trigger_and_wait(task, 21)
        stage.seen.append("after")
        return result

    @adapter.task("fan", retry=ONCE)
    async def fan(count: int, ctx: JobContext) -> list[int]:
        return await ctx.batch_trigger_and_wait([double.job(n) for n in range(count)])

    @adapter.task("tree", retry=ONCE)
    async def tree(depth: int, ctx: JobContext) -> int:
        if depth == 0:
            return 1
        return sum(await ctx.batch_trigger_and_wait([tree_task.job(depth - 1) for _ in range(2)]))

    tree_task = tree

    @adapter.task("spawns")
    async def spawns(_: Any, ctx: JobContext) -> list[Any]:
        handles = [await ctx.schedule_job(task, 4) for task in ("double", "broken")]
        ended = await ctx.wait_for_children(handles)
        return [each.status for each in ended]

    del held, broken, parent, fan, spawns


async def finished(rig: Rig, job_id: Any) -> Any:
    await eventually(lambda: _is_finished(rig, job_id), within=30)
    return await rig.row(job_id)


async def _is_finished(rig: Rig, job_id: Any) -> bool:
    return (await rig.row(job_id)).get("finished") is not None


async def test_a_parent_gets_its_childs_result_with_one_slot_for_both(database_url: str) -> None:
    async with playing(database_url, family) as (rig, stage):
        async with running(rig.worker(concurrency=1)):
            job = await rig.adapter.schedule_job("parent", "double")
            assert await job.result(timedelta(seconds=10)) == 42
        assert stage.seen == ["before", ("child", 21), "after"]
        children = (await rig.adapter.list_jobs(JobFilter(parent_id=job.id))).jobs
        assert [(each.type, each.parent_id, each.root_id) for each in children] == [
            ("double", job.id, job.id)
        ]
        row = await rig.row(job.id)
        assert (row["status"], row["attempt"], row["parent_id"]) == ("COMPLETED", 1, None)


async def test_while_it_waits_the_row_says_for_what_and_is_still_held(database_url: str) -> None:
    async with playing(database_url, family) as (rig, stage), running(rig.worker(concurrency=1)):
        job = await rig.adapter.schedule_job("parent", "held")
        await eventually(lambda: ("child", 21) in stage.seen)
        row = await rig.row(job.id)
        assert (row["status"], row["waiting_for"]) == ("WAITING", "children")
        assert row["worker_id"] is not None
        assert [each.type for each in await rig.adapter.awaited_jobs(job.id)] == ["held"]
        stage.gate.set()
        assert await job.result(timedelta(seconds=10)) == 42


async def test_fan_out_of_many_in_a_queue_with_one_place(database_url: str) -> None:
    def declare(adapter: Adapter, stage: Stage) -> None:
        narrow = Queue("narrow", concurrency_limit=1)

        @adapter.task("one", queue=narrow)
        async def one(number: int) -> int:
            stage.seen.append(number)
            running = await stage_count()
            assert running <= 1, running
            return number

        @adapter.task("all", queue=narrow, retry=ONCE)
        async def all_of_them(count: int, ctx: JobContext) -> int:
            return sum(await ctx.batch_trigger_and_wait([one.job(n) for n in range(count)]))

        async def stage_count() -> int:
            return await rigs[0].value(
                "SELECT count(*) FROM {s}.worker_jobs_open WHERE status = 'EXECUTING' AND queue = 'narrow'"
            )

        del all_of_them

    rigs: list[Rig] = []
    async with playing(database_url, declare) as (rig, stage):
        rigs.append(rig)
        async with running(rig.worker(concurrency=5)):
            job = await rig.adapter.schedule_job("all", 60)
            assert await job.result(timedelta(seconds=60)) == sum(range(60))
        assert sorted(stage.seen) == list(range(60))


async def test_a_thousand_children_and_their_results_in_order(database_url: str) -> None:
    async with playing(database_url, family) as (rig, stage), running(rig.worker(concurrency=5)):
        job = await rig.adapter.schedule_job("fan", 1000)
        assert await job.result(timedelta(seconds=60)) == [2 * n for n in range(1000)]
        assert len(stage.seen) == 1000


async def test_families_of_three_levels_with_one_slot_and_their_root(database_url: str) -> None:
    async with playing(database_url, family) as (rig, _), running(rig.worker(concurrency=1)):
        job = await rig.adapter.schedule_job("tree", 3)
        assert await job.result(timedelta(seconds=30)) == 8
        page = await rig.adapter.list_jobs(JobFilter(root_id=job.id, limit=100))
        assert len(page.jobs) == 14
        assert len({each.parent_id for each in page.jobs}) == 7


async def test_a_childs_failure_is_raised_in_the_parent(database_url: str) -> None:
    async with playing(database_url, family) as (rig, stage), running(rig.worker()):
        job = await rig.adapter.schedule_job("parent", "broken")
        with pytest.raises(JobFailedError):
            await job.result(timedelta(seconds=10))
        error = (await rig.row(job.id))["error"]
        assert error["name"] == "JobFailedError"
        assert stage.seen == ["before", "broken"]


async def test_waiting_for_jobs_that_were_scheduled_before(database_url: str) -> None:
    async with playing(database_url, family) as (rig, _), running(rig.worker(concurrency=1)):
        job = await rig.adapter.schedule_job("spawns")
        assert await job.result(timedelta(seconds=10)) == ["COMPLETED", "FAILED"]


async def test_a_child_that_has_ended_already_is_not_waited_for(database_url: str) -> None:
    def declare(adapter: Adapter, stage: Stage) -> None:
        @adapter.task("late")
        async def late(child: str, ctx: JobContext) -> str:
            job = await adapter.get_job(stage.seen[0])
            assert job is not None
            [ended] = await ctx.wait_for_children([job])
            return ended.status

        @adapter.task("quick")
        async def quick(_: Any) -> None: ...

        del late, quick

    async with playing(database_url, declare) as (rig, stage):
        child = await rig.adapter.schedule_job("quick")
        await rig.work()
        stage.seen.append(child.id)
        job = await rig.adapter.schedule_job("late", "")
        await rig.work()
        assert (await rig.row(job.id))["result"] == "COMPLETED"


async def test_a_remote_child_wakes_its_parent(database_url: str) -> None:
    def declare(adapter: Adapter, stage: Stage) -> None:
        adapter.remote_task("remote", executor="trigger")

        @adapter.task("asks", retry=ONCE)
        async def asks(_: Any, ctx: JobContext) -> Any:
            return await ctx.trigger_and_wait("remote", 1)

        del asks

    async with playing(database_url, declare) as (rig, _), running(rig.worker()):
        job = await rig.adapter.schedule_job("asks")
        await eventually(lambda: _waits(rig, job.id))
        [child] = (await rig.adapter.list_jobs(JobFilter(parent_id=job.id))).jobs
        await rig.dispatch(child.id)
        run = rig.fake.runs[(await rig.row(child.id))["remote_run_id"]]
        rig.fake.start(run.id)
        rig.fake.complete(run.id, {"answer": 7})
        await rig.adapter.reconcile()
        assert await job.result(timedelta(seconds=10)) == {"answer": 7}


async def _waits(rig: Rig, job_id: Any) -> bool:
    return await rig.status(job_id) == "WAITING"


async def test_several_waits_at_once_go_on_one_by_one(database_url: str) -> None:
    def declare(adapter: Adapter, stage: Stage) -> None:
        family(adapter, stage)

        @adapter.task("both-at-once", retry=ONCE)
        async def both_at_once(_: Any, ctx: JobContext) -> Any:
            async def then(task: str) -> int:
                result = await ctx.trigger_and_wait(task, 1)
                stage.seen.append(f"after {task}")
                if task == "double":
                    stage.gate.set()
                return result

            return await asyncio.gather(then("held"), then("double"))

        del both_at_once

    async with playing(database_url, declare) as (rig, stage), running(rig.worker(concurrency=2)):
        job = await rig.adapter.schedule_job("both-at-once")
        assert await job.result(timedelta(seconds=10)) == [2, 2]
        assert stage.seen[-2:] == ["after double", "after held"]


async def test_the_time_of_a_wait_does_not_count_as_its_duration(database_url: str) -> None:
    def declare(adapter: Adapter, stage: Stage) -> None:
        @adapter.task("slow")
        async def slow(_: Any) -> None:
            await stage.gate.wait()

        @adapter.task("brief", retry=ONCE, max_duration=timedelta(seconds=0.4))
        async def brief(then: float, ctx: JobContext) -> None:
            await ctx.trigger_and_wait("slow")
            async with asyncio.timeout(then or None):
                await (stage.gate if not then else asyncio.Event()).wait()

        del slow, brief

    async with playing(database_url, declare) as (rig, stage), running(rig.worker()):
        done = await rig.adapter.schedule_job("brief", 0.0)
        late = await rig.adapter.schedule_job("brief", 5.0)
        for job in (done, late):
            await eventually(lambda job=job: _waits(rig, job.id))
        began = asyncio.get_running_loop().time()
        await eventually(lambda: asyncio.get_running_loop().time() - began > 0.5)
        assert (await rig.status(done.id), await rig.status(late.id)) == ("WAITING", "WAITING")
        stage.gate.set()
        await done.result(timedelta(seconds=10))
        assert (await finished(rig, late.id))["status"] == "TIMED_OUT"


async def test_a_handler_may_give_up_waiting(database_url: str) -> None:
    def declare(adapter: Adapter, stage: Stage) -> None:
        family(adapter, stage)

        @adapter.task("impatient", retry=ONCE)
        async def impatient(_: Any, ctx: JobContext) -> str:
            try:
                async with asyncio.timeout(0.2):
                    await ctx.trigger_and_wait("held", 1)
            except TimeoutError:
                assert rigs[0] is not None
                return await rigs[0].status(ctx.job.id)
            return "it waited"

        del impatient

    rigs: list[Rig] = []
    async with playing(database_url, declare) as (rig, stage), running(rig.worker()):
        rigs.append(rig)
        job = await rig.adapter.schedule_job("impatient")
        assert await job.result(timedelta(seconds=10)) == "EXECUTING"
        stage.gate.set()


async def test_a_handler_in_a_thread_waits_too(database_url: str) -> None:
    def declare(adapter: Adapter, stage: Stage) -> None:
        family(adapter, stage)

        @adapter.task("threaded", retry=ONCE)
        def threaded(_: Any, ctx: JobContext) -> int:
            return adapter.sync.call(ctx.trigger_and_wait("double", 3))

        del threaded

    async with playing(database_url, declare) as (rig, _), running(rig.worker(concurrency=1)):
        job = await rig.adapter.schedule_job("threaded")
        assert await job.result(timedelta(seconds=10)) == 6
