"""What handlers say while they run: seen by others soon, last before the outcome, and only while they hold the job."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from adapter import Adapter, JobContext, RetryPolicy
from adapter.core.context import JobContext as Context
from adapter.core.metadata_writer import INTERVAL_S, MetadataWriter
from adapter.core.progress import JobMetadata
from adapter.domain.errors import InvalidArgumentError, JobInterruptedError
from adapter.domain.identity import run_id_of
from adapter.store.database import Database
from adapter.store.job_metadata import MetadataPatch, write_metadata
from tests.kit import eventually
from tests.rig import Rig
from tests.stage import Stage, playing


@asynccontextmanager
async def working(rig: Rig) -> AsyncGenerator[None]:
    """A worker runs what there is, beside the block."""
    async with asyncio.TaskGroup() as group:
        group.create_task(rig.work())
        yield


def talking(adapter: Adapter, stage: Stage) -> None:
    @adapter.task("async", retry=RetryPolicy(max_attempts=1))
    async def talks(payload: Any, ctx: JobContext) -> str:
        stage.seen.append(ctx)
        ctx.progress(0.4, "downloading")
        ctx.metadata.set("file", "a.csv")
        await stage.gate.wait()
        ctx.progress(1)
        if payload == "fail":
            raise ValueError("no")
        return "done"

    @adapter.task("thread")
    def talks_in_thread(payload: Any, ctx: JobContext) -> str:
        stage.seen.append(ctx)
        ctx.progress(0.4, message="downloading")
        ctx.metadata.set("file", "a.csv")
        stage.thread_gate.wait(10)
        ctx.progress(1)
        return "done"

    @adapter.task("silent")
    async def silent(payload: Any, ctx: JobContext) -> str:
        return "done"

    del talks, talks_in_thread, silent


@pytest.mark.parametrize("task", ["async", "thread"])
async def test_progress_is_seen_while_a_job_runs_and_its_last_with_the_outcome(
    database_url: str, task: str
) -> None:
    async with playing(database_url, talking) as (rig, stage):
        job = await rig.adapter.schedule_job(task, metadata={"customer": 7})
        async with working(rig):

            async def seen() -> dict[str, Any] | None:
                found = await rig.adapter.get_job(job.id)
                return found.metadata if found and "file" in (found.metadata or {}) else None

            said = {"progress": {"value": 0.4, "message": "downloading"}, "file": "a.csv", "customer": 7}
            assert await eventually(seen) == said
            assert await rig.status(job.id) == "EXECUTING"
            stage.gate.set()
            stage.thread_gate.set()
        row = await rig.row(job.id)
        assert (row["status"], row["metadata"]) == ("COMPLETED", said | {"progress": {"value": 1.0}})


async def test_what_a_failed_try_said_is_kept(database_url: str) -> None:
    async with playing(database_url, talking) as (rig, stage):
        stage.gate.set()
        job = await rig.adapter.schedule_job("async", "fail")
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["metadata"]["progress"]) == ("FAILED", {"value": 1.0})


async def test_a_retry_goes_on_from_what_the_try_before_said(database_url: str) -> None:
    def declare(adapter: Adapter, stage: Stage) -> None:
        @adapter.task("counts", retry=RetryPolicy(min_timeout_in_ms=0, max_timeout_in_ms=0))
        async def counts(payload: Any, ctx: JobContext) -> Any:
            ctx.metadata.increment("tries")
            ctx.metadata.append("log", ctx.attempt)
            ctx.metadata.delete("customer")
            if ctx.attempt < 3:
                raise ValueError
            return ctx.metadata.current()

        del counts

    async with playing(database_url, declare) as (rig, _):
        job = await rig.adapter.schedule_job("counts", metadata={"customer": 7, "kept": True})
        await rig.work(3)
        row = await rig.row(job.id)
        assert row["metadata"] == row["result"] == {"tries": 3, "log": [1, 2, 3], "kept": True}


async def test_metadata_of_others_stays_unless_the_handler_touches_the_same_key(database_url: str) -> None:
    async with playing(database_url, talking) as (rig, stage):
        job = await rig.adapter.schedule_job("async", metadata={"a": 1})
        async with working(rig):
            await eventually(lambda: stage.seen)
            await rig.set(job.id, """metadata = '{"a": 2, "b": 3, "file": "other"}'""")
            stage.gate.set()
        row = await rig.row(job.id)
        assert row["metadata"] == {"a": 2, "b": 3, "file": "a.csv", "progress": {"value": 1.0}}


async def test_a_talkative_handler_costs_few_writes(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    write = MetadataWriter._write_all

    async def counted(self: MetadataWriter, marked: list[JobMetadata]) -> None:
        writes.append(len(marked))
        await write(self, marked)

    def declare(adapter: Adapter, stage: Stage) -> None:
        @adapter.task("talks")
        async def talks(payload: Any, ctx: JobContext) -> None:
            for step in range(2000):
                ctx.progress(step / 2000)
                if step % 100 == 0:
                    await asyncio.to_thread(ctx.metadata.increment, "steps", 100)

        del talks

    monkeypatch.setattr(MetadataWriter, "_write_all", counted)
    async with playing(database_url, declare) as (rig, _):
        job = await rig.adapter.schedule_job("talks")
        began = asyncio.get_running_loop().time()
        await rig.work()
        took = asyncio.get_running_loop().time() - began
        assert (await rig.row(job.id))["metadata"] == {"progress": {"value": 0.9995}, "steps": 2000}
        assert len(writes) <= 3 + took // INTERVAL_S


async def test_metadata_of_who_lost_the_job_changes_nothing(database_url: str) -> None:
    async with playing(database_url, talking) as (rig, stage):
        job = await rig.adapter.schedule_job("async")
        async with working(rig):
            await eventually(lambda: stage.seen)
            await eventually(lambda: _said(rig, job.id))
            await rig.set(job.id, "worker_id = gen_random_uuid(), metadata = '{}'")
            stage.seen[0].metadata.set("file", "late.csv")
            await eventually(lambda: rig.adapter.observers.counts["stale_metadata"] == 1)
            stage.gate.set()
        row = await rig.row(job.id)
        assert (row["status"], row["metadata"]) == ("EXECUTING", {})


async def _said(rig: Rig, job_id: Any) -> bool:
    return "file" in ((await rig.row(job_id))["metadata"] or {})


@pytest.mark.parametrize("wrong", ["epoch", "worker", "claim", "status", "none"])
async def test_the_write_is_fenced(rig: Rig, wrong: str) -> None:
    job = await rig.adapter.schedule_job("echo")
    lease, (claimed,) = await rig.claim()
    epoch = claimed.epoch + (wrong == "epoch")
    if wrong == "worker":
        await rig.set(job.id, "worker_id = gen_random_uuid()")
    if wrong == "claim":
        await rig.set(job.id, "claim_number = claim_number + 1")
    if wrong == "status":
        await rig.set(job.id, "status = 'QUEUED'")
    patch = MetadataPatch(job.id, epoch, lease, {"a": 1}, ("b",))
    async with rig.adapter.database.connection() as conn:
        held = await write_metadata(conn, rig.schema, [patch])
    assert held == ({job.id} if wrong == "none" else set())
    assert (await rig.row(job.id))["metadata"] == ({"a": 1} if wrong == "none" else None)


async def test_an_older_write_on_its_way_does_not_come_after_the_last_one(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow write is held until the outcome is being written."""
    held = asyncio.Event()
    connection = Database.connection

    @asynccontextmanager
    async def slow(self: Database) -> AsyncGenerator[Any]:
        task = asyncio.current_task()
        if task is not None and task.get_name() == "adapter-metadata":
            await held.wait()
        async with connection(self) as conn:
            yield conn

    async with playing(database_url, talking) as (rig, stage):
        job = await rig.adapter.schedule_job("async")
        monkeypatch.setattr(Database, "connection", slow)
        async with working(rig):
            await eventually(lambda: stage.seen)
            stage.gate.set()
        held.set()
        row = await rig.row(job.id)
        assert (row["status"], row["metadata"]["progress"]) == ("COMPLETED", {"value": 1.0})


async def test_what_is_no_metadata_is_refused_and_loses_nothing(database_url: str) -> None:
    async with playing(database_url, talking) as (rig, _):
        job = await rig.adapter.schedule_job("silent", metadata={"word": "x"})
        lease, (claimed,) = await rig.claim()
        writer = MetadataWriter(rig.adapter._parts)
        writer.begin()
        metadata = writer.of(lease, claimed.job)
        metadata.set("kept", [1])
        refused: list[tuple[str, Callable[[], object]]] = [
            ("JSON has no nan", lambda: metadata.set("n", float("nan"))),
            ("U.0000", lambda: metadata.set("n", "a\x00")),
            ("U.0000", lambda: metadata.set("a\x00", 1)),
            ("no JSON", lambda: metadata.set("n", object())),
            ("may take 262144 bytes", lambda: metadata.set("n", "x" * 300_000)),
            ("no number", lambda: metadata.increment("word")),
            ("no list", lambda: metadata.append("word", 1)),
        ]
        for message, call in refused:
            with pytest.raises(InvalidArgumentError, match=message):
                call()
        for fraction in (-0.1, 1.1, float("nan")):
            context = Context(claimed.job, None, lambda _: metadata)
            with pytest.raises(InvalidArgumentError, match="from 0 to 1"):
                context.progress(fraction)
        got = metadata.get("kept")
        got.append(2)
        metadata.remove("kept", 5)
        assert metadata.decrement("down", 2) == -2
        assert metadata.current() == {"word": "x", "kept": [1], "down": -2}
        assert (await rig.row(job.id))["status"] == "EXECUTING"


async def test_a_context_says_what_a_handler_needs_to_know(rig: Rig) -> None:
    await rig.adapter.schedule_job("echo", max_duration=timedelta(minutes=1), max_attempts=5)
    _, (claimed,) = await rig.claim()
    job = claimed.job
    ctx = Context(job)
    assert (ctx.attempt, ctx.max_attempts, ctx.job) == (1, 5, job)
    assert ctx.deadline == job.updated_at + timedelta(minutes=1)
    assert ctx.logger.extra == {
        "job_id": str(job.id),
        "run_id": run_id_of(job.id),
        "type": "echo",
        "executor": "local",
        "attempt": 1,
    }
    ctx.raise_if_canceled()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(ctx.canceled())
        await asyncio.wait({waiting}, timeout=0)
        assert not waiting.done()
        ctx.cancel()
    await ctx.canceled()
    with pytest.raises(JobInterruptedError):
        ctx.raise_if_canceled()
    with pytest.raises(RuntimeError, match="no worker"):
        ctx.progress(0.5)


async def test_a_handler_that_says_nothing_costs_no_write(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise AssertionError("nobody said anything")

    monkeypatch.setattr("adapter.core.completion.write_metadata", fail)
    monkeypatch.setattr("adapter.core.metadata_writer.write_metadata", fail)
    async with playing(database_url, talking) as (rig, _):
        job = await rig.adapter.schedule_job("silent")
        await rig.work()
        assert await rig.status(job.id) == "COMPLETED"
