"""What the spec that replaces Trigger.dev by a queue in PostgreSQL asks for, as far as it is here."""

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg.rows import DictRow, dict_row
from pydantic import BaseModel

from adapter import Adapter, JobContext, JobStatus, Queue, RetryPolicy, Settings
from adapter.domain.outcome import Lease
from adapter.store import migrate
from adapter.store.limited_claims import claim_limited
from tests import kit
from tests.rig import Rig, new_id, rigged


class SourceIn(BaseModel):
    source_id: str
    reason: str = "cron"


def spec_tasks(adapter: Adapter) -> None:
    @adapter.task("ingest-source", queue=Queue("ingest-source", concurrency_limit=2))
    async def ingest(payload: SourceIn, ctx: JobContext) -> dict[str, bool]:
        ctx.logger.info("Processing source", extra={"source_id": payload.source_id})
        await ctx.schedule_job("another-task", {"data": "value"})
        return {"success": True}

    async def another(payload: dict[str, str]) -> str:
        return payload["data"]

    async def failing(_payload: Any, ctx: JobContext) -> None:
        raise ValueError(f"attempt {ctx.attempt}")

    adapter.task("another-task")(another)
    retry = RetryPolicy(max_attempts=2, min_timeout_in_ms=0, max_timeout_in_ms=0)
    adapter.task("failing", retry=retry)(failing)
    del ingest


@pytest.fixture
async def spec(database_url: str) -> AsyncIterator[Rig]:
    async with rigged(database_url, spec_tasks) as made:
        yield made


async def test_schema_task_with_a_queue_a_logger_and_task_to_task_triggering(
    spec: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    job = await spec.adapter.schedule_job("ingest-source", {"source_id": "s1"})
    with caplog.at_level(logging.INFO, logger="adapter.task"):
        assert await spec.work() == 1
    (record,) = [each for each in caplog.records if each.getMessage() == "Processing source"]
    fields = vars(record)
    assert (fields["source_id"], fields["job_id"], fields["attempt"]) == ("s1", str(job.id), 1)
    assert (await job.refresh()).result == {"success": True}
    children = await spec.sql("SELECT type, parent_id FROM {s}.worker_jobs_open WHERE type = 'another-task'")
    assert [(each["type"], each["parent_id"]) for each in children] == [("another-task", job.id)]


async def test_the_view_job_runs_has_the_specs_columns_and_words(spec: Rig, database_url: str) -> None:
    schedule = spec.adapter.schedule_job
    done = await schedule("another-task", {"data": "x"})
    failed = await schedule("failing", max_attempts=1)
    assert await spec.work() == 2
    active = await schedule("another-task", {"data": "y"})
    await spec.claim(7)
    pending = await schedule("another-task", {"data": "z"}, delay=timedelta(hours=1))
    with psycopg.Connection[DictRow].connect(
        database_url, options=f"-c search_path={kit.SCHEMA}", row_factory=dict_row
    ) as conn:
        rows = conn.execute(
            "SELECT id, task_id, status, payload, result, error, started_at, completed_at, created_at FROM job_runs"
        ).fetchall()
    runs = {row["id"]: row for row in rows}
    words = {job.id: runs[job.id]["status"] for job in (done, failed, active, pending)}
    assert words == {done.id: "completed", failed.id: "failed", active.id: "active", pending.id: "pending"}
    assert (runs[done.id]["task_id"], runs[done.id]["result"], runs[done.id]["error"]) == (
        "another-task",
        "x",
        None,
    )
    assert (runs[failed.id]["result"], runs[failed.id]["error"]) == (None, "attempt 1")
    assert runs[pending.id]["payload"] == {"data": "z"}
    assert runs[pending.id]["started_at"] is runs[active.id]["completed_at"] is None
    assert runs[done.id]["completed_at"] >= runs[done.id]["started_at"] >= runs[done.id]["created_at"]


def test_the_database_is_taken_from_the_first_of_three_variables() -> None:
    given = {
        "ADAPTER_DATABASE_URL": "postgresql://a/1",
        "DATABASE_URL": "postgresql://b/2",
        "DATABASE_PRIMARY_URL": "postgresql://c/3",
    }
    for name in list(given):
        assert Settings.from_env(given).database().url == given[name]
        # Blank counts as unset.
        given[name] = " "


def test_the_default_zone_of_schedules_is_jobs_cron_tz_else_utc() -> None:
    assert Settings.from_env({}).cron_timezone == "UTC"
    assert Settings.from_env({"JOBS_CRON_TZ": "Europe/Berlin"}).cron_timezone == "Europe/Berlin"


def test_the_compose_workers_wait_for_a_healthy_database_and_restart() -> None:
    compose: dict[str, Any] = yaml.safe_load(Path(kit.ROOT / "docker-compose.yml").read_text())
    for name in ("web", "worker", "dispatcher"):
        service = compose["services"][name]
        assert service["depends_on"]["postgres"]["condition"] == "service_healthy"
        assert service["restart"] == "unless-stopped"
    # A SIGTERM lets running jobs end: longer than the worker's grace.
    assert timedelta(seconds=int(compose["services"]["worker"]["stop_grace_period"].rstrip("s"))) > timedelta(
        seconds=Settings.from_env({}).worker_grace_seconds
    )


# ---- the testing checklist -----------------------------------------------------------------------


def test_it_starts_and_creates_its_schema(empty_database: str) -> None:
    assert migrate.current(empty_database, kit.SCHEMA) is None
    migrate.upgrade(empty_database, schema=kit.SCHEMA)
    assert migrate.current(empty_database, kit.SCHEMA) == migrate.head()


async def test_jobs_can_be_queued_and_a_worker_picks_them_up(spec: Rig) -> None:
    job = await spec.adapter.schedule_job("another-task", {"data": "x"})
    assert job.status is JobStatus.QUEUED
    assert await spec.work() == 1
    assert (await job.refresh()).status is JobStatus.COMPLETED


async def test_concurrency_limits_are_respected(spec: Rig) -> None:
    await spec.work()  # a worker makes the limit known
    for number in range(5):
        await spec.adapter.schedule_job("ingest-source", {"source_id": str(number)})
    counts: list[int] = []
    for number in range(2):
        async with spec.adapter.database.connection() as conn:
            lease = Lease(new_id(), number)
            counts.append(len(await claim_limited(conn, spec.schema, lease, ["ingest-source"], 10)))
    assert counts == [2, 0]


async def test_failed_jobs_are_retried(spec: Rig) -> None:
    job = await spec.adapter.schedule_job("failing")
    assert await spec.work(2) == 2
    ended = await job.refresh()
    assert (ended.status, ended.attempt) == (JobStatus.FAILED, 2)
    assert (ended.error or {})["message"] == "attempt 2"
    assert await spec.events(job.id) == ["retry"]
