"""I2: at most one executor runs a job; it moves only when the old run is known never to have started."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from adapter import Adapter, JobStatus
from adapter.domain.errors import JobStateError
from adapter.domain.outcome import Applied, Authority, RemoteReport
from adapter.store import endings
from tests.rig import Rig, new_id, rigged, usual_tasks


def submits(rig: Rig) -> int:
    return sum(each.call == "trigger" for each in rig.fake.requests)


async def test_eight_claimers_at_once_share_the_jobs_without_overlap(rig: Rig) -> None:
    made = [await rig.adapter.schedule_job("echo", n) for n in range(60)]
    taken = await asyncio.gather(*(rig.claim(queue="default") for _ in range(8)))
    ids = [job.id for _, jobs in taken for job in jobs]
    assert sorted(ids) == sorted(job.id for job in made)


async def test_two_dispatchers_at_once_submit_a_job_once(database_url: str) -> None:
    async with rigged(database_url) as one, rigged(database_url, fake=one.fake) as two:
        jobs = [await one.adapter.schedule_job("remote", n) for n in range(10)]
        await asyncio.gather(one.dispatch(), two.dispatch(), one.dispatch(), two.dispatch())
        assert submits(one) == len(jobs)
        assert [await one.status(job.id) for job in jobs] == ["QUEUED"] * 10


async def test_a_row_in_the_hands_of_a_dispatcher_is_not_taken_by_another(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    await rig.set(
        job.id,
        "submit_state = 'trying', dispatch_lease = gen_random_uuid(), dispatch_lease_until = now() + interval '1 min'",
    )
    assert await rig.dispatch() == 0
    assert submits(rig) == 0


async def test_a_kill_switch_moves_only_what_no_try_has_left_for(rig: Rig) -> None:
    jobs = {
        state: await rig.adapter.schedule_job("both", executor="trigger")
        for state in ("never", "trying", "unknown", "accepted")
    }
    lease = "dispatch_lease = gen_random_uuid(), dispatch_lease_until = now() + interval '1 min'"
    await rig.set(jobs["trying"].id, f"submit_state = 'trying', {lease}")
    await rig.set(jobs["unknown"].id, "submit_state = 'unknown', next_try_at = now() + interval '1 h'")
    await rig.set(
        jobs["accepted"].id, "submit_state = 'accepted', status = 'QUEUED', remote_run_id = 'run_1'"
    )
    await rig.adapter.kill(reason="INC-1")
    await rig.dispatch()
    rows = {state: await rig.row(job.id) for state, job in jobs.items()}
    assert {state: (row["executor"], row["epoch"]) for state, row in rows.items()} == {
        "never": ("local", 2),
        "trying": ("trigger", 1),
        "unknown": ("trigger", 1),
        "accepted": ("trigger", 1),
    }
    assert rows["never"]["status"] == "QUEUED"
    assert submits(rig) == 0


async def test_a_delayed_remote_job_stays_delayed_when_it_is_rerouted(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        usual_tasks(adapter)

        @adapter.task("holds", remote_id={"trigger": "holds"}, remote_delay=True)
        async def holds(payload: Any) -> Any:
            return payload

        del holds

    async with rigged(database_url, declare) as rig:
        for task in ("both", "holds"):
            job = await rig.adapter.schedule_job(task, executor="trigger", delay=timedelta(hours=1))
            assert job.status == ("DELAYED" if task == "both" else "PENDING")
            await rig.adapter.kill(task, reason="INC-1")
            await rig.dispatch(job.id)
            row = await rig.row(job.id)
            assert (row["executor"], row["status"], row["epoch"]) == ("local", "DELAYED", 2), task


async def test_a_refusal_moves_a_job_only_when_it_was_the_first_try(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        @adapter.task("picky", executor="trigger", on_rejected="local")
        async def picky(payload: Any) -> Any:
            return payload

        del picky

    async with rigged(database_url, declare) as rig:
        first = await rig.adapter.schedule_job("picky")
        rig.fake.next_fault(422, on="trigger")
        await rig.dispatch(first.id)
        row = await rig.row(first.id)
        assert (row["executor"], row["epoch"], row["status"]) == ("local", 2, "QUEUED")
        later = await rig.adapter.schedule_job("picky")
        rig.fake.next_fault("timeout_after", on="trigger")
        await rig.dispatch(later.id)
        await rig.due_now(later.id)
        rig.fake.next_fault(422, on="trigger")
        await rig.dispatch(later.id)
        row = await rig.row(later.id)
        assert (row["executor"], row["epoch"], row["submit_state"]) == ("trigger", 1, "unknown")


async def test_what_expired_there_unstarted_is_submitted_anew(rig: Rig) -> None:
    job_id, run = await rig.sent()
    rig.fake.expire(run.id)
    await rig.adapter.reconcile()
    row = await rig.row(job_id)
    assert (row["status"], row["epoch"], row["submit_state"], row["remote_run_id"]) == (
        "PENDING",
        2,
        "never",
        None,
    )
    await rig.dispatch(job_id)
    assert len(rig.fake.runs) == 2
    assert (await rig.row(job_id))["remote_run_id"] != run.id


async def test_what_expired_there_after_it_started_ends(rig: Rig) -> None:
    job_id, run = await rig.sent()
    await rig.set(job_id, "started = now()")
    rig.fake.expire(run.id)
    await rig.adapter.reconcile()
    assert await rig.status(job_id) == "EXPIRED"


async def test_what_expired_there_although_somebody_wants_it_canceled_ends(rig: Rig) -> None:
    job_id, run = await rig.sent()
    await rig.set(job_id, "cancel_requested = true")
    rig.fake.expire(run.id)
    await rig.adapter.reconcile()
    assert await rig.status(job_id) == "EXPIRED"


async def test_a_second_run_of_an_epoch_is_canceled_and_never_applied(rig: Rig) -> None:
    job_id, run = await rig.sent()
    other = rig.fake.make("remote", None, {}, [f"job:{job_id}:1"])
    await rig.adapter.applier.accepted(job_id, 1, "trigger", other.id, None)
    rows = await rig.sql("SELECT run_id, role, wanted FROM {s}.remote_runs ORDER BY role")
    assert [(row["run_id"], row["role"], row["wanted"]) for row in rows] == [
        (run.id, "bound", None),
        (other.id, "duplicate", "canceled"),
    ]
    assert await rig.events(job_id) == ["duplicate_run"]
    report = RemoteReport(
        run_id=other.id, status=JobStatus.COMPLETED, remote_status="COMPLETED", authority=Authority.ENGINE
    )
    assert await rig.adapter.applier.apply(job_id, 1, "trigger", report) is Applied.STALE
    assert (await rig.row(job_id))["remote_run_id"] == run.id
    await rig.sql("UPDATE {s}.remote_runs SET ended_at = NULL")
    await rig.adapter.reconcile()
    assert other.status == "CANCELED"
    assert run.status == "QUEUED"


async def test_the_start_fence_lets_one_run_of_the_open_epoch_in_as_often_as_it_asks(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    claim = rig.adapter.claim_start
    assert (await claim(job.id, 1, "run_a", 1)).claimed
    assert (await claim(job.id, 1, "run_a", 1)).claimed
    assert (await claim(job.id, 1, "run_a", 2)).claimed
    refused = await claim(job.id, 1, "run_b", 1)
    assert (refused.claimed, refused.reason) == (False, "another run has the job")
    row = await rig.row(job.id)
    assert (row["status"], row["remote_run_id"], row["attempt"]) == ("EXECUTING", "run_a", 2)
    assert rig.adapter.observers.counts["start_refused"] == 1


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("cancel_requested = true", "the job is being canceled or recalled"),
        ("recall_id = gen_random_uuid(), recall_to = 'local'", "the job is being canceled or recalled"),
        ("epoch = 2", "the job has moved on to epoch 2"),
        ("executor = 'local', status = 'QUEUED'", "the job is being canceled or recalled"),
    ],
)
async def test_the_start_fence_refuses(rig: Rig, state: Any, reason: str) -> None:
    job = await rig.adapter.schedule_job("remote")
    await rig.set(job.id, state)
    before = await rig.row(job.id)
    answer = await rig.adapter.claim_start(job.id, 1, "run_a", 1)
    assert (answer.claimed, answer.reason) == (False, reason)
    assert await rig.row(job.id) == before


async def test_the_start_fence_refuses_what_has_ended_and_what_never_was(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    await rig.adapter.cancel_job(job.id)
    assert (await rig.adapter.claim_start(job.id, 1, "run_a", 1)).reason == "the job has ended: CANCELED"
    assert (await rig.adapter.claim_start(new_id(), 1, "run_a", 1)).reason == "there is no such job"


async def test_a_person_cannot_assume_unstarted_what_has_started(rig: Rig) -> None:
    job_id, run = await rig.sent()
    rig.fake.start(run.id)
    await rig.webhook("RUN_STARTED", run)
    await rig.adapter.inbox.run_once()
    with pytest.raises(JobStateError):
        await rig.adapter.resolve_job(job_id, assume="not-started", reason="I think", actor="ann")
    assert (await rig.row(job_id))["epoch"] == 1


async def test_spent_attempts_carry_over_to_the_next_executor(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote", max_attempts=5)
    await rig.set(job.id, "attempt = 3")
    await rig.dispatch(job.id)
    (run,) = rig.fake.runs.values()
    assert run.max_attempts == 2


async def test_a_local_job_is_never_dispatched_and_a_remote_one_never_claimed(rig: Rig) -> None:
    local = await rig.adapter.schedule_job("both", executor="local")
    remote = await rig.adapter.schedule_job("both", executor="trigger")
    await rig.set(remote.id, "status = 'QUEUED'")
    await rig.dispatch()
    _, claimed = await rig.claim()
    assert [job.id for job in claimed] == [local.id]
    assert submits(rig) == 0


async def test_a_canceled_job_whose_try_was_never_sent_is_not_submitted(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote", idempotency_key="k")
    await rig.set(job.id, "cancel_requested = true")
    await rig.dispatch(job.id)
    assert (await rig.status(job.id), submits(rig)) == ("CANCELED", 0)
    assert await rig.events(job.id) == ["canceled"]


async def test_an_uncertain_job_that_is_canceled_is_looked_up_and_not_submitted_again(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    rig.fake.next_fault("timeout_after", on="trigger")
    await rig.dispatch(job.id)
    await rig.adapter.cancel_job(job.id)
    assert await rig.status(job.id) == "PENDING"
    sent = submits(rig)
    await rig.due_now(job.id)
    await rig.dispatch(job.id)
    assert submits(rig) == sent
    (run,) = rig.fake.runs.values()
    assert (run.status, await rig.status(job.id)) == ("CANCELED", "CANCELED")


async def test_a_run_whose_cancel_was_asked_for_during_the_submit_is_canceled_at_once(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    executor: Any = rig.adapter.executors.by_name["trigger"]
    real = executor.submit

    async def submit(submission: Any) -> Any:
        accepted = await real(submission)
        assert (await rig.adapter.cancel_job(job.id)).cancel_requested
        return accepted

    executor.submit = submit
    await rig.dispatch(job.id)
    (run,) = rig.fake.runs.values()
    assert (run.status, await rig.status(job.id)) == ("CANCELED", "CANCELED")


async def test_a_rescued_try_that_comes_back_to_life_cannot_finish(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo", 1)
    old, _ = await rig.claim()
    await rig.set(job.id, "status = 'QUEUED', worker_id = NULL, claim_number = NULL")
    await rig.claim()
    async with rig.adapter.database.connection() as conn:
        ended = await endings.finish(
            conn, rig.schema, [endings.Ending(job_id=job.id, epoch=1, lease=old, status=JobStatus.COMPLETED)]
        )
    assert ended == []
    assert await rig.status(job.id) == "EXECUTING"


async def test_what_expired_there_with_an_attempt_behind_it_is_not_taken_for_unstarted(rig: Rig) -> None:
    job_id, run = await rig.sent()
    said = RemoteReport(
        run_id=run.id,
        status=JobStatus.EXPIRED,
        remote_status="EXPIRED",
        authority=Authority.ENGINE,
        attempt=1,
        started=True,
    )
    assert await rig.adapter.applier.apply(job_id, 1, "trigger", said) is Applied.CHANGED
    row = await rig.row(job_id)
    assert (row["status"], row["epoch"]) == ("EXPIRED", 1)
