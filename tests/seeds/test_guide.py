"""What the Trigger.dev integration guide shows, line by line, and what it is here."""

import hashlib
import hmac
import json
import logging
import threading
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg.rows import DictRow, dict_row
from pydantic import SecretStr

from adapter import Adapter, JobCanceledError, JobContext, JobFilter, Settings
from adapter.domain.errors import InvalidArgumentError, TaskDefinitionError, UnknownExecutorError
from adapter.store import retention
from adapter.web.app import create_app
from tests import kit
from tests.rig import Rig, rigged

SECRET = "whsec_xxxxx"
#: The guide's registry, as it stands there.
JOB_REGISTRY: dict[str, dict[str, Any]] = {
    "removeOldWorkerJobs": {
        "executor": "internal",
        "workerJobType": "removeOldWorkerJobs",
        "description": "Clean up old completed jobs",
    },
    "watchChain": {
        "executor": "internal",
        "workerJobType": "watchChain",
        "description": "Monitor blockchain for events",
    },
    "processLargeDataset": {
        "executor": "trigger",
        "triggerTaskId": "process-large-dataset",
        "description": "Process large dataset with heavy computation",
        "retryConfig": {"maxAttempts": 3, "minTimeoutInMs": 1000, "maxTimeoutInMs": 10000, "factor": 2},
    },
    "dailyReportGeneration": {
        "executor": "trigger",
        "triggerTaskId": "daily-report-generation",
        "description": "Generate daily analytics report",
    },
    "reliableEmailSender": {
        "executor": "trigger",
        "triggerTaskId": "reliable-email-sender",
        "description": "Send emails with automatic retries",
        "retryConfig": {"maxAttempts": 5, "minTimeoutInMs": 2000, "maxTimeoutInMs": 60000, "factor": 2},
    },
}


async def clean_up(_payload: Any) -> str:
    return "cleaned"


async def watch_chain(_payload: Any) -> str:
    return "watched"


def guide_tasks(adapter: Adapter) -> None:
    adapter.declare(
        JOB_REGISTRY
        | {
            "test-task": {"executor": "trigger", "triggerTaskId": "process-large-dataset"},
            "cancellable-task": {"executor": "trigger", "triggerTaskId": "cancellable-task"},
        },
        handlers={"removeOldWorkerJobs": clean_up, "watchChain": watch_chain},
    )


@pytest.fixture
async def guide(database_url: str) -> AsyncIterator[Rig]:
    """The guide's application. A call waits for the remote's answer, as the guide's does."""
    secrets = (SecretStr(SECRET),)
    async with rigged(database_url, guide_tasks, dispatch_wait_seconds=5, webhook_secrets=secrets) as made:
        yield made


# ---- environment ---------------------------------------------------------------------------------


def test_the_four_variables_are_read_under_exactly_the_guides_names() -> None:
    settings = Settings.from_env(
        {
            "TRIGGER_SECRET_KEY": "tr_dev_0123456789",
            "TRIGGER_PROJECT_REF": "proj_1",
            "TRIGGER_WEBHOOK_SECRET": "whsec_1",
            "TRIGGER_API_URL": "https://trigger.example.com",
        }
    )
    assert settings.trigger_secret_key == SecretStr("tr_dev_0123456789")
    assert settings.trigger_project_ref == "proj_1"
    assert settings.webhook_secrets == (SecretStr("whsec_1"),)
    assert settings.trigger_api_url == "https://trigger.example.com"
    assert Settings.from_env({}).trigger_api_url == "https://api.trigger.dev"


@pytest.mark.parametrize("key", ["tr_placeholder", "tr_dev_xxxxx", None])
async def test_a_missing_or_placeholder_key_disables_the_executor_with_one_warning(
    database_url: str, caplog: pytest.LogCaptureFixture, key: str | None
) -> None:
    environment = {"DATABASE_URL": database_url} | ({"TRIGGER_SECRET_KEY": key} if key else {})
    adapter = Adapter.from_env(environment)
    adapter.task("both", remote_id={"trigger": "both"})(clean_up)
    async with adapter:
        assert "trigger" not in adapter.executors
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "trigger" in warnings[0].getMessage()
    assert "xxxxx" not in caplog.text


async def test_boot_stops_only_if_a_task_needs_the_disabled_executor_by_default(database_url: str) -> None:
    adapter = Adapter.from_env({"DATABASE_URL": database_url, "TRIGGER_SECRET_KEY": "tr_placeholder"})
    adapter.remote_task("needs-it", executor="trigger")
    with pytest.raises(UnknownExecutorError, match="needs-it"):
        await adapter.open()


# ---- the registry --------------------------------------------------------------------------------


async def test_the_whole_registry_can_be_one_mapping_of_the_guides_shape(guide: Rig) -> None:
    policies = {each.id: each.policy for each in guide.adapter.registry}
    assert set(JOB_REGISTRY) <= set(policies)
    heavy = policies["processLargeDataset"]
    assert (heavy.executor, heavy.remote_ids) == ("trigger", {"trigger": "process-large-dataset"})
    assert heavy.description == "Process large dataset with heavy computation"
    assert (heavy.retry.max_attempts, heavy.retry.max_timeout_in_ms) == (3, 10_000)
    assert (policies["watchChain"].executor, policies["watchChain"].runs_locally) == ("local", True)
    job = await guide.adapter.schedule_job(
        "processLargeDataset", {"datasetId": "1"}, tag="process-1", user_id=1
    )
    run = guide.fake.runs[job.remote_run_id or ""]
    assert (run.task, run.payload, run.max_attempts) == ("process-large-dataset", {"datasetId": "1"}, 3)


def test_worker_job_type_names_the_local_task_and_a_trigger_id_defaults_to_it() -> None:
    adapter = Adapter()
    definitions = {
        "cleanUp": {"executor": "internal", "workerJobType": "removeOldWorkerJobs"},
        "report": {"executor": "trigger", "description": "no id of its own"},
    }
    tasks = adapter.declare(definitions, handlers={"removeOldWorkerJobs": clean_up})
    assert [task.id for task in tasks] == ["removeOldWorkerJobs", "report"]
    assert tasks[1].definition.policy.remote_ids == {"trigger": "report"}


def test_an_unknown_key_or_a_bad_retry_config_of_the_registry_is_refused() -> None:
    with pytest.raises(TaskDefinitionError, match="triggerTaskID"):
        Adapter().declare({"a": {"executor": "trigger", "triggerTaskID": "x"}})
    with pytest.raises(TaskDefinitionError, match="maxAttempts"):
        Adapter().declare({"a": {"executor": "internal", "retryConfig": {"maxAttempts": 0}}})


# ---- `internal` ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variables",
    [{"ADAPTER_EXECUTOR": "internal"}, {"ADAPTER_EXECUTOR__PROCESS_LARGE_DATASET": "internal"}],
)
async def test_internal_is_an_alias_of_local_in_the_environment(
    database_url: str, variables: dict[str, str]
) -> None:
    switches = Settings.from_env(variables).kill_switches
    async with rigged(database_url, guide_tasks, kill_switches=switches) as rig:
        route = (await rig.adapter.explain("processLargeDataset")).route
        assert (route.executor, route.reason.startswith("kill switch: environment")) == ("local", True)


async def test_internal_is_an_alias_of_local_in_the_api(guide: Rig) -> None:
    adapter = guide.adapter
    job = await adapter.schedule_job("watchChain", executor="internal")
    assert (job.executor, job.route_reason) == ("local", "call")
    await adapter.kill("reliableEmailSender", to="internal", reason="test")
    assert (await adapter.explain("reliableEmailSender")).route.executor == "local"
    assert (await adapter.explain("watchChain", executor="internal")).route.executor == "local"
    listed = await adapter.list_jobs(JobFilter(executors=("internal",)))
    assert [each.id for each in listed.jobs] == [job.id]


def test_internal_is_an_alias_of_local_in_the_registry() -> None:
    adapter = Adapter()
    adapter.task("a", executor="internal")(clean_up)
    assert adapter.registry.get("a").policy.executor == "local"


# ---- scheduling ----------------------------------------------------------------------------------


async def test_the_guides_first_call_with_due_and_retry_config(guide: Rig) -> None:
    due = guide.adapter.clock.now() + timedelta(milliseconds=60_000)
    job = await guide.adapter.schedule_job(
        "processLargeDataset",
        {"datasetId": "123", "userId": 1},
        tag="process-dataset-123",
        user_id=1,
        executor="trigger",
        due=due,
        retry={"maxAttempts": 3, "minTimeoutInMs": 1000, "maxTimeoutInMs": 10000, "factor": 2},
    )
    # Held here until it is due, so there is no run yet.
    assert (job.status, job.remote_run_id, job.job.due) == ("DELAYED", None, due)
    assert (job.job.user_id, job.job.tag, job.job.max_attempts) == ("1", "process-dataset-123", 3)


async def test_retry_config_randomize_keeps_a_thundering_herd_apart(guide: Rig) -> None:
    critical = {"maxAttempts": 5, "minTimeoutInMs": 2000, "maxTimeoutInMs": 60000, "factor": 2}
    job = await guide.adapter.schedule_job("watchChain", retry=critical | {"randomize": False})
    assert job.job.retry is not None
    assert job.job.retry["randomize"] is False
    with pytest.raises(ValueError, match="maxAttempts"):
        await guide.adapter.schedule_job("watchChain", retry={"maxAttempts": 0})


async def test_metadata_tags_and_the_system_user(guide: Rig) -> None:
    metadata = {"userId": "7", "department": "sales", "priority": "high"}
    tags = ["sales", "priority-high"]
    job = await guide.adapter.schedule_job("reliableEmailSender", {}, user_id=0, metadata=metadata, tags=tags)
    assert (job.job.user_id, job.job.metadata, job.job.tags) == ("0", metadata, tuple(tags))
    run = guide.fake.runs[job.remote_run_id or ""]
    assert set(tags) < set(run.tags)
    assert run.options["metadata"] == metadata
    found = await guide.adapter.list_jobs(JobFilter(tags=("sales",), user_id="0"))
    assert [each.id for each in found.jobs] == [job.id]


async def test_a_naive_due_is_an_error(guide: Rig) -> None:
    with pytest.raises(InvalidArgumentError, match="time zone"):
        await guide.adapter.schedule_job("watchChain", due=datetime(2030, 1, 1))  # noqa: DTZ001 - the point


async def test_only_one_job_per_tag_can_be_pending_at_a_time(guide: Rig) -> None:
    adapter = guide.adapter
    first = await adapter.schedule_job("watchChain", {"n": 1}, tag="user-1-report")
    second = await adapter.schedule_job("watchChain", {"n": 2}, tag="user-1-report")
    assert (second.id, second.deduplicated, first.deduplicated) == (first.id, True, False)
    # Another task's tag is another tag, and labels never deduplicate.
    other = await adapter.schedule_job("removeOldWorkerJobs", {}, tag="user-1-report", tags=["x"])
    third = await adapter.schedule_job("removeOldWorkerJobs", {}, tags=["x"])
    assert len({first.id, other.id, third.id}) == 3
    # Once it has started, the next one may be scheduled.
    await guide.claim()
    again = await adapter.schedule_job("watchChain", {"n": 3}, tag="user-1-report")
    assert not again.deduplicated


async def test_persistent_jobs_stay_and_remove_delay_is_keep_for(guide: Rig) -> None:
    adapter = guide.adapter
    usual = await adapter.schedule_job("watchChain")
    forever = await adapter.schedule_job("watchChain", persistent=True)
    month = await adapter.schedule_job("watchChain", persistent=True, keep_for=timedelta(days=30))
    assert await guide.work() == 3
    kept: dict[UUID, timedelta | None] = {}
    for job in (usual, forever, month):
        row = await guide.row(job.id)
        kept[job.id] = row["remove_at"] and row["remove_at"] - row["finished"]
    assert kept == {usual.id: timedelta(days=7), forever.id: None, month.id: timedelta(days=30)}


async def test_remove_old_worker_jobs_is_built_in_retention(guide: Rig) -> None:
    job = await guide.adapter.schedule_job("watchChain", keep_for=timedelta(days=60))
    kept = await guide.adapter.schedule_job("watchChain", persistent=True)
    await guide.work()
    await guide.sql(
        "UPDATE {s}.worker_jobs_finished SET remove_at = now() - interval '1 second' WHERE id = %(id)s",
        id=job.id,
    )
    async with guide.adapter.database.connection() as conn:
        await retention.upkeep(conn, guide.schema)
    assert await guide.adapter.get_job(job.id) is None
    assert await guide.adapter.get_job(kept.id) is not None


# ---- the two integration tests -------------------------------------------------------------------


async def test_should_schedule_and_track_job(guide: Rig) -> None:
    job = await guide.adapter.schedule_job(
        "test-task", {"test": True}, tag="test-job-1", user_id=1, executor="trigger"
    )

    assert job.executor == "trigger"
    assert job.remote_run_id is not None
    assert job.job.remote_status == "PENDING"

    # "Wait for completion (or use webhook in real tests)".
    run = guide.fake.runs[job.remote_run_id]
    guide.fake.start(run.id)
    guide.fake.complete(run.id, {"ok": True})
    await guide.webhook("RUN_COMPLETED", run)
    await guide.adapter.inbox.run_once()
    await guide.adapter.inbox.confirm_once()

    updated = await guide.adapter.get_job(job.id)
    assert updated is not None
    assert updated.finished is not None
    assert (updated.success, updated.result) == (True, {"ok": True})


async def test_should_cancel_job(guide: Rig) -> None:
    job = await guide.adapter.schedule_job(
        "cancellable-task", {"iterations": 100}, tag="test-job-2", user_id=1, executor="trigger"
    )

    # Cancel immediately.
    await guide.adapter.cancel_job(job.id)

    canceled = await guide.adapter.get_job(job.id)
    assert canceled is not None
    assert canceled.cancel_requested is True
    assert canceled.remote_status == "CANCELED"
    # "Prevent any further execution."
    assert guide.fake.start(job.remote_run_id or "") is False


async def test_the_same_fields_under_the_guides_column_names(guide: Rig) -> None:
    job = await guide.adapter.schedule_job("test-task", {}, executor="trigger")
    await guide.adapter.cancel_job(job.id)
    (row,) = await guide.sql(
        "SELECT executor, trigger_run_id, trigger_attempt_id, trigger_status, trigger_schedule_id, "
        "cancel_requested, last_synced_at FROM {s}.worker_jobs WHERE id = %(id)s",
        id=job.id,
    )
    assert (row["executor"], row["trigger_run_id"], row["trigger_status"]) == (
        "trigger",
        job.remote_run_id,
        "CANCELED",
    )
    assert row["cancel_requested"] is True


# ---- monitoring ----------------------------------------------------------------------------------

ACTIVE = """
-- All active Trigger.dev jobs
SELECT
  id,
  type,
  trigger_status,
  started,
  finished,
  success,
  trigger_run_id
FROM worker_jobs
WHERE executor = 'trigger'
  AND finished IS NULL
ORDER BY created_at DESC;
"""
FAILED = """
-- Failed jobs in last 24 hours
SELECT
  id,
  type,
  result,
  created_at
FROM worker_jobs
WHERE executor = 'trigger'
  AND success = false
  AND created_at > NOW() - INTERVAL '24 hours'
ORDER BY created_at DESC;
"""
WITHOUT_RUN = """
-- Jobs waiting for reconciliation (no run ID yet)
SELECT id, type, created_at
FROM worker_jobs
WHERE executor = 'trigger'
  AND trigger_run_id IS NULL
  AND finished IS NULL;
"""


async def test_the_three_monitoring_queries_run_word_for_word(guide: Rig, database_url: str) -> None:
    adapter = guide.adapter
    running = await adapter.schedule_job("test-task", {}, executor="trigger")
    guide.fake.start(running.remote_run_id or "")
    failed = await adapter.schedule_job("test-task", {}, executor="trigger")
    guide.fake.start(failed.remote_run_id or "")
    guide.fake.fail(failed.remote_run_id or "", {"name": "Error", "message": "no such dataset"})
    await adapter.reconcile()
    guide.fake.next_fault("connect_error", on="trigger")
    guide.fake.next_fault("connect_error", on="trigger")
    guide.fake.next_fault("connect_error", on="trigger")
    waiting = await adapter.schedule_job("test-task", {}, executor="trigger")
    here = await adapter.schedule_job("watchChain")

    with psycopg.Connection[DictRow].connect(
        database_url, options=f"-c search_path={kit.SCHEMA}", row_factory=dict_row, autocommit=True
    ) as conn:
        active = conn.execute(ACTIVE).fetchall()
        (dead,) = conn.execute(FAILED).fetchall()
        (without_run,) = conn.execute(WITHOUT_RUN).fetchall()
    assert [row["id"] for row in active] == [waiting.id, running.id]
    assert (active[1]["trigger_status"], active[1]["trigger_run_id"]) == ("EXECUTING", running.remote_run_id)
    assert dead["id"] == failed.id
    # The result shows the error when success is false.
    assert dead["result"]["message"] == "no such dataset"
    assert without_run["id"] == waiting.id
    assert here.executor == "local"


# ---- webhooks ------------------------------------------------------------------------------------


@pytest.fixture
async def http(guide: Rig) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(guide.adapter, owns_adapter=False)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="https://your-domain.test") as made:
        yield made


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ("RUN_STARTED", "EXECUTING"),
        ("RUN_COMPLETED", "COMPLETED"),
        ("RUN_FAILED", "FAILED"),
        ("RUN_CANCELED", "CANCELED"),
    ],
)
async def test_the_webhook_answers_success_true_and_brings_the_job_forward(
    guide: Rig, http: httpx.AsyncClient, event: str, status: str
) -> None:
    job = await guide.adapter.schedule_job("test-task", {}, executor="trigger")
    run_id = job.remote_run_id or ""
    if event == "RUN_CANCELED":
        executor = guide.adapter.executors.get("trigger")
        assert executor is not None
        await executor.cancel(run_id)
    else:
        guide.fake.start(run_id)
    if event == "RUN_COMPLETED":
        guide.fake.complete(run_id)
    if event == "RUN_FAILED":
        guide.fake.fail(run_id)
    body = json.dumps({"type": event, "run": {"id": run_id, "status": status}}).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    reply = await http.post("/api/trigger/webhook", content=body, headers={"trigger-signature": signature})
    assert (reply.status_code, reply.json()) == (200, {"success": True})
    await guide.adapter.inbox.run_once()
    await guide.adapter.inbox.confirm_once()
    assert await guide.status(job.id) == status


@pytest.mark.parametrize("signature", [None, "", "0" * 64, "sha256=abc"])
async def test_a_bad_signature_is_a_401_where_the_guide_answers_200(
    guide: Rig, http: httpx.AsyncClient, signature: str | None
) -> None:
    headers = {} if signature is None else {"trigger-signature": signature}
    reply = await http.post("/api/trigger/webhook", content=b'{"type":"RUN_STARTED"}', headers=headers)
    assert (reply.status_code, reply.json()) == (401, {"error": "Invalid signature"})
    assert await guide.value("SELECT count(*) FROM {s}.webhook_inbox") == 0


# ---- reconciliation ------------------------------------------------------------------------------


async def test_the_report_names_orphaned_jobs(guide: Rig) -> None:
    job = await guide.adapter.schedule_job("test-task", {}, executor="trigger")
    guide.fake.lose(job.remote_run_id or "")
    assert (await guide.adapter.reconcile()).orphaned == []
    await guide.sql("UPDATE {s}.remote_runs SET missing_since = now() - interval '11 minutes'")
    report = await guide.adapter.reconcile()
    assert report.orphaned == [job.id]
    assert await guide.status(job.id) == "SYSTEM_FAILURE"


async def test_reconciliation_logs_start_found_and_complete(
    guide: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await guide.adapter.schedule_job("test-task", {}, executor="trigger")
    with caplog.at_level(logging.INFO, logger="adapter.reconcile"):
        await guide.adapter.reconcile()
    lines = [record.getMessage() for record in caplog.records if record.name == "adapter.reconcile"]
    assert lines[:2] == ["starting reconciliation", "found 1 unfinished jobs at trigger"]
    assert lines[-1].startswith("reconciliation complete: ")


async def test_unfinished_jobs_are_reconciled_on_start_and_every_five_minutes(database_url: str) -> None:
    assert Settings.from_env({}).reconcile_seconds == 300
    async with rigged(database_url, guide_tasks, dispatch_wait_seconds=5) as rig:
        job = await rig.adapter.schedule_job("test-task", {}, executor="trigger")
        rig.fake.start(job.remote_run_id or "")
        rig.fake.complete(job.remote_run_id or "", 1)
        # The server restarts: its background loops begin, and nobody sends a webhook.
        async with rig.adapter.running():
            assert await job.result(timeout=timedelta(seconds=10)) == 1


# ---- inside a task -------------------------------------------------------------------------------


async def test_ctx_is_canceled_ends_a_handler_that_looks(database_url: str) -> None:
    begun, seen = threading.Event(), threading.Event()

    def items(_payload: Any, ctx: JobContext) -> None:
        begun.set()
        while not ctx.is_canceled:
            threading.Event().wait(0.01)
        seen.set()

    def declare(adapter: Adapter) -> None:
        adapter.task("my-task")(items)

    async with rigged(database_url, declare) as rig, rig.adapter.running(work=True):
        job = await rig.adapter.schedule_job("my-task")
        await kit.eventually(begun.is_set)
        await job.cancel(reason="user asked")
        with pytest.raises(JobCanceledError):
            await job.result(timeout=timedelta(seconds=10))
        await kit.eventually(seen.is_set)
