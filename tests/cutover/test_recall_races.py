"""What may happen between a recall's look, its cancel, and the answer to it."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest

from adapter.domain.recall import RecallState
from adapter.store import remote_runs
from tests.cutover.recalled import around, back, recalling, sent, where
from tests.rig import Rig


@pytest.fixture
async def rig(database_url: str) -> AsyncGenerator[Rig]:
    async with recalling(database_url) as made:
        yield made


@pytest.mark.parametrize("attempt", [0, None])
async def test_a_webhook_sees_our_cancel_before_we_do(rig: Rig, attempt: int | None) -> None:
    """``attempt=0``: it says that nothing began. None: it does not say, so it is looked at."""
    job_id, run = await sent(rig)

    async def told() -> None:
        said: dict[str, Any] = {} if attempt is None else {"attempt": attempt}
        await rig.webhook("RUN_CANCELED", run, source="engine", status="CANCELED", **said)
        await rig.adapter.inbox.work_once()

    around(rig, "cancel", after=told)
    report = await back(rig)
    assert (await where(rig, job_id), report.outcomes) == (("QUEUED", "local", 2), {"moved": 1})
    assert await rig.events(job_id) == ["recalled"]


async def test_a_start_between_look_and_cancel_ends_a_fragile_job_and_is_told_first(rig: Rig) -> None:
    job_id, run = await sent(rig)

    async def starts() -> None:
        rig.fake.start(run.id)

    around(rig, "cancel", before=starts)
    report = await back(rig)
    row = await rig.row(job_id)
    assert (row["status"], row["executor"], row["epoch"]) == ("CANCELED", "trigger", 1)
    assert row["error"]["name"] == "RecallHitRunning"
    assert (report.hit_running, report.outcomes) == ([job_id], {"hit_running_canceled": 1})
    assert await rig.events(job_id) == ["recall_hit_running"]
    assert (await rig.adapter.get_job(job_id) or pytest.fail("gone")).cancel_requested is False


async def test_a_webhook_that_does_not_say_whether_it_began_decides_nothing(rig: Rig) -> None:
    job_id, run = await sent(rig)

    async def starts() -> None:
        rig.fake.start(run.id)

    async def told() -> None:
        await rig.webhook("RUN_CANCELED", run, source="engine", status="CANCELED")
        await rig.adapter.inbox.work_once()

    around(rig, "cancel", before=starts, after=told)
    report = await back(rig)
    assert (await where(rig, job_id), report.hit_running) == (("CANCELED", "trigger", 1), [job_id])


async def test_a_start_between_look_and_cancel_moves_an_idempotent_job_with_its_attempts(rig: Rig) -> None:
    job_id, run = await sent(rig, "safe")

    async def starts() -> None:
        rig.fake.start(run.id)

    around(rig, "cancel", before=starts)
    report = await back(rig, "safe")
    row = await rig.row(job_id)
    assert (row["status"], row["executor"], row["epoch"], row["attempt"]) == ("QUEUED", "local", 2, 1)
    assert (report.hit_running, report.outcomes) == ([job_id], {"hit_running_moved": 1})
    await rig.work()
    assert (await rig.row(job_id))["attempt"] == 2


async def test_an_attempt_is_left_when_we_cut_off_the_last_one(rig: Rig) -> None:
    job_id, run = await sent(rig, "safe", max_attempts=1)

    async def starts() -> None:
        rig.fake.start(run.id)

    around(rig, "cancel", before=starts)
    await back(rig, "safe")
    await rig.work()
    assert await rig.status(job_id) == "COMPLETED"


@pytest.mark.parametrize("moment", ["retrieve", "cancel"])
async def test_a_users_cancel_wins_whenever_it_comes(rig: Rig, moment: str) -> None:
    job_id, run = await sent(rig)

    async def cancels() -> None:
        for _ in range(3):
            rig.fake.next_fault(500, on="cancel")
        await rig.adapter.cancel_job(job_id)
        rig.fake._faults.clear()

    around(rig, moment, after=cancels)
    report = await back(rig)
    await rig.adapter.reconcile()
    row = await rig.row(job_id)
    assert (row["status"], row["cancel_requested"], row["epoch"]) == ("CANCELED", True, 1)
    assert (report.outcomes, run.status) == ({"canceled": 1}, "CANCELED")


async def test_a_job_that_completes_before_our_cancel_has_completed(rig: Rig) -> None:
    job_id, run = await sent(rig)

    async def completes() -> None:
        rig.fake.start(run.id)
        rig.fake.complete(run.id, 7)

    around(rig, "cancel", before=completes)
    report = await back(rig)
    assert (await where(rig, job_id), report.outcomes) == (("COMPLETED", "trigger", 1), {"ended": 1})


async def test_a_run_that_expires_there_has_not_started_and_comes_back(rig: Rig) -> None:
    job_id, run = await sent(rig)

    async def expires() -> None:
        rig.fake.expire(run.id)

    around(rig, "cancel", before=expires)
    report = await back(rig)
    assert (await where(rig, job_id), report.outcomes) == (("QUEUED", "local", 2), {"moved": 1})


async def test_reconciliation_sees_our_cancel_when_we_cannot(rig: Rig) -> None:
    job_id, _ = await sent(rig)

    async def deafens() -> None:
        for _ in range(3):
            rig.fake.next_fault("timeout_before", on="retrieve")

    around(rig, "cancel", after=deafens)
    report = await back(rig, timeout=timedelta(0))
    assert report.state is RecallState.RUNNING
    assert await rig.status(job_id) == "QUEUED"
    rig.fake._faults.clear()
    await rig.adapter.reconcile()
    assert await where(rig, job_id) == ("QUEUED", "local", 2)
    assert (await back(rig)).outcomes == {"moved": 1}


async def test_a_run_is_not_ended_while_its_job_waits_for_its_end(rig: Rig) -> None:
    job_id, run = await sent(rig)
    async with rig.adapter.database.connection() as conn:
        assert not await remote_runs.ended(conn, rig.schema, "trigger", run.id, "CANCELED")
    await back(rig)
    async with rig.adapter.database.connection() as conn:
        assert not await remote_runs.ended(conn, rig.schema, "trigger", run.id, "CANCELED")
    assert await rig.value("SELECT count(*) FROM {s}.remote_runs WHERE ended_at IS NULL") == 0
    assert await where(rig, job_id) == ("QUEUED", "local", 2)


@pytest.mark.parametrize("ends", ["accepted", 422, "connect_error"])
async def test_a_try_that_is_under_way_is_waited_for(rig: Rig, ends: Any) -> None:
    """The recall comes while a dispatcher holds the row; whatever its try comes to, the job comes back."""
    job = await rig.adapter.schedule_job("fragile", 1, executor="trigger")

    async def recalls() -> None:
        await back(rig, timeout=timedelta(0))
        assert (await rig.row(job.id))["recall_id"] is not None
        if ends != "accepted":
            rig.fake.next_fault(ends, on="trigger")

    around(rig, "submit", before=recalls)
    await rig.dispatch(job.id)
    report = await back(rig)
    assert (await where(rig, job.id), report.outcomes) == (("QUEUED", "local", 2), {"moved": 1})
    assert {run.status for run in rig.fake.runs.values()} <= {"CANCELED"}


async def test_what_is_under_a_recall_is_not_submitted_any_more(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("fragile", 1, executor="trigger")
    await rig.set(job.id, "recall_id = id, recall_to = 'local'")
    assert await rig.dispatch(job.id) == 0
    assert rig.fake.requests == []


# ---- with a start fence --------------------------------------------------------------------------


async def test_with_a_start_fence_it_is_exact_at_once(rig: Rig) -> None:
    job_id, run = await sent(rig, "fenced")
    moments: list[Any] = []

    async def looks() -> None:
        moments.append(await where(rig, job_id))

    around(rig, "cancel", before=looks)
    report = await back(rig, "fenced")
    # It had moved before anything was asked of the remote.
    assert (moments, report.outcomes) == ([("QUEUED", "local", 2)], {"moved": 1})
    claim = await rig.adapter.claim_start(job_id, 1, run.id, 1)
    assert (claim.claimed, claim.reason) == (False, "the job has moved on to epoch 2")
    assert run.status == "CANCELED"


async def test_a_run_that_has_claimed_its_start_keeps_its_job(rig: Rig) -> None:
    job_id, run = await sent(rig, "fenced")
    assert (await rig.adapter.claim_start(job_id, 1, run.id, 1)).claimed
    report = await back(rig, "fenced")
    assert (await where(rig, job_id), report.outcomes) == (("EXECUTING", "trigger", 1), {})


async def test_with_a_start_fence_an_uncertain_submit_needs_no_proof(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("fenced", 1, executor="trigger")
    rig.fake.next_fault("timeout_after", on="trigger")
    await rig.dispatch(job.id)
    await back(rig, "fenced")
    (run,) = rig.fake.runs.values()
    assert await where(rig, job.id) == ("QUEUED", "local", 2)
    assert not (await rig.adapter.claim_start(job.id, 1, run.id, 1)).claimed


async def test_a_late_reply_of_the_old_epoch_is_a_stranger(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("fenced", 1, executor="trigger")

    async def recalls() -> None:
        await back(rig, "fenced")

    around(rig, "submit", after=recalls)
    await rig.dispatch(job.id)
    (run,) = rig.fake.runs.values()
    assert await where(rig, job.id) == ("QUEUED", "local", 2)
    await rig.adapter.reconcile()
    assert run.status == "CANCELED"


async def test_the_question_of_a_run_is_proof_enough_that_it_asks(rig: Rig) -> None:
    """A task with a fence that nobody declared: a run that asks during a recall is refused, and the job moves."""
    job_id, run = await sent(rig)

    async def asks() -> None:
        assert not (await rig.adapter.claim_start(job_id, 1, run.id, 1)).claimed

    around(rig, "retrieve", after=asks)
    report = await back(rig)
    assert (await where(rig, job_id), report.outcomes) == (("QUEUED", "local", 2), {"moved": 1})
    assert run.status == "CANCELED"


@pytest.mark.parametrize(("version", "asked"), [("20260101.2", False), ("20260101.1", True), ("main", True)])
async def test_a_fence_is_believed_of_the_versions_that_have_it(rig: Rig, version: str, asked: bool) -> None:
    job_id, _ = await sent(rig, "fenced-since")
    executor: Any = rig.adapter.executors.by_name["trigger"]
    real = executor._retrieve

    async def retrieve(run_id: str) -> Any:
        return (await real(run_id)).model_copy(update={"version": version})

    executor._retrieve = retrieve
    seen: list[Any] = []

    async def looks() -> None:
        seen.append((await where(rig, job_id))[2])

    around(rig, "cancel", before=looks)
    await back(rig, "fenced-since")
    assert (seen, await where(rig, job_id)) == ([1] if asked else [2], ("QUEUED", "local", 2))
