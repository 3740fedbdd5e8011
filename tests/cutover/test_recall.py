"""Taking unstarted jobs back from a remote: what moves, what stays, and what is said about it."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from adapter.core.cutover.rollback import RollbackReport
from adapter.domain.errors import InvalidArgumentError, RecallConflictError, RecallNotFoundError
from adapter.domain.identity import epoch_tag
from adapter.domain.recall import Guarantee, RecallState
from tests.rig import Rig, new_id


async def back(rig: Rig, mode: Any = "recall-unstarted", **options: Any) -> RollbackReport:
    return await rig.adapter.rollback("both", mode=mode, reason="INC-7", actor="ann", **options)


async def there(rig: Rig, **options: Any) -> tuple[UUID, Any]:
    return await rig.sent("both", 1, executor="trigger", **options)


async def intents(rig: Rig) -> int:
    return await rig.value("SELECT count(*) FROM {s}.worker_jobs_open WHERE recall_id IS NOT NULL")


async def test_new_only_turns_the_switch_and_touches_nothing(rig: Rig) -> None:
    job_id, run = await there(rig)
    before = await rig.row(job_id)
    report = await back(rig, "new-only")
    assert (await rig.row(job_id), run.status, report.recall_id) == (before, "QUEUED", None)
    assert (await rig.adapter.explain("both", executor="trigger")).route.executor == "local"


async def test_an_unstarted_job_comes_back_and_runs_here(rig: Rig) -> None:
    job_id, run = await there(rig, tag="t", idempotency_key="k")
    report = await back(rig)
    row = await rig.row(job_id)
    assert run.status == "CANCELED"
    assert (row["status"], row["executor"], row["epoch"], row["attempt"]) == ("QUEUED", "local", 2, 0)
    assert (row["remote_run_id"], row["recall_id"], row["recall_to"], row["tag_held"]) == (
        None,
        None,
        None,
        True,
    )
    assert await rig.events(job_id) == ["recalled"]
    assert (report.state, report.outcomes, report.hit_running) == (RecallState.DONE, {"moved": 1}, [])
    assert report.calls == 3
    await rig.work()
    assert await rig.status(job_id) == "COMPLETED"
    runs = await rig.sql("SELECT ended_at, final_status FROM {s}.remote_runs")
    assert [(each["ended_at"] is not None, each["final_status"]) for each in runs] == [(True, "CANCELED")]


async def test_what_no_try_has_left_for_moves_without_a_call(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("both", 1, executor="trigger")
    later = await rig.adapter.schedule_job("both", 2, executor="trigger", delay=timedelta(hours=1))
    report = await back(rig)
    assert (await rig.status(job.id), await rig.status(later.id)) == ("QUEUED", "DELAYED")
    assert (report.outcomes, report.calls, rig.fake.requests) == ({"moved": 2}, 0, [])


async def test_a_started_job_stays_and_ends_there(rig: Rig) -> None:
    job_id, run = await there(rig)
    # Nobody has told us yet.
    rig.fake.start(run.id)
    report = await back(rig)
    assert (run.status, report.outcomes, await intents(rig)) == ("EXECUTING", {"started": 1}, 0)
    rig.fake.complete(run.id, 7)
    await rig.adapter.reconcile()
    row = await rig.row(job_id)
    assert (row["status"], row["epoch"], row["result"]) == ("COMPLETED", 1, 7)


async def test_a_job_that_is_known_to_run_is_not_even_looked_at(rig: Rig) -> None:
    _, run = await there(rig)
    rig.fake.start(run.id)
    await rig.adapter.reconcile()
    calls = len(rig.fake.requests)
    report = await back(rig)
    assert (report.outcomes, len(rig.fake.requests)) == ({}, calls)


async def test_new_jobs_go_to_the_target_from_then_on(rig: Rig) -> None:
    await back(rig)
    job = await rig.adapter.schedule_job("both", 1, executor="trigger")
    assert (await rig.row(job.id))["executor"] == "local"


async def test_an_uncertain_submit_that_never_arrived_is_proven_by_a_tombstone(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("both", 1, executor="trigger")
    rig.fake.next_fault("timeout_before", on="trigger")
    await rig.dispatch(job.id)
    assert (await rig.row(job.id))["submit_state"] == "unknown"
    report = await back(rig)
    row = await rig.row(job.id)
    assert (row["executor"], row["epoch"], report.outcomes) == ("local", 2, {"moved": 1})
    (tombstone,) = rig.fake.runs.values()
    assert (tombstone.tags, tombstone.status) == ((f"tombstone:{job.id}:1",), "CANCELED")


async def test_an_uncertain_submit_that_arrived_is_found_and_taken_back(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("both", 1, executor="trigger")
    rig.fake.next_fault("timeout_after", on="trigger")
    await rig.dispatch(job.id)
    report = await back(rig)
    assert report.outcomes == {"moved": 1}
    assert [run.status for run in rig.fake.runs_of(epoch_tag(job.id, 1))] == ["CANCELED"]
    assert (await rig.row(job.id))["executor"] == "local"


async def test_an_uncertain_submit_too_old_for_proof_stays_and_is_named(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("both", 1, executor="trigger")
    rig.fake.next_fault("timeout_before", on="trigger")
    await rig.dispatch(job.id)
    await rig.set(job.id, "first_try_at = now() - interval '21 hours'")
    report = await back(rig)
    assert (report.outcomes, report.left, await intents(rig)) == ({"left": 1}, [job.id], 0)
    assert (await rig.row(job.id))["epoch"] == 1


async def test_a_run_in_another_environment_stays(rig: Rig) -> None:
    job_id, _ = await there(rig)
    await rig.set(job_id, "remote_environment = 'prod-of-before'")
    calls = len(rig.fake.requests)
    assert (await back(rig)).left == [job_id]
    assert len(rig.fake.requests) == calls


async def test_a_dry_run_counts_promises_and_writes_nothing(rig: Rig) -> None:
    job_id, _ = await there(rig)
    await rig.adapter.schedule_job("both", 2, executor="trigger")
    before, calls = await rig.row(job_id), len(rig.fake.requests)
    report = await back(rig, dry_run=True)
    (promise,) = report.promises
    assert (promise.guarantee, promise.jobs.accepted, promise.jobs.unsent) == (Guarantee.BEST_EFFORT, 1, 1)
    assert "ends as CANCELED" in promise.says
    assert (await rig.row(job_id), len(rig.fake.requests), await rig.adapter.recalls()) == (before, calls, [])
    assert (await rig.adapter.flags()).kill_runtime == {}


async def test_recall_all_takes_only_idempotent_tasks(rig: Rig) -> None:
    with pytest.raises(InvalidArgumentError, match="both must say idempotent=True"):
        await back(rig, "recall-all")
    assert (await rig.adapter.flags()).kill_runtime == {}


async def test_a_task_that_cannot_run_at_the_target_is_refused(rig: Rig) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot run at 'local'"):
        await rig.adapter.rollback("remote", mode="recall-unstarted", reason="r")


async def test_every_task_takes_what_can_run_and_names_the_rest(rig: Rig) -> None:
    job_id, _ = await there(rig)
    other, run = await rig.sent("remote", 2)
    report = await rig.adapter.rollback("*", mode="recall-unstarted", reason="r")
    assert set(report.skipped) == {"remote", "idempotent"}
    assert ((await rig.row(job_id))["executor"], (await rig.row(other))["executor"]) == ("local", "trigger")
    assert run.status == "QUEUED"


async def test_a_reason_is_needed_and_the_mode_is_one_of_three(rig: Rig) -> None:
    with pytest.raises(InvalidArgumentError, match="needs a reason"):
        await rig.adapter.rollback("both", reason=" ")
    with pytest.raises(InvalidArgumentError, match="not 'all'"):
        await back(rig, "all")


async def test_a_second_recall_of_the_task_finds_the_first_or_is_refused(rig: Rig) -> None:
    await there(rig)
    rig.fake.next_fault(500, on="retrieve")
    for _ in range(8):
        rig.fake.next_fault(500, on="retrieve")
    report = await back(rig, timeout=timedelta(0))
    assert report.state is RecallState.RUNNING
    assert report.eta_seconds is None
    with pytest.raises(RecallConflictError, match=str(report.recall_id)):
        await rig.adapter.rollback("both", mode="recall-unstarted", to="trigger", reason="r")
    rig.fake._faults.clear()
    await rig.sql("UPDATE {s}.recall_jobs SET next_at = now()")
    again = await back(rig)
    assert (again.recall_id, again.state, again.outcomes) == (
        report.recall_id,
        RecallState.DONE,
        {"moved": 1},
    )
    assert len(await rig.adapter.recalls()) == 1


async def test_an_unknown_recall_is_said_to_be_unknown(rig: Rig) -> None:
    with pytest.raises(RecallNotFoundError):
        await rig.adapter.resume_recall(new_id())
