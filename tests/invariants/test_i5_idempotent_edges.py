"""I5: webhook, poll, dispatch and cancel: twice, late or out of order, the end state is the same."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from adapter import JobSpec, JobStatus
from adapter.domain.outcome import Applied, Authority, RemoteReport
from adapter.store import reports
from tests.fakes.trigger_engine import FakeRun
from tests.rig import Rig

Event = Callable[[Rig, UUID, FakeRun], Awaitable[Any]]
#: What must not depend on the order of events.
COMPARED = (
    "status", "epoch", "success", "result", "error", "remote_status", "executor", "submit_state",
    "cancel_requested", "attempt",
)  # fmt: skip


async def _submitted(rig: Rig) -> tuple[UUID, FakeRun]:
    """A job whose submit got through and whose reply has not been read yet."""
    job = await rig.adapter.schedule_job("remote", {"n": 1}, idempotency_key="once")
    rig.fake.next_fault("timeout_after", on="trigger")
    await rig.dispatch(job.id)
    (run,) = rig.fake.runs.values()
    return job.id, run


def tells(
    status: JobStatus,
    *,
    second: int | None,
    attempt: int | None = 1,
    hook: bool = False,
    output: Any = None,
    error: dict[str, Any] | None = None,
    retrieved: bool = False,
) -> Event:
    """A report of the run; ``second`` is its event time, ``retrieved`` that it is a look from long ago."""

    async def event(rig: Rig, job_id: UUID, run: FakeRun) -> Applied:
        said = RemoteReport(
            run_id=run.id,
            status=status,
            remote_status=status.value,
            authority=Authority.HOOK if hook else Authority.ENGINE,
            at=None if second is None else run.created_at + timedelta(seconds=second),
            attempt=attempt,
            started=None if hook else status not in {JobStatus.QUEUED, JobStatus.DELAYED},
            output=output,
            error=error,
            read_began=datetime.fromisoformat("2020-01-01T00:00:00+00:00") if retrieved else None,
        )
        return await rig.adapter.applier.apply(job_id, 1, "trigger", said)

    return event


async def the_reply(rig: Rig, job_id: UUID, run: FakeRun) -> None:
    environment = rig.adapter.executors.by_name["trigger"].environment
    await rig.adapter.applier.accepted(job_id, 1, "trigger", run.id, environment)


async def the_fence(rig: Rig, job_id: UUID, run: FakeRun) -> None:
    await rig.adapter.claim_start(job_id, 1, run.id, 1)


QUEUED = tells(JobStatus.QUEUED, second=0, attempt=None)
STARTED = tells(JobStatus.EXECUTING, second=1, hook=True)
OLD_LOOK = tells(JobStatus.QUEUED, second=0, attempt=0, retrieved=True)
COMPLETED_HOOK = tells(JobStatus.COMPLETED, second=2, hook=True, output={"guess": 1})
COMPLETED = tells(JobStatus.COMPLETED, second=2, output={"n": 2})
FAILED = tells(JobStatus.FAILED, second=2, error={"name": "Error", "message": "boom"})
CANCELED = tells(JobStatus.CANCELED, second=2, attempt=None)
SECOND_TRY = tells(JobStatus.EXECUTING, second=3, attempt=2)

STORIES: dict[str, list[Event]] = {
    "completed": [the_reply, QUEUED, STARTED, OLD_LOOK, COMPLETED],
    "completed, told by a hook first": [the_reply, STARTED, COMPLETED_HOOK, COMPLETED, COMPLETED],
    "failed": [the_reply, STARTED, FAILED, FAILED, OLD_LOOK],
    "canceled unstarted": [the_reply, QUEUED, CANCELED, CANCELED],
    "completed behind a fence": [the_reply, the_fence, STARTED, the_fence, COMPLETED],
    "started, and seen queued late": [the_reply, QUEUED, STARTED, QUEUED, OLD_LOOK],
    "not ended yet": [STARTED, SECOND_TRY, OLD_LOOK, SECOND_TRY, STARTED],
}


@pytest.mark.parametrize("story", STORIES)
async def test_the_end_does_not_depend_on_the_order_of_events(rig: Rig, story: str) -> None:
    events = STORIES[story]
    orders = sorted(set(permutations([events.index(each) for each in events])))
    made = await _uncertain(rig, len(orders))
    ends: dict[str, list[tuple[int, ...]]] = {}
    for order, (job_id, run) in zip(orders, made, strict=True):
        for place in order:
            await events[place](rig, job_id, run)
        row = await rig.row(job_id)
        assert row["remote_run_id"] == run.id
        runs = await rig.sql(
            "SELECT run_id, role, wanted FROM {s}.remote_runs WHERE job_id = %(id)s", id=job_id
        )
        keys = await rig.sql("SELECT task FROM {s}.job_keys WHERE job_id = %(id)s", id=job_id)
        assert [(each["run_id"], each["role"], each["wanted"]) for each in runs] == [(run.id, "bound", None)]
        ends.setdefault(repr([len(keys), *(row.get(name) for name in COMPARED)]), []).append(order)
    assert len(ends) == 1, ends


async def _uncertain(rig: Rig, count: int) -> list[tuple[UUID, FakeRun]]:
    """Jobs whose submit got through, though nobody has read the reply."""
    specs = [JobSpec("remote", n, {"idempotency_key": f"once-{n}"}) for n in range(count)]
    jobs = await rig.adapter.schedule_specs(specs)
    environment = rig.adapter.executors.by_name["trigger"].environment
    await rig.sql(
        "UPDATE {s}.worker_jobs_open SET submit_state = 'unknown', submit_tries = 1, first_try_at = now(),"
        " remote_environment = %(environment)s, next_try_at = now() + interval '1 hour'",
        environment=environment,
    )
    return [(job.id, rig.fake.make("remote", None, {}, [f"job:{job.id}:1"])) for job in jobs]


async def test_the_start_fence_after_the_end_changes_nothing(rig: Rig) -> None:
    job_id, run = await _submitted(rig)
    await COMPLETED(rig, job_id, run)
    before = await rig.row(job_id)
    await the_fence(rig, job_id, run)
    await STARTED(rig, job_id, run)
    await the_reply(rig, job_id, run)
    assert await rig.row(job_id) == before


async def test_the_same_delivery_is_taken_in_once(rig: Rig) -> None:
    _, run = await rig.sent()
    body = {"type": "RUN_STARTED", "run": {"id": run.id, "tags": list(run.tags)}}
    assert await rig.adapter.receive_webhook("hooks", "d1", "s1", body) == "new"
    assert await rig.adapter.receive_webhook("hooks", "d1", "s1", body) == "duplicate"
    assert await rig.adapter.receive_webhook("alerts", "d1", "s1", body) == "new"
    assert await rig.value("SELECT count(*) FROM {s}.webhook_inbox") == 2


async def test_a_webhook_may_beat_the_reply_to_the_submit(rig: Rig) -> None:
    job_id, run = await _submitted(rig)
    await rig.webhook("RUN_STARTED", run, attempt=1)
    await rig.adapter.inbox.run_once()
    row = await rig.row(job_id)
    assert (row["status"], row["submit_state"], row["remote_run_id"]) == ("EXECUTING", "accepted", run.id)
    await the_reply(rig, job_id, run)
    assert await rig.status(job_id) == "EXECUTING"
    assert rig.fake.runs[run.id].status == "QUEUED"


async def test_dispatching_again_submits_again_under_the_same_keys(rig: Rig) -> None:
    job_id, run = await _submitted(rig)
    for _ in range(3):
        await rig.set(job_id, "submit_state = 'unknown', status = 'PENDING', remote_run_id = NULL")
        await rig.due_now(job_id)
        await rig.dispatch(job_id)
    sent = [each for each in rig.fake.requests if each.call == "trigger"]
    assert len({each.headers["x-trigger-request-idempotency-key"] for each in sent}) == 1
    assert len({each.body["options"]["idempotencyKey"] for each in sent}) == 1
    assert list(rig.fake.runs) == [run.id]


async def test_canceling_twice_asks_once_more_and_ends_the_same(rig: Rig) -> None:
    job_id, run = await rig.sent()
    first = await rig.adapter.cancel_job(job_id, reason="one")
    second = await rig.adapter.cancel_job(job_id, reason="two")
    assert first == second
    assert (first.status, run.status) == (JobStatus.CANCELED, "CANCELED")
    assert await rig.events(job_id) == ["cancel_requested"]


async def test_canceling_an_unclaimed_local_job_twice_is_recorded_once(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo")
    assert await rig.adapter.cancel_job(job.id) == await rig.adapter.cancel_job(job.id)
    assert await rig.events(job.id) == ["canceled"]


async def test_reconciling_twice_finds_nothing_to_do(rig: Rig) -> None:
    job_id, run = await rig.sent()
    rig.fake.start(run.id)
    first = await rig.adapter.reconcile()
    again = await rig.adapter.reconcile()
    rig.fake.complete(run.id, 1)
    last = await rig.adapter.reconcile()
    before = await rig.row(job_id)
    idle = await rig.adapter.reconcile()
    counted = [
        {verdict: n for verdict, n in each.verdicts.items() if n} for each in (first, again, last, idle)
    ]
    assert counted == [{"advanced": 1}, {"in_sync": 1}, {"advanced": 1}, {}]
    assert await rig.row(job_id) == before


async def test_a_retrieve_begun_after_the_last_change_replaces_any_open_state(rig: Rig) -> None:
    job_id, run = await rig.sent()
    await tells(JobStatus.EXECUTING, second=100, attempt=5)(rig, job_id, run)
    assert await rig.status(job_id) == "EXECUTING"
    rig.fake.advance(1)
    rig.fake.start(run.id)
    rig.fake.fail_attempt(run.id)
    async with rig.adapter.database.connection() as conn:
        began = await rig.value("SELECT now()")
        said = reports.Report(
            job_id=job_id, epoch=1, executor="trigger", run_id=run.id, status=JobStatus.QUEUED,
            remote_status="QUEUED", rank=1, read_began=began,
        )  # fmt: skip
        assert await reports.progress(conn, rig.schema, said) is not None
        assert await reports.progress(conn, rig.schema, said) is None
    assert await rig.status(job_id) == "QUEUED"
