"""I8: the first route is on the row; every re-route, retry, rescue and repair is an event; the happy path has none."""

from datetime import timedelta
from typing import Any

import pytest

from adapter import Adapter, JobContext
from adapter.domain.errors import RetryJobError
from tests.rig import Rig, rigged, usual_tasks


async def _history(rig: Rig, job_id: Any) -> list[tuple[str, int, dict[str, Any] | None]]:
    return [(each.kind, each.epoch, each.detail) for each in await rig.adapter.job_events(job_id)]


async def test_the_happy_path_leaves_no_event_rows(rig: Rig) -> None:
    local = await rig.adapter.schedule_job("echo", 1)
    await rig.work()
    remote, run = await rig.sent()
    rig.fake.start(run.id)
    await rig.webhook("RUN_STARTED", run, attempt=1)
    rig.fake.advance(1)
    rig.fake.complete(run.id, 1)
    await rig.webhook("RUN_COMPLETED", run, attempt=1)
    await rig.adapter.inbox.run_once()
    await rig.adapter.inbox.confirm_once()
    for job_id in (local.id, remote):
        row = await rig.row(job_id)
        assert row["status"] == "COMPLETED"
        assert row["created_at"] <= row["started"] <= row["finished"]
        assert await rig.events(job_id) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "default"),
        ({"executor": "trigger"}, "call"),
        ({"executor": "internal"}, "call"),
    ],
)
async def test_the_first_route_is_explained_on_the_row(rig: Rig, options: Any, reason: str) -> None:
    job = await rig.adapter.schedule_job("both", **options)
    assert (await rig.row(job.id))["route_reason"] == reason


async def test_the_registry_and_rollouts_explain_themselves(rig: Rig) -> None:
    registry = await rig.adapter.schedule_job("remote")
    await rig.adapter.rollout("both", to="trigger", percent=100, reason="x")
    rolled = await rig.adapter.schedule_job("both", tag="a")
    listed = await rig.adapter.schedule_job("both", tag="b")
    assert registry.route_reason == "registry"
    assert str(rolled.route_reason).startswith("rollout 100% to trigger: bucket ")
    assert str(listed.route_reason).endswith(" by tag")


async def test_an_error_while_deciding_goes_to_the_safe_executor_and_says_so(rig: Rig) -> None:
    await rig.adapter.rollout("both", to="trigger", percent=50, by="tag", reason="x")
    await rig.sql("UPDATE {s}.executor_flags SET detail = '{\"when\": 5}'")
    rig.adapter._flags.forget()
    job = await rig.adapter.schedule_job("both")
    assert (job.executor, job.route_reason) == ("local", "error: AttributeError")


async def test_explaining_schedules_nothing(rig: Rig) -> None:
    found = await rig.adapter.explain("both", tag="x")
    assert (found.route.executor, [step.rule for step in found.steps]) == (
        "local",
        ["kill switch", "call", "rollout", "default"],
    )
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs") == 0


async def test_retries_and_rescues_and_returns_are_events(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        usual_tasks(adapter)

        @adapter.task("flaky")
        async def flaky(_payload: Any, ctx: JobContext) -> None:
            if ctx.attempt == 1:
                raise RetryJobError("later", delay=timedelta(seconds=9))

        del flaky

    async with rigged(database_url, declare) as rig:
        job = await rig.adapter.schedule_job("flaky")
        await rig.work()
        await rig.set(job.id, "due = now()")
        await rig.adapter.maintenance.run_once()
        lease, _ = await rig.claim()
        await rig.sql(
            "INSERT INTO {s}.workers (id, name, host, pid, lease, seen_at)"
            " VALUES (%(id)s, 'w', 'h', 1, '1 ms', now() - interval '1 h')",
            id=lease.worker_id,
        )
        await rig.bury_the_silent()
        await rig.work()
        assert await rig.status(job.id) == "COMPLETED"
        retried, rescued = await _history(rig, job.id)
        assert retried == ("retry", 1, {"error": "RetryJobError", "delay_s": 9.0})
        assert (rescued[0], rescued[2]) == ("rescued", {"worker": str(lease.worker_id), "attempt": 2})
        strange = await rig.adapter.schedule_job("remote", executor="local")
        await rig.set(strange.id, "status = 'QUEUED', waiting_for = NULL")
        await rig.work()
        assert [each[0] for each in await _history(rig, strange.id)] == ["returned"]


async def test_a_job_whose_worker_died_on_its_last_attempt_is_buried_with_an_event(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo", max_attempts=1)
    lease, _ = await rig.claim()
    await rig.sql(
        "INSERT INTO {s}.workers (id, name, host, pid, lease, seen_at)"
        " VALUES (%(id)s, 'w', 'h', 1, '1 ms', now() - interval '1 h')",
        id=lease.worker_id,
    )
    await rig.bury_the_silent()
    assert await rig.status(job.id) == "CRASHED"
    assert await _history(rig, job.id) == [("buried", 1, {"worker": str(lease.worker_id), "attempt": 1})]


async def test_reroutes_and_refusals_are_events_with_their_reason(rig: Rig) -> None:
    moved = await rig.adapter.schedule_job("both", executor="trigger")
    await rig.adapter.kill("both", reason="INC")
    await rig.dispatch()
    refused = await rig.adapter.schedule_job("remote")
    rig.fake.next_fault(422, on="trigger", content=b'{"error":"no such queue"}')
    await rig.dispatch(refused.id)
    assert await _history(rig, moved.id) == [
        ("rerouted", 2, {"from": "trigger", "to": "local", "reason": "kill switch: runtime, this task"})
    ]
    assert await _history(rig, refused.id) == [("rejected", 1, {"why": "HTTP 422: no such queue"})]
    row = await rig.row(refused.id)
    assert (row["status"], row["error"]["message"]) == ("FAILED", "HTTP 422: no such queue")


async def test_uncertain_submits_are_an_event_once_per_epoch(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    for _ in range(3):
        rig.fake.next_fault("timeout_before", on="trigger")
        await rig.dispatch(job.id)
        await rig.due_now(job.id)
    assert await rig.events(job.id) == ["submit_unknown"]


async def test_repairs_are_events(rig: Rig) -> None:
    expired, run = await rig.sent()
    rig.fake.expire(run.id)
    await rig.adapter.reconcile()
    lost, run = await rig.sent()
    rig.fake.lose(run.id)
    await rig.adapter.reconcile()
    await rig.sql(
        "UPDATE {s}.remote_runs SET missing_since = now() - interval '11 min' WHERE missing_since IS NOT NULL"
    )
    await rig.adapter.reconcile()
    assert await rig.events(expired) == ["redispatched"]
    assert await _history(rig, lost) == [("orphaned", 1, {"run": run.id})]


async def test_the_person_behind_a_change_is_named(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo")
    await rig.adapter.cancel_job(job.id, reason="wrong order", actor="ann")
    (event,) = await rig.adapter.job_events(job.id)
    assert (event.kind, event.actor, event.detail) == ("canceled", "ann", {"reason": "wrong order"})


async def test_duplicates_and_stale_events_are_counted_not_written(rig: Rig) -> None:
    job_id, run = await rig.sent()
    rig.fake.start(run.id)
    for n in range(3):
        await rig.webhook("RUN_STARTED", run, delivery=str(n), attempt=1)
    await rig.adapter.inbox.run_once()
    assert rig.adapter.observers.counts["report_duplicate"] == 2
    assert await rig.events(job_id) == []


async def test_an_event_is_written_with_its_change_or_not_at_all(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("both", executor="trigger")
    await rig.adapter.kill("both", reason="INC")
    await rig.sql("""
        CREATE FUNCTION {s}.no_events() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no events today'; END $$""")
    await rig.sql(
        "CREATE TRIGGER no_events BEFORE INSERT ON {s}.job_events FOR EACH ROW EXECUTE FUNCTION {s}.no_events()"
    )
    try:
        with pytest.raises(Exception, match="no events today"):
            await rig.dispatch()
        row = await rig.row(job.id)
        assert (row["executor"], row["epoch"]) == ("trigger", 1)
    finally:
        await rig.sql("DROP FUNCTION {s}.no_events CASCADE")
