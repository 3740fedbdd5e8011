"""Handlers with several waits at once: what is free while some have ended and others have not."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from adapter import Adapter, JobContext, Queue
from adapter.domain.identity import public_id
from adapter.domain.job import Job
from adapter.domain.wait_token import WAITPOINT, TokenStatus
from adapter.store import families
from tests.families.test_again import children, ended
from tests.families.test_waiting import ONCE, family
from tests.kit import eventually
from tests.rig import Rig
from tests.stage import Stage, playing, running

NARROW = Queue("narrow", concurrency_limit=1)


def begin(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


async def in_a_gathering(ctx: JobContext, token: str) -> list[Any]:
    return [*await asyncio.gather(ctx.trigger_and_wait("double", 1), ctx.wait_for_token(token))]


async def in_a_group(ctx: JobContext, token: str) -> list[Any]:
    async with asyncio.TaskGroup() as group:
        child = group.create_task(ctx.trigger_and_wait("double", 1))
        answer = group.create_task(ctx.wait_for_token(token))
    return [child.result(), answer.result()]


async def in_turn(ctx: JobContext, token: str) -> list[Any]:
    tasks = {begin(ctx.trigger_and_wait("double", 1)), begin(ctx.wait_for_token(token))}
    results: list[Any] = []
    while tasks:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        results += [each.result() for each in done]
    return results


Wait = Callable[[JobContext, str], Awaitable[list[Any]]]
WAYS: dict[str, Wait] = {"gathering": in_a_gathering, "group": in_a_group, "turn": in_turn}


def declare(adapter: Adapter, stage: Stage) -> None:
    family(adapter, stage)

    @adapter.task("several", queue=NARROW, retry=ONCE)
    async def several(given: dict[str, str], ctx: JobContext) -> list[Any]:
        stage.seen.append("began")
        return await WAYS[given["way"]](ctx, given["token"])

    @adapter.task("beside", queue=NARROW)
    async def beside(_: Any) -> str:
        return "ran"

    @adapter.task("goes-on", queue=NARROW, retry=ONCE)
    async def goes_on(given: dict[str, str], ctx: JobContext) -> list[Any]:
        tasks = [begin(ctx.trigger_and_wait("double", 1)), begin(ctx.wait_for_token(given["token"]))]
        if given["way"] == "completed":
            await next(iter(asyncio.as_completed(tasks)))
        else:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        stage.seen.append("goes on")
        await stage.gate.wait()
        return await asyncio.gather(*tasks)

    @adapter.task("branch-goes-on", queue=NARROW, retry=ONCE)
    async def branch_goes_on(given: dict[str, str], ctx: JobContext) -> list[Any]:
        async def branch() -> int:
            result = await begin(ctx.trigger_and_wait("double", 1))
            stage.seen.append("goes on")
            await stage.gate.wait()
            return result

        return [*await asyncio.gather(branch(), ctx.wait_for_token(given["token"]))]

    @adapter.task("thread-goes-on", queue=NARROW, retry=ONCE)
    async def thread_goes_on(given: dict[str, str], ctx: JobContext) -> list[Any]:
        def in_a_thread() -> int:
            result = adapter.sync.call(ctx.trigger_and_wait("double", 1))
            stage.seen.append("goes on")
            stage.thread_gate.wait(20)
            return result

        return [*await asyncio.gather(asyncio.to_thread(in_a_thread), ctx.wait_for_token(given["token"]))]

    del several, beside, goes_on, branch_goes_on, thread_goes_on


async def begun(rig: Rig, task: str, way: str, **options: Any) -> tuple[Any, UUID]:
    token = await rig.adapter.create_token()
    given = {"way": way, "token": public_id(WAITPOINT, token.id)}
    return await rig.adapter.schedule_job(task, given, **options), token.id


async def has_child_ended(rig: Rig, job_id: UUID) -> bool:
    found = await children(rig, job_id)
    return bool(found) and await ended(rig, found[0])


async def waits_for_the_rest(rig: Rig, job_id: UUID, token: UUID) -> bool:
    """Whether the job waits for its token alone, and its child has ended."""
    if not await has_child_ended(rig, job_id):
        return False
    row = await rig.row(job_id)
    return row["status"] == "WAITING" and row["awaiting"] == [token]


@pytest.mark.parametrize("way", WAYS)
async def test_a_job_that_only_waits_for_the_rest_takes_no_place(database_url: str, way: str) -> None:
    async with playing(database_url, declare) as (rig, _), running(rig.worker(concurrency=1)):
        job, token = await begun(rig, "several", way)
        await eventually(lambda: waits_for_the_rest(rig, job.id, token))
        assert (await rig.row(job.id))["waiting_for"] == "token"
        other = await rig.adapter.schedule_job("beside")
        assert await other.result(timedelta(seconds=10)) == "ran"
        assert await rig.status(job.id) == "WAITING"
        await rig.adapter.complete_token(token, "yes")
        assert await job.result(timedelta(seconds=10)) == [2, "yes"]


async def test_branches_whose_children_share_a_queue_with_one_place(database_url: str) -> None:
    def one_place(adapter: Adapter, stage: Stage) -> None:
        @adapter.task("one", queue=NARROW)
        async def one(number: int) -> int:
            return number

        @adapter.task("all", queue=NARROW, retry=ONCE)
        async def all_of_them(count: int, ctx: JobContext) -> list[int]:
            return await asyncio.gather(*(ctx.trigger_and_wait(one, each) for each in range(count)))

        del all_of_them

    async with playing(database_url, one_place) as (rig, _), running(rig.worker(concurrency=3)):
        job = await rig.adapter.schedule_job("all", 5)
        assert await job.result(timedelta(seconds=20)) == list(range(5))


@pytest.mark.parametrize(
    ("task", "way"),
    [("goes-on", "first"), ("goes-on", "completed"), ("branch-goes-on", ""), ("thread-goes-on", "")],
)
async def test_a_job_that_goes_on_with_what_has_ended_keeps_its_place(
    database_url: str, task: str, way: str
) -> None:
    async with playing(database_url, declare) as (rig, stage), running(worker := rig.worker(concurrency=3)):
        await eventually(lambda: worker.state == "working")
        # The child's: whoever begins to wait after it has ended lets the job wait again.
        await rig.adapter.pause_queue("default", reason="until both wait")
        job, token = await begun(rig, task, way)

        async def is_held_by_both() -> bool:
            return len((await rig.row(job.id))["awaiting"] or ()) == 2

        await eventually(is_held_by_both)
        await rig.adapter.resume_queue("default", reason="both wait")
        worker.look_again()
        await eventually(lambda: "goes on" in stage.seen)
        other = await rig.adapter.schedule_job("beside")
        began = asyncio.get_running_loop().time()
        # It is looked at several times in that time.
        await eventually(lambda: asyncio.get_running_loop().time() - began > 0.5)
        assert (await rig.status(job.id), await rig.status(other.id)) == ("EXECUTING", "QUEUED")
        stage.gate.set()
        stage.thread_gate.set()
        # Now all that it awaits is the token.
        assert await other.result(timedelta(seconds=10)) == "ran"
        assert await waits_for_the_rest(rig, job.id, token)
        await rig.adapter.complete_token(token, "yes")
        assert await job.result(timedelta(seconds=10)) == [2, "yes"]


async def test_waiting_for_the_rest_does_not_count_as_duration(database_url: str) -> None:
    async with playing(database_url, declare) as (rig, _), running(rig.worker()):
        job, token = await begun(rig, "several", "gathering", max_duration=timedelta(seconds=2))
        await eventually(lambda: waits_for_the_rest(rig, job.id, token))
        began = asyncio.get_running_loop().time()
        await eventually(lambda: asyncio.get_running_loop().time() - began > 2.3)
        assert await waits_for_the_rest(rig, job.id, token)
        await rig.adapter.complete_token(token, "yes")
        assert await job.result(timedelta(seconds=10)) == [2, "yes"]


async def test_a_stop_lets_go_of_who_waits_for_the_rest(database_url: str) -> None:
    async with playing(database_url, declare) as (rig, stage):
        # Nobody waits for its grace: that is longer than this test may take.
        async with running(rig.worker(grace=timedelta(minutes=10))):
            job, token = await begun(rig, "several", "gathering")
            await eventually(lambda: waits_for_the_rest(rig, job.id, token))
        row = await rig.row(job.id)
        assert (row["status"], row["worker_id"], row["attempt"]) == ("WAITING", None, 0)
        before = await children(rig, job.id)
        await rig.adapter.complete_token(token, "yes")
        async with running(rig.worker()):
            await rig.adapter.maintenance.run_once()
            assert await job.result(timedelta(seconds=10)) == [2, "yes"]
        assert (await children(rig, job.id), stage.seen.count("began")) == (before, 2)


async def test_a_stop_before_it_waits_again_lets_go_as_well(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with playing(database_url, declare) as (rig, _):
        monkeypatch.setattr("adapter.core.family._AGAIN_S", 1.0)
        async with running(rig.worker(grace=timedelta(minutes=10))):
            job, _ = await begun(rig, "several", "gathering")
            await eventually(lambda: goes_on(rig, job.id))
        row = await rig.row(job.id)
        assert (row["status"], row["worker_id"], row["attempt"]) == ("WAITING", None, 0)


async def goes_on(rig: Rig, job_id: UUID) -> bool:
    """Whether its child has ended and it executes."""
    return await has_child_ended(rig, job_id) and await rig.status(job_id) == "EXECUTING"


async def test_a_cancel_ends_who_waits_for_the_rest(database_url: str) -> None:
    async with playing(database_url, declare) as (rig, _), running(rig.worker()):
        job, token = await begun(rig, "several", "gathering")
        await eventually(lambda: waits_for_the_rest(rig, job.id, token))
        await rig.adapter.cancel_job(job.id)
        await eventually(lambda: ended(rig, job.id))
        assert await rig.status(job.id) == "CANCELED"
        other = await rig.adapter.schedule_job("beside")
        assert await other.result(timedelta(seconds=10)) == "ran"
        untouched = await rig.adapter.get_token(token)
        assert untouched is not None
        assert untouched.status is TokenStatus.WAITING


async def test_one_that_was_lost_meanwhile_writes_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with playing(database_url, declare) as (rig, _):
        monkeypatch.setattr("adapter.core.family._AGAIN_S", 1.0)
        async with running(rig.worker(grace=timedelta(seconds=0.2))):
            job, _ = await begun(rig, "several", "gathering")
            await eventually(lambda: goes_on(rig, job.id))
            await rig.set(job.id, "claim_number = claim_number + 1")
            began = asyncio.get_running_loop().time()
            await eventually(lambda: asyncio.get_running_loop().time() - began > 1.2)
            assert await rig.status(job.id) == "EXECUTING"


async def test_branches_that_end_together_write_the_row_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fans_out(adapter: Adapter, stage: Stage) -> None:
        family(adapter, stage)

        @adapter.task("branches", retry=ONCE)
        async def branches(count: int, ctx: JobContext) -> list[int]:
            return await asyncio.gather(*(ctx.trigger_and_wait("held", each) for each in range(count)))

        del branches

    written: list[UUID] = []
    resume = families.resume

    async def counted(conn: Any, schema: Any, job: Job, *more: Any) -> bool:
        written.append(job.id)
        return await resume(conn, schema, job, *more)

    monkeypatch.setattr(families, "resume", counted)
    monkeypatch.setattr("adapter.core.family._AGAIN_S", 60.0)
    async with playing(database_url, fans_out) as (rig, stage), running(rig.worker()):
        job = await rig.adapter.schedule_job("branches", 5)
        await eventually(lambda: len(stage.seen) == 5)
        stage.gate.set()
        assert await job.result(timedelta(seconds=10)) == [0, 2, 4, 6, 8]
    assert written == [job.id]
