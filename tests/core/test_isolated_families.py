"""Handlers in child processes that schedule children and wait: by way of their worker, which holds the row."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from adapter import Adapter, JobFilter, RetryPolicy
from adapter.core.worker import Worker
from tests.core.test_isolation import go, is_alive, lines, the_same_tasks
from tests.kit import eventually
from tests.rig import Rig
from tests.stage import Stage, playing

pytestmark = [pytest.mark.once("children have no database"), pytest.mark.timeout(60)]
WAYS = ["waits", "waits-in-a-thread"]


def declare(adapter: Adapter, stage: Stage) -> None:
    the_same_tasks(adapter)

    @adapter.task("held")
    async def held(number: int) -> int:
        stage.seen.append(number)
        await stage.gate.wait()
        return number * 2

    @adapter.task("broken", retry=RetryPolicy(max_attempts=1))
    async def broken(_: Any) -> None:
        raise ValueError("no")

    del held, broken


@asynccontextmanager
async def isolating(url: str, **options: Any) -> AsyncGenerator[tuple[Rig, Stage, Worker]]:
    given = {"processes": 1, "cancel_grace": timedelta(seconds=2)} | options
    async with (
        playing(url, declare) as (rig, stage),
        rig.adapter.running(work=True, dispatch=False, sync=False, **given) as worker,
    ):
        assert worker is not None
        yield rig, stage, worker
        # Whoever waits in a thread of a child goes on.
        stage.gate.set()


async def is_waiting(rig: Rig, job_id: UUID) -> bool:
    return await rig.status(job_id) == "WAITING"


def pids(worker: Worker) -> list[int]:
    assert worker._tries.caller.processes is not None
    return worker._tries.caller.processes.pids


async def children(rig: Rig, job_id: UUID) -> list[UUID]:
    return [each.id for each in (await rig.adapter.list_jobs(JobFilter(parent_id=job_id))).jobs]


async def test_a_child_is_scheduled_by_the_worker(database_url: str) -> None:
    async with isolating(database_url) as (rig, _, _):
        job = await rig.adapter.schedule_job("schedules")
        child, status = await job.result(timedelta(seconds=20))
        assert await children(rig, job.id) == [UUID(child)]
        row = await rig.row(UUID(child))
        assert (row["status"], row["tags"], row["root_id"]) == (status, ["a", "b"], job.id)
        assert (status, row["data"]["number"], row["extra"]["detached"]) == ("DELAYED", 1, True)


@pytest.mark.parametrize(("task", "name"), [("pid", "InvalidPayloadError"), ("nobody", "UnknownTaskError")])
async def test_what_the_worker_refuses_is_raised_in_the_handler(
    database_url: str, task: str, name: str
) -> None:
    async with isolating(database_url) as (rig, _, _):
        job = await rig.adapter.schedule_job("schedules-wrongly", task)
        await eventually(lambda: has_ended(rig, job.id), within=20)
        error = (await rig.row(job.id))["error"]
        assert error["name"] == name
        assert task in error["message"]


async def has_ended(rig: Rig, job_id: UUID) -> bool:
    return (await rig.row(job_id)).get("finished") is not None


@pytest.mark.parametrize("way", WAYS)
async def test_while_it_waits_another_runs_in_a_process_of_its_own(
    database_url: str, tmp_path: Path, way: str
) -> None:
    path = tmp_path / "said"
    async with isolating(database_url) as (rig, stage, worker):
        token = await rig.adapter.create_token()
        held = {"path": str(path), "count": 2, "token": str(token.id)}
        job = await rig.adapter.schedule_job(way, held)
        await eventually(lambda: is_waiting(rig, job.id), within=20)
        beside = await rig.adapter.schedule_job("pid", {"number": 1})
        assert str((await beside.result(timedelta(seconds=20)))["pid"]) not in lines(path)
        assert len(pids(worker)) == 2
        stage.gate.set()
        await eventually(lambda: waits_for_token(rig, job.id), within=20)
        await rig.adapter.complete_token(token.id, "yes")
        assert await job.result(timedelta(seconds=20)) == [0, 2, "yes"]
        # It began once, and nothing of it was spent.
        assert len(lines(path)) == 1
        assert (await rig.row(job.id))["attempt"] == 1
        assert await rig.events(job.id) == []


async def waits_for_token(rig: Rig, job_id: UUID) -> bool:
    return (await rig.row(job_id))["waiting_for"] == "token"


@pytest.mark.parametrize(("task", "name"), [("broken", "JobFailedError"), ("nobody", "UnknownTaskError")])
async def test_errors_of_a_wait_are_raised_in_the_child(database_url: str, task: str, name: str) -> None:
    async with isolating(database_url) as (rig, _, _):
        job = await rig.adapter.schedule_job("waits-for-the-broken", task)
        assert (await job.result(timedelta(seconds=20))).startswith(f"{name}: ")


@pytest.mark.parametrize("way", WAYS)
async def test_beyond_as_many_that_wait_one_is_given_back_and_begins_again(
    database_url: str, tmp_path: Path, way: str
) -> None:
    paths = [tmp_path / "first", tmp_path / "second"]
    async with isolating(database_url) as (rig, stage, worker):
        jobs: list[Any] = []
        for path in paths:
            jobs.append(await rig.adapter.schedule_job(way, {"path": str(path)}))
            await eventually(lambda: is_waiting(rig, jobs[-1].id), within=20)
        await eventually(lambda: has_no_holder(rig, jobs[1].id), within=20)
        rows = [await rig.row(each.id) for each in jobs]
        assert [(row["status"], row["attempt"]) for row in rows] == [("WAITING", 1), ("WAITING", 0)]
        assert rows[1]["awaiting"] == await children(rig, jobs[1].id)
        stage.gate.set()
        assert await jobs[0].result(timedelta(seconds=20)) == [0]
        await eventually(lambda: woken(rig, jobs[1].id), within=20)
        assert await jobs[1].result(timedelta(seconds=20)) == [0]
        assert [len(lines(path)) for path in paths] == [1, 2]
        assert [len(await children(rig, each.id)) for each in jobs] == [1, 1]
        assert stage.seen == [0, 0]
        assert worker._tries.spare == 1


async def has_no_holder(rig: Rig, job_id: UUID) -> bool:
    return (await rig.row(job_id))["worker_id"] is None


async def woken(rig: Rig, job_id: UUID) -> bool:
    await rig.adapter.maintenance.run_once()
    return await rig.status(job_id) != "WAITING"


@pytest.mark.parametrize("way", WAYS)
async def test_a_cancel_ends_one_that_waits(database_url: str, tmp_path: Path, way: str) -> None:
    path = tmp_path / "said"
    async with isolating(database_url) as (rig, _, worker):
        job = await rig.adapter.schedule_job(way, {"path": str(path)})
        await eventually(lambda: is_waiting(rig, job.id), within=20)
        [child] = await children(rig, job.id)
        await rig.adapter.cancel_job(job.id)
        await eventually(lambda: has_ended(rig, job.id), within=20)
        await eventually(lambda: has_ended(rig, child), within=20)
        assert [await rig.status(each) for each in (job.id, child)] == ["CANCELED", "CANCELED"]
        # It did as it was told, and its process is used again.
        beside = await rig.adapter.schedule_job("pid", {"number": 1})
        assert [str((await beside.result(timedelta(seconds=20)))["pid"])] == lines(path)
        assert worker._tries.spare == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_stop_lets_go_of_one_that_waits(database_url: str, tmp_path: Path, way: str) -> None:
    path = tmp_path / "said"
    # Nobody waits for its grace: that is longer than this test may take.
    async with isolating(database_url, grace=timedelta(minutes=10)) as (rig, stage, worker):
        job = await rig.adapter.schedule_job(way, {"path": str(path)})
        await eventually(lambda: is_waiting(rig, job.id), within=20)
        await eventually(lambda: stage.seen == [0])
        worker.stop()
        await eventually(lambda: has_no_holder(rig, job.id), within=20)
        row = await rig.row(job.id)
        assert (row["status"], row["attempt"]) == ("WAITING", 0)
        assert row["awaiting"] == await children(rig, job.id)


async def test_the_time_of_a_wait_does_not_count_and_what_follows_does(
    database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "said"
    async with isolating(database_url, processes=2) as (rig, stage, _):
        await (await rig.adapter.schedule_job("pid", {"number": 1})).result(timedelta(seconds=20))
        duration = timedelta(seconds=4)
        done = await rig.adapter.schedule_job(
            "waits", {"path": str(tmp_path / "done")}, max_duration=duration
        )
        late = await rig.adapter.schedule_job("computes-after", {"path": str(path)}, max_duration=duration)
        for each in (done, late):
            await eventually(lambda each=each: is_waiting(rig, each.id), within=20)
        began = asyncio.get_running_loop().time()
        await eventually(lambda: asyncio.get_running_loop().time() - began > 4.5, within=10)
        assert [await rig.status(each.id) for each in (done, late)] == ["WAITING", "WAITING"]
        stage.gate.set()
        assert await done.result(timedelta(seconds=20)) == [0]
        await eventually(lambda: has_ended(rig, late.id), within=20)
        assert await rig.status(late.id) == "TIMED_OUT"
        pid, longer = lines(path)[0].split()
        assert not is_alive(int(pid))
        assert float(longer) > 4.5


@pytest.mark.parametrize("way", WAYS)
async def test_a_process_that_dies_while_it_waits_costs_a_try_which_finds_the_children(
    database_url: str, tmp_path: Path, way: str
) -> None:
    path = tmp_path / "said"
    async with isolating(database_url) as (rig, stage, worker):
        job = await rig.adapter.schedule_job(way, {"path": str(path), "count": 2})
        await eventually(lambda: is_waiting(rig, job.id), within=20)
        psutil.Process(int(lines(path)[0])).kill()
        await eventually(lambda: len(lines(path)) == 2, within=20)
        await eventually(lambda: is_waiting(rig, job.id), within=20)
        assert await rig.events(job.id) == ["retry"]
        stage.gate.set()
        assert await job.result(timedelta(seconds=20)) == [0, 2]
        assert (await rig.row(job.id))["attempt"] == 2
        assert len(await children(rig, job.id)) == 2
        assert worker._tries.spare == 1


async def test_a_handler_in_a_child_may_give_up_waiting(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "said"
    async with isolating(database_url) as (rig, _, _):
        job = await rig.adapter.schedule_job("gives-up", {"path": str(path)})
        await eventually(lambda: lines(path), within=20)
        await eventually(lambda: is_executing(rig, job.id))
        go(path)
        assert await job.result(timedelta(seconds=20)) == "it goes on"


async def is_executing(rig: Rig, job_id: UUID) -> bool:
    return await rig.status(job_id) == "EXECUTING"
