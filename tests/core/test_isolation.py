"""Handlers in child processes: what they are given, how they die, and that they never outlive their worker."""

import asyncio
import functools
import logging
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import SecretStr

from adapter import Adapter, Batch, BatchItem, JobSpec, Queue, Settings
from adapter.core import claiming
from adapter.core.isolation import pool
from adapter.core.worker import Worker
from adapter.domain.errors import TaskDefinitionError
from adapter.domain.outcome import Lease
from adapter.store import claims
from tests import kit, pooling
from tests.core import isolated
from tests.kit import eventually
from tests.rig import Rig, new_id, rigged

pytestmark = [pytest.mark.once("children have no database"), pytest.mark.timeout(60)]


def the_same_tasks(adapter: Adapter) -> None:
    """The tasks of the module that children import, on the adapter of a test."""
    for definition in isolated.adapter.registry:
        adapter.registry.add(definition)


@asynccontextmanager
async def isolating(url: str, **options: Any) -> AsyncGenerator[tuple[Rig, Worker]]:
    async with rigged(url, the_same_tasks) as rig:
        yield rig, rig.worker(**({"processes": 1} | options))


async def ran(rig: Rig, worker: Worker, task: str, data: Any, **options: Any) -> Any:
    job = await rig.adapter.schedule_job(task, data, **options)
    await worker.run_once()
    return await rig.row(job.id)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def go(path: Path) -> None:
    Path(f"{path}.go").touch()


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_sync_and_async_handlers_run_in_one_child_one_after_the_other(database_url: str) -> None:
    async with isolating(database_url) as (rig, worker):
        job = await rig.adapter.schedule_job("pid", {"number": 7})
        others = [await rig.adapter.schedule_job("async-pid", {"number": each}) for each in range(20)]
        assert await worker.run_until_idle() == 21
        row = await rig.row(job.id)
        (child,) = {await each.result() for each in others}
        assert child != os.getpid()
        assert row["result"] == {"pid": child, "number": 7, "attempt": 1, "id": str(job.id)}
        # The worker has ended, and so have its children.
        await eventually(lambda: not is_alive(child))
        assert await rig.value("SELECT count(*) FROM {s}.job_events") == 0


async def test_as_many_at_once_as_there_are_processes(database_url: str) -> None:
    async with isolating(database_url, processes=2) as (rig, worker):
        jobs = [await rig.adapter.schedule_job("pid", {"number": each}) for each in range(10)]
        # No more than can run are taken.
        assert [await worker.run_once() for _ in range(6)] == [2, 2, 2, 2, 2, 0]
        assert len({(await job.result())["pid"] for job in jobs}) <= 2
        assert len(worker._tries.caller.processes.pids if worker._tries.caller.processes else []) == 2


@pytest.mark.parametrize(
    ("kind", "status", "attempt", "name"),
    [
        ("key", "FAILED", 1, "KeyError"),
        ("abort", "FAILED", 1, "AbortJobError"),
        ("later", "DELAYED", 1, "RetryJobError"),
        ("other", "QUEUED", 1, "ValueError"),
    ],
)
async def test_errors_mean_what_they_mean_in_the_worker(
    database_url: str, kind: str, status: str, attempt: int, name: str
) -> None:
    async with isolating(database_url) as (rig, worker):
        row = await ran(rig, worker, "raises", kind)
        assert (row["status"], row["attempt"], row["error"]["name"]) == (status, attempt, name)
        assert "tests/core/isolated.py" in row["error"]["stack"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("segfault", "was killed by SIGSEGV"),
        ("exit", "ended with exit code 7"),
        ("kill", "was killed by SIGKILL"),
    ],
)
async def test_a_process_that_dies_on_every_attempt_is_a_crash(
    database_url: str, how: str, words: str
) -> None:
    async with isolating(database_url) as (rig, worker):
        job = await rig.adapter.schedule_job("dies", how)
        beside = await rig.adapter.schedule_job("pid", {"number": 1})
        for _ in range(4):
            await worker.run_once()
        row = await rig.row(job.id)
        assert (row["status"], row["attempt"], row["error"]["name"]) == ("CRASHED", 2, "ProcessDiedError")
        assert words in row["error"]["message"]
        assert await rig.events(job.id) == ["retry"]
        assert rig.adapter.observers.counts["process_died"] == 2
        assert (await beside.refresh()).success is True


async def test_sys_exit_in_a_handler_is_an_error_like_any_other(database_url: str) -> None:
    async with isolating(database_url) as (rig, worker):
        job = await rig.adapter.schedule_job("dies", "bye")
        await worker.run_once()
        assert (await rig.row(job.id))["error"]["name"] in {"SystemExit", "ProcessDiedError"}


async def test_a_process_that_died_once_is_replaced(database_url: str) -> None:
    async with isolating(database_url) as (rig, worker):
        job = await rig.adapter.schedule_job("dies", "once")
        await worker.run_once()
        await worker.run_once()
        row = await rig.row(job.id)
        assert (row["status"], row["attempt"]) == ("COMPLETED", 2)


async def test_out_of_time_it_is_killed_with_all_that_it_started(database_url: str, tmp_path: Path) -> None:
    async with isolating(database_url) as (rig, worker):
        path = tmp_path / "said"
        await ran(rig, worker, "pid", {"number": 1})  # the child is there
        row = await ran(
            rig, worker, "works", {"number": 1, "path": str(path)}, max_duration=timedelta(seconds=1)
        )
        assert (row["status"], row["error"]["name"]) == ("TIMED_OUT", "TimedOut")
        pids = [int(each) for each in lines(path)[0].split()]
        await eventually(lambda: not any(is_alive(each) for each in pids))
        assert (await ran(rig, worker, "pid", {"number": 2}))["status"] == "COMPLETED"


@pytest.mark.parametrize("task", ["listens", "listens-async"])
async def test_a_canceled_handler_is_told_and_ends_by_itself(
    database_url: str, tmp_path: Path, task: str
) -> None:
    async with isolating(database_url) as (rig, worker):
        path = tmp_path / "said"
        job = await rig.adapter.schedule_job(task, {"number": 1, "path": str(path)})
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run_once())
            await eventually(lambda: lines(path), within=20)
            worker.cancel_tries([job.id])
        assert await rig.status(job.id) == "CANCELED"
        child = int(lines(path)[0])
        assert lines(path)[1].startswith("stopped")
        # It did as it was told, and is used again.
        assert (await ran(rig, worker, "pid", {"number": 1}))["result"]["pid"] == child


async def test_one_that_does_not_listen_is_killed_after_the_grace(database_url: str, tmp_path: Path) -> None:
    async with isolating(database_url, cancel_grace=timedelta(milliseconds=300)) as (rig, worker):
        path = tmp_path / "said"
        job = await rig.adapter.schedule_job("works", {"number": 1, "path": str(path)})
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run_once())
            await eventually(lambda: lines(path), within=20)
            worker.cancel_tries([job.id])
        assert await rig.status(job.id) == "CANCELED"
        assert not any(is_alive(int(each)) for each in lines(path)[0].split())
        assert rig.adapter.observers.counts["process_died"] == 0
        assert rig.adapter.observers.counts["abandoned"] == 0


async def test_a_stop_kills_after_the_grace_and_gives_back_unspent(database_url: str, tmp_path: Path) -> None:
    options = {"grace": timedelta(milliseconds=100), "cancel_grace": timedelta(milliseconds=200)}
    async with isolating(database_url, **options) as (rig, worker):
        path = tmp_path / "said"
        job = await rig.adapter.schedule_job("works", {"number": 1, "path": str(path)})
        waits = await rig.adapter.schedule_job("pid", {"number": 1})
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await eventually(lambda: lines(path), within=20)
            worker.stop()
        for each in (job, waits):
            row = await rig.row(each.id)
            assert (row["status"], row["attempt"]) == ("QUEUED", 0), (row["type"], row["error"])
        assert not any(is_alive(int(each)) for each in lines(path)[0].split())


async def test_what_it_says_is_seen_in_the_worker(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with isolating(database_url) as (rig, worker):
        path = tmp_path / "said"
        job = await rig.adapter.schedule_job("tells", {"number": 3, "path": str(path)})

        async def half() -> bool:
            return (await rig.row(job.id))["metadata"] == {
                "progress": {"value": 0.5, "message": "half"},
                "seen": [3],
            }

        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run_once())
            await eventually(half, within=20)
            go(path)
        row = await rig.row(job.id)
        assert row["metadata"] == {"progress": {"value": 1.0}, "seen": [3]}
        assert row["result"] == "the middleware"
        (record,) = [each for each in caplog.records if each.name == "adapter.task.tells"]
        assert (record.getMessage(), vars(record)["color"]) == ("order 3", "red")
        assert vars(record)["job_id"] == str(job.id)
        assert record.process != os.getpid()
        assert "not wanted" not in caplog.text


async def test_a_child_is_replaced_when_it_has_grown_or_done_enough(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MOST_GROWTH", 40 * 1024 * 1024)
    monkeypatch.setattr(pool, "MOST_TRIES", 3)
    async with isolating(database_url) as (rig, worker):
        small = [(await ran(rig, worker, "hungry", 1))["result"] for _ in range(6)]
        assert small[0] == small[2] != small[3] == small[5]
        large = [(await ran(rig, worker, "hungry", 60))["result"] for _ in range(2)]
        assert large[0] != large[1]


async def test_a_result_that_is_no_json_fails(database_url: str) -> None:
    async with isolating(database_url) as (rig, worker):
        assert (await ran(rig, worker, "no-json", None))["status"] == "FAILED"


async def test_a_payload_that_does_not_fit_needs_no_process(database_url: str) -> None:
    async with isolating(database_url) as (rig, worker):
        job = await rig.adapter.schedule_job("pid", {"number": 1})
        await rig.set(job.id, "data = '{}'")
        await worker.run_once()
        assert (await rig.row(job.id))["error"]["name"] == "InvalidPayloadError"
        assert worker._tries.caller.processes is not None
        assert worker._tries.caller.processes.pids == []


@pytest.mark.direct("without news the ends ask")
@pytest.mark.parametrize("queue", ["default", "narrow", "keyed"])
async def test_what_no_process_is_free_for_is_left_to_others(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    def declare(adapter: Adapter) -> None:
        the_same_tasks(adapter)

        @adapter.task("plain")
        async def plain(_: None) -> None: ...

        @adapter.task("in-narrow", queue=Queue("narrow", 5))
        async def in_narrow(_: None) -> None: ...

        @adapter.task("in-keyed", queue=Queue("keyed", 5, key_limit=5))
        async def in_keyed(_: None) -> None: ...

        del plain, in_narrow, in_keyed

    monkeypatch.setattr(claiming, "_POLL_S", 60.0)
    key = {"concurrency_key": "a"} if queue == "keyed" else {}
    path = tmp_path / "said"
    async with rigged(database_url, declare) as rig, rigged(database_url, declare) as working:
        schedule = functools.partial(rig.adapter.schedule_job, queue=queue, **key)
        options = {"processes": 1, "cancel_grace": timedelta(milliseconds=200)}
        async with working.adapter.running(work=True, dispatch=False, sync=False, **options) as worker:
            assert worker is not None
            busy = await schedule("works", {"number": 1, "path": str(path)})
            await eventually(lambda: lines(path), within=20)
            left = [await schedule("pid", {"number": each}) for each in range(3)]
            await (await rig.adapter.schedule_job("plain", None)).result(timedelta(seconds=10))
            rows = [await rig.row(each.id) for each in left]
            assert {(row["status"], row["worker_id"], row["attempt"]) for row in rows} == {
                ("QUEUED", None, 0)
            }
            worker.cancel_tries([busy.id])
            for each in left:
                await each.result(timedelta(seconds=20))
        assert await rig.events(left[0].id) == []


async def test_a_claim_of_some_tasks_looks_at_a_thousand_jobs(database_url: str) -> None:
    async with rigged(database_url, the_same_tasks) as rig:
        await rig.adapter.schedule_specs([JobSpec("pid", {"number": 1}, {}) for _ in range(1001)])
        await rig.adapter.schedule_job("raises", "other")
        lease = Lease(new_id(), 1)
        async with rig.adapter.database.connection() as conn:
            claim = functools.partial(claims.claim, conn, rig.schema, lease, ["default"])
            assert await claim(5, only=["raises"]) == []
            assert await claim(5, without=["pid"]) == []
            assert [each.type for each in await claim(5, only=["pid"])] == ["pid"] * 5
            assert [each.type for each in await claim(5, only=["raises"])] == ["raises"]


async def test_a_job_for_which_no_process_is_free_goes_back(database_url: str, tmp_path: Path) -> None:
    options = {"lease": timedelta(seconds=2), "cancel_grace": timedelta(milliseconds=100)}
    async with isolating(database_url, **options) as (rig, worker):
        # As if a process that was killed did not end.
        rig.adapter.registry.isolated = ()
        path = tmp_path / "said"
        busy = await rig.adapter.schedule_job("works", {"number": 1, "path": str(path)}, priority=1)
        waits = await rig.adapter.schedule_job("pid", {"number": 1})
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run_once())
            await eventually(lambda: lines(path), within=20)

            async def returned() -> bool:
                return await rig.events(waits.id) == ["returned"]

            await eventually(returned, within=10)
            assert (await rig.row(waits.id))["attempt"] == 0
            worker.cancel_tries([busy.id])


async def test_children_die_with_a_worker_that_closes_their_connection_in_the_middle(
    database_url: str, tmp_path: Path
) -> None:
    async with isolating(database_url) as (rig, worker):
        path = tmp_path / "said"
        await rig.adapter.schedule_job("listens", {"number": 1, "path": str(path)})
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run_once())
            await eventually(lambda: lines(path), within=20)
            assert worker._tries.caller.processes is not None
            (child,) = worker._tries.caller.processes.busy
            child._writer.close()
            await eventually(lambda: not is_alive(child.pid))


def test_handlers_that_a_child_cannot_find_are_refused_where_a_worker_is_made() -> None:
    adapter = Adapter()

    @adapter.task("inside", isolation="process")
    def inside(payload: int) -> int:
        return payload

    with pytest.raises(TaskDefinitionError, match="'inside' has isolation='process', but a child"):
        pool.check_addresses(adapter.registry, None)
    # The command says where the application is.
    pool.check_addresses(adapter.registry, "shop.jobs:adapter")
    del inside


async def test_a_worker_is_refused_whose_children_would_find_nothing(database_url: str) -> None:
    adapter = Adapter(Settings(database_url=SecretStr(database_url)))

    @adapter.task("inside", isolation="process")
    def inside(payload: int) -> int:
        return payload

    del inside
    with pytest.raises(TaskDefinitionError, match="'inside'"):
        async with adapter.running(work=True):
            pytest.fail("it runs")


def test_batch_handlers_cannot_be_isolated() -> None:
    def both(items: list[BatchItem[int]]) -> None: ...

    with pytest.raises(TaskDefinitionError, match="a batch handler cannot run"):
        Adapter().task("both", batch=Batch(), isolation="process")(both)


SCRIPT = """
import asyncio
import os
import subprocess
import sys
from datetime import timedelta

from adapter import Adapter

adapter = Adapter.from_env()


@adapter.task("apart", isolation="process")
def apart(number: int) -> int:
    assert __name__ != "__main__"
    return os.getpid()


async def main() -> None:
    async with adapter.running(work=True):
        job = await apart.schedule(1)
        print(await job.result(timeout=timedelta(seconds=30)) != os.getpid())


if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_script_with_tasks_of_its_own(database_url: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env=pooling.environment(
            {"PATH": os.defpath, "PYTHONPATH": str(kit.ROOT), "DATABASE_URL": database_url}
        ),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


@pytest.mark.direct("without news the ends ask")
async def test_what_a_busy_process_left_behind_the_cursors_is_run_before_they_come_to_the_end(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others of the queue are claimed past it, and there is always more of them."""
    began: list[int] = []
    gate = asyncio.Event()

    def declare(adapter: Adapter) -> None:
        the_same_tasks(adapter)

        @adapter.task("plain")
        async def plain(number: int) -> None:
            began.append(number)
            await gate.wait()

        del plain

    monkeypatch.setattr(claiming, "_POLL_S", 60.0)
    path = tmp_path / "said"
    options: dict[str, Any] = {"processes": 1, "concurrency": 4, "cancel_grace": timedelta(milliseconds=200)}
    async with rigged(database_url, declare) as rig, rigged(database_url, declare) as working:
        busy = await rig.adapter.schedule_job("works", {"number": 1, "path": str(path)})
        left = await rig.adapter.schedule_job("pid", {"number": 2})
        await rig.adapter.schedule_specs([JobSpec("plain", number, {}) for number in range(20)])
        async with working.adapter.running(work=True, dispatch=False, sync=False, **options) as worker:
            assert worker is not None
            await eventually(lambda: lines(path) and len(began) == 3, within=20)
            assert worker._claimer._cursors.after("default") > claims.START
            worker.cancel_tries([busy.id])
            await left.result(timedelta(seconds=20))
            gate.set()
