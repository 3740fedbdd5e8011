"""Reconciliation: every verdict, and what may be concluded from not finding a run."""

from datetime import timedelta
from typing import Any

import pytest

from adapter import JobSpec
from adapter.core.reconcile import ReconcileReport, Verdict
from adapter.domain.clock import SystemClock
from adapter.domain.identity import epoch_tag
from adapter.store import processes
from tests.fakes.clock import ManualClock
from tests.fakes.trigger_dev import FakeTriggerDev
from tests.rig import Rig, new_id, rigged


def found(report: ReconcileReport) -> dict[str, int]:
    return {verdict.value: n for verdict, n in report.verdicts.items() if n}


async def _later(rig: Rig, minutes: int = 11) -> None:
    """Let so much time pass since runs were first missed."""
    await rig.sql(
        "UPDATE {s}.remote_runs SET missing_since = missing_since - make_interval(mins => %(minutes)s)",
        minutes=minutes,
    )


async def test_in_sync_then_advanced_then_nothing_left(rig: Rig) -> None:
    job_id, run = await rig.sent()
    await rig.adapter.reconcile()
    assert found(await rig.adapter.reconcile()) == {"in_sync": 1}
    rig.fake.advance(1)
    rig.fake.start(run.id)
    assert found(await rig.adapter.reconcile()) == {"advanced": 1}
    assert await rig.status(job_id) == "EXECUTING"
    rig.fake.complete(run.id, 1)
    report = await rig.adapter.reconcile()
    assert (found(report), report.examined) == ({"advanced": 1}, 1)
    assert found(await rig.adapter.reconcile()) == {}


async def test_a_lost_run_is_given_up_after_two_looks_ten_minutes_apart(rig: Rig) -> None:
    job_id, run = await rig.sent(idempotency_key="k")
    rig.fake.lose(run.id)
    for _ in range(3):
        assert found(await rig.adapter.reconcile()) == {"unknown": 1}
    await _later(rig, 9)
    assert found(await rig.adapter.reconcile()) == {"unknown": 1}
    await _later(rig, 2)
    report = await rig.adapter.reconcile()
    assert (found(report), report.orphaned) == ({"orphaned": 1}, [job_id])
    row = await rig.row(job_id)
    assert (row["status"], row["orphaned"], row["error"]["name"]) == ("SYSTEM_FAILURE", True, "Orphaned")


async def test_a_run_that_is_seen_again_starts_the_count_anew(rig: Rig) -> None:
    job_id, run = await rig.sent()
    rig.fake.lose(run.id)
    await rig.adapter.reconcile()
    rig.fake.runs[run.id] = run
    await rig.adapter.reconcile()
    await _later(rig)
    rig.fake.lose(run.id)
    assert found(await rig.adapter.reconcile()) == {"unknown": 1}
    assert await rig.status(job_id) == "QUEUED"


async def test_a_row_that_changed_since_it_was_read_is_not_given_up(rig: Rig) -> None:
    job_id, run = await rig.sent()
    rig.fake.lose(run.id)
    await rig.adapter.reconcile()
    await _later(rig)
    executor: Any = rig.adapter.executors.by_name["trigger"]
    real = executor.retrieve

    async def retrieve(run_id: str) -> Any:
        await rig.set(job_id, "updated_at = now()")
        return await real(run_id)

    executor.retrieve = retrieve
    assert found(await rig.adapter.reconcile()) == {"unknown": 1}
    assert await rig.status(job_id) == "QUEUED"


async def test_lists_lag_and_prove_no_absence(database_url: str) -> None:
    fake = FakeTriggerDev(ManualClock(SystemClock().now()), lag=3600)
    async with rigged(database_url, fake=fake) as rig:
        job_id, run = await rig.sent()
        report = await rig.adapter.reconcile()
        assert report.retrieves == 1
        assert await rig.value("SELECT count(*) FROM {s}.remote_runs WHERE missing_since IS NOT NULL") == 0
        fake.start(run.id)
        fake.complete(run.id, 1)
        await rig.adapter.reconcile()
        assert await rig.status(job_id) == "COMPLETED"


async def test_unwanted_runs_are_canceled_until_that_is_confirmed(rig: Rig) -> None:
    job_id, run = await rig.sent()
    for _ in range(3):
        rig.fake.next_fault(500, on="cancel")
    asked = await rig.adapter.cancel_job(job_id)
    assert (asked.status, asked.cancel_requested, run.status) == ("QUEUED", True, "QUEUED")
    for _ in range(3):
        rig.fake.next_fault(500, on="cancel")
    assert found(await rig.adapter.reconcile()) == {"unknown": 1}
    assert found(await rig.adapter.reconcile()) == {"canceled_again": 1}
    assert (await rig.status(job_id), run.status) == ("CANCELED", "CANCELED")
    assert found(await rig.adapter.reconcile()) == {}


async def test_the_run_of_a_job_that_has_ended_is_canceled(rig: Rig) -> None:
    job_id, run = await rig.sent()
    other = rig.fake.make("remote", None, {}, [epoch_tag(job_id, 1)])
    await rig.adapter.applier.accepted(
        job_id, 1, "trigger", other.id, rig.adapter.executors.by_name["trigger"].environment
    )
    rig.fake.start(run.id)
    rig.fake.complete(run.id, 1)
    await rig.adapter.reconcile()
    await rig.adapter.reconcile()
    assert (await rig.status(job_id), other.status) == ("COMPLETED", "CANCELED")


async def test_an_unwanted_run_that_is_gone_is_let_go_after_the_same_patience(rig: Rig) -> None:
    job_id, _ = await rig.sent()
    await rig.adapter.applier.accepted(job_id, 1, "trigger", "run_gone", None)
    await rig.sql("UPDATE {s}.remote_runs SET environment = NULL WHERE run_id = 'run_gone'")
    assert found(await rig.adapter.reconcile())["canceled_again"] == 1
    await _later(rig)
    await rig.adapter.reconcile()
    row = (await rig.sql("SELECT final_status, ended_at FROM {s}.remote_runs WHERE run_id = 'run_gone'"))[0]
    assert (row["final_status"], row["ended_at"] is not None) == ("MISSING", True)


async def test_an_uncertain_submit_is_looked_up_by_its_tag(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    rig.fake.next_fault("timeout_after", on="trigger")
    await rig.dispatch(job.id)
    assert found(await rig.adapter.reconcile()) == {"redispatched": 1}
    row = await rig.row(job.id)
    assert (row["submit_state"], row["status"], row["remote_run_id"]) == (
        "accepted",
        "QUEUED",
        next(iter(rig.fake.runs)),
    )


async def test_an_uncertain_submit_that_is_not_found_stays_uncertain(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    rig.fake.next_fault("timeout_before", on="trigger")
    await rig.dispatch(job.id)
    assert found(await rig.adapter.reconcile()) == {"unknown": 1}
    row = await rig.row(job.id)
    assert (row["submit_state"], row["epoch"], row["status"]) == ("unknown", 1, "PENDING")


@pytest.fixture
async def many(rig: Rig) -> Rig:
    for n in range(12):
        await rig.sent("remote", n)
    rig.fake.runs.clear()
    return rig


async def test_too_many_lost_runs_stop_the_pass_and_ask_a_person(many: Rig) -> None:
    await many.adapter.reconcile()
    await _later(many)
    report = await many.adapter.reconcile()
    assert len(report.orphaned) == 10
    assert "10 runs are missing at trigger" in str(report.stopped)
    assert await many.value("SELECT count(*) FROM {s}.worker_jobs_open") == 2


async def test_a_dry_run_writes_nothing(many: Rig) -> None:
    kept, run = await many.sent()
    many.fake.advance(1)
    many.fake.start(run.id)
    await many.adapter.applier.accepted(kept, 1, "trigger", "run_stranger", None)
    await many.adapter.reconcile()
    await _later(many)
    await many.sql("UPDATE {s}.worker_jobs_open SET remote_status = 'QUEUED', status = 'QUEUED'")

    async def everything() -> Any:
        return [
            await many.sql("SELECT * FROM {s}.worker_jobs_open ORDER BY id"),
            await many.sql("SELECT * FROM {s}.worker_jobs_finished"),
            await many.sql("SELECT * FROM {s}.remote_runs ORDER BY run_id"),
            await many.sql("SELECT * FROM {s}.job_events ORDER BY id"),
        ]

    before = await everything()
    calls = len(many.fake.requests)
    report = await many.adapter.reconcile(dry_run=True)
    assert await everything() == before
    assert report.examined == 14
    assert report.verdicts[Verdict.ADVANCED] == 1
    assert {each.call for each in many.fake.requests[calls:]} <= {"list", "retrieve"}


async def test_runs_of_another_environment_are_not_asked_for(rig: Rig) -> None:
    job_id, run = await rig.sent()
    await rig.sql("UPDATE {s}.remote_runs SET environment = 'prod-of-before'")
    rig.fake.lose(run.id)
    calls = len(rig.fake.requests)
    assert found(await rig.adapter.reconcile()) == {"unknown": 1}
    assert len(rig.fake.requests) == calls
    assert await rig.status(job_id) == "QUEUED"


async def test_one_process_reconciles_at_a_time(rig: Rig) -> None:
    await rig.sent()
    async with rig.adapter.database.connection() as conn:
        assert await processes.take_lease(conn, rig.schema, "reconcile", new_id(), timedelta(minutes=1))
    report = await rig.adapter.reconcile()
    assert (report.examined, report.stopped) == (0, "another process is reconciling")


async def test_many_runs_are_asked_for_in_groups_by_tag_with_a_time_filter(rig: Rig) -> None:
    jobs = await rig.adapter.schedule_specs([JobSpec("remote", n) for n in range(130)])
    while await rig.dispatch():
        pass
    await rig.adapter.reconcile()
    calls = len(rig.fake.requests)
    report = await rig.adapter.reconcile()
    lists = [each for each in rig.fake.requests[calls:] if each.call == "list"]
    assert (found(report), report.list_calls, report.retrieves) == ({"in_sync": len(jobs)}, len(lists), 0)
    assert len(lists) <= 4
    for each in lists:
        assert "filter[createdAt][from]" in each.query
        assert len(each.query["filter[tag]"].split(",")) <= 100


async def test_progress_is_told(rig: Rig) -> None:
    for n in range(3):
        await rig.sent("remote", n)
    told: list[tuple[int, int]] = []
    await rig.adapter.reconcile(progress=lambda done, total: told.append((done, total)))
    assert told == [(3, 3)]


async def test_a_pass_that_was_just_made_is_enough_for_every_process(rig: Rig) -> None:
    assert (await rig.adapter.reconcile()).stopped is None
    report = await rig.adapter.reconciler.run_once(unless_done_within=60)
    assert "was completed" in (report.stopped or "")
    # Asked for by a person, it is made all the same.
    assert (await rig.adapter.reconcile()).stopped is None
