"""Each way a remote can misbehave over a real connection ends in its class, and the job ends right afterwards."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from uuid import UUID

import pytest

from adapter.core.reconcile import Verdict
from adapter.domain.clock import SystemClock
from adapter.domain.identity import epoch_tag
from adapter.executors.http import Timeouts
from adapter.executors.trigger_dev import TriggerDev
from tests.fakes.clock import ManualClock
from tests.fakes.trigger_dev import SECRET_KEY, FakeTriggerDev
from tests.fakes.trigger_engine import LONGEST_TTL
from tests.fault.rogue import Answer, Rogue, http
from tests.rig import Rig, rigged

HTML = b"<html><title>Sorry</title><body>We will be back</body></html>"
#: What the remote answers, the submit state it leaves, whether a run exists there. Of `REJECTED` the job ends.
REJECTED = "rejected"
F17: dict[str, tuple[Answer, str, bool]] = {
    "500": (http(500), "unknown", False),
    "500 once it was done": (http(500, done=True), "unknown", True),
    "502": (http(502, HTML, content_type="text/html"), "unknown", False),
    "503 with Retry-After": (http(503, retry_after="60"), "unknown", False),
    "429 with a reset header": (http(429, retry_after="60"), "never", False),
    "401": (http(401), "never", False),
    "404": (http(404), "never", False),
    "409": (http(409), "unknown", False),
    "413": (http(413), REJECTED, False),
    "HTML": (http(200, HTML, done=True, content_type="text/html"), "unknown", True),
    "no JSON": (http(200, b"{'id': 'run_1'}", done=True), "unknown", True),
    "truncated JSON": (http(200, b'{"id":"run_', done=True, length=100), "unknown", True),
    "truncated JSON that says it is whole": (http(200, b'{"id":"run_', done=True), "unknown", True),
    "204": (http(204, b"", done=True), "unknown", True),
    "slow drip": (replace(http(200, b'{"id":"run_1"}' * 100, done=True), drips=True), "unknown", True),
    "redirect": (http(302, b"", location="http://127.0.0.1:9/elsewhere"), "unknown", False),
}


@pytest.fixture
async def rogue() -> AsyncIterator[Rogue]:
    async with Rogue(FakeTriggerDev(ManualClock(SystemClock().now()))) as made:
        yield made


def on_the_wire(
    database_url: str, rogue: Rogue, api_url: str | None = None
) -> AbstractAsyncContextManager[Rig]:
    """A rig that reaches the remote by TCP. Its calls give up within a second."""
    executor = TriggerDev(
        secret_key=SECRET_KEY,
        api_url=api_url or f"http://127.0.0.1:{rogue.port}",
        environment="prod",
        requests_per_minute=0,
        timeouts=Timeouts(tries=2, connect_s=0.5, total_s=1.0),
    )
    return rigged(database_url, executors=[executor], fake=rogue.fake)


async def the_job_ends(rig: Rig, job_id: UUID) -> None:
    """The fault is over: the job has one run there, which runs once, and it ends as that does."""
    await rig.sql("UPDATE {s}.remote_budgets SET paused_until = NULL")
    await rig.due_now(job_id)
    await rig.dispatch(job_id)
    (run,) = rig.fake.runs.values()
    assert (await rig.row(job_id))["remote_run_id"] == run.id
    rig.fake.advance(1)
    rig.fake.start(run.id)
    rig.fake.complete(run.id, {"n": 2})
    await rig.adapter.reconcile()
    row = await rig.row(job_id)
    assert (row["status"], row["result"], row["epoch"]) == ("COMPLETED", {"n": 2}, 1)
    assert [each.event for each in rig.fake.ledger] == ["start", "finish"]


@pytest.mark.parametrize("row", F17, ids=lambda row: f"F17-{row}")
async def test_a_reply_ends_in_its_class(database_url: str, rogue: Rogue, row: str) -> None:
    answer, submit_state, exists = F17[row]
    async with on_the_wire(database_url, rogue) as rig:
        rogue.answer = answer
        job = await rig.adapter.schedule_job("remote", {"n": 1})
        await rig.dispatch(job.id)
        now = await rig.row(job.id)
        assert (len(rogue.fake.runs), now["epoch"]) == (int(exists), 1)
        if submit_state == REJECTED:
            assert (now["status"], now["error"]["message"][:8]) == ("FAILED", "HTTP 413")
            return
        assert (now["status"], now["submit_state"]) == ("PENDING", submit_state)
        rogue.answer = None
        await the_job_ends(rig, job.id)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:{port}", "http://nowhere.invalid"], ids=["F17-TLS error", "F17-DNS failure"]
)
async def test_a_remote_that_is_not_reached_got_nothing(database_url: str, rogue: Rogue, url: str) -> None:
    async with on_the_wire(database_url, rogue, url.format(port=rogue.port)) as rig:
        job = await rig.adapter.schedule_job("remote", {"n": 1})
        await rig.dispatch(job.id)
        now = await rig.row(job.id)
        assert (now["status"], now["submit_state"], now["first_try_at"]) == ("PENDING", "never", None)
    async with on_the_wire(database_url, rogue) as rig:
        await the_job_ends(rig, job.id)


@pytest.mark.parametrize("status", [503, 429], ids=["F17-503 opens the circuit", "F17-429 does not"])
async def test_five_in_a_row_open_the_circuit(database_url: str, rogue: Rogue, status: int) -> None:
    async with on_the_wire(database_url, rogue) as rig:
        rogue.answer = http(status, x_should_retry="false", retry_after="60")
        for _ in range(5):
            job = await rig.adapter.schedule_job("remote")
            await rig.sql("UPDATE {s}.remote_budgets SET paused_until = NULL")
            await rig.dispatch(job.id)
        assert len(await rig.adapter.failback.run_once()) == (1 if status == 503 else 0)


# ---- F18: accepted, and then ---------------------------------------------------------------------

JOBS = 5


@pytest.fixture
async def accepted(database_url: str, rogue: Rogue) -> AsyncIterator[tuple[Rig, list[UUID]]]:
    """Jobs whose runs are there, over the wire."""
    async with on_the_wire(database_url, rogue) as rig:
        jobs = [(await rig.sent("remote", n))[0] for n in range(JOBS)]
        yield rig, jobs


async def statuses(rig: Rig, jobs: list[UUID]) -> set[str]:
    return {await rig.status(job) for job in jobs}


async def test_f18_accepts_and_never_runs(accepted: tuple[Rig, list[UUID]]) -> None:
    rig, jobs = accepted
    await rig.adapter.reconcile()
    report = await rig.adapter.reconcile()
    assert (report.verdicts[Verdict.IN_SYNC], await statuses(rig, jobs)) == (JOBS, {"QUEUED"})
    # Its remote gives it up at last. The job has no end of its own and is submitted again, once.
    rig.fake.advance(LONGEST_TTL.total_seconds() + 1)
    await rig.adapter.reconcile()
    assert await statuses(rig, jobs) == {"PENDING"}
    await rig.dispatch()
    runs = [run for job in jobs for run in rig.fake.runs_of(epoch_tag(job, 2))]
    assert (len(runs), {run.status for run in runs}) == (JOBS, {"QUEUED"})


async def test_f18_loses_the_run(accepted: tuple[Rig, list[UUID]]) -> None:
    rig, jobs = accepted
    rig.fake.runs.clear()
    assert (await rig.adapter.reconcile()).verdicts[Verdict.UNKNOWN] == JOBS
    await rig.sql("UPDATE {s}.remote_runs SET missing_since = missing_since - interval '11 minutes'")
    assert sorted((await rig.adapter.reconcile()).orphaned) == sorted(jobs)
    assert await statuses(rig, jobs) == {"SYSTEM_FAILURE"}


async def test_f18_runs_twice(accepted: tuple[Rig, list[UUID]]) -> None:
    """A second run of the same submit is told by its own start; the run of record goes on, the other is stopped."""
    rig, jobs = accepted
    for job in jobs:
        (first,) = rig.fake.runs_of(epoch_tag(job, 1))
        second = rig.fake.make("remote", None, {}, [epoch_tag(job, 1)])
        rig.fake.advance(1)
        for run in (first, second):
            rig.fake.start(run.id)
        await rig.webhook("RUN_STARTED", second)
        await rig.webhook("RUN_STARTED", first)
    await rig.adapter.inbox.run_once()
    for job in jobs:
        first = rig.fake.runs[(await rig.row(job))["remote_run_id"]]
        rig.fake.complete(first.id, "the first")
    for _ in range(2):
        await rig.adapter.reconcile()
    rows = [await rig.row(job) for job in jobs]
    assert {(row["status"], row["result"], row["epoch"]) for row in rows} == {("COMPLETED", "the first", 1)}
    assert sorted(run.status for run in rig.fake.runs.values()) == ["CANCELED"] * JOBS + ["COMPLETED"] * JOBS


async def test_f18_reports_another_id(database_url: str, rogue: Rogue) -> None:
    """The reply names a run that nobody has: after the patience of every absence the run with our tag is the job's."""
    async with on_the_wire(database_url, rogue) as rig:
        rogue.answer = http(200, b'{"id":"run_of_nobody"}', done=True)
        job = await rig.adapter.schedule_job("remote")
        await rig.dispatch(job.id)
        (run,) = rig.fake.runs.values()
        rig.fake.advance(1)
        rig.fake.start(run.id)
        await rig.webhook("RUN_STARTED", run)
        await rig.adapter.inbox.run_once()
        assert (await rig.adapter.reconcile()).verdicts[Verdict.UNKNOWN] == 2
        assert (run.status, (await rig.row(job.id))["remote_run_id"]) == ("EXECUTING", "run_of_nobody")
        await rig.sql("UPDATE {s}.remote_runs SET missing_since = missing_since - interval '11 minutes'")
        assert (await rig.adapter.reconcile()).verdicts[Verdict.REDISPATCHED] == 1
        row = await rig.row(job.id)
        assert (row["status"], row["remote_run_id"], row["epoch"]) == ("EXECUTING", run.id, 1)
        rig.fake.complete(run.id, "done")
        report = await rig.adapter.reconcile()
        row = await rig.row(job.id)
        assert (report.orphaned, row["status"], row["result"]) == ([], "COMPLETED", "done")
        assert await rig.events(job.id) == ["duplicate_run", "adopted_run"]
        assert [each.event for each in rig.fake.ledger] == ["start", "finish"]


async def test_f18_reports_another_id_and_no_run_is_there(database_url: str, rogue: Rogue) -> None:
    async with on_the_wire(database_url, rogue) as rig:
        rogue.answer = http(200, b'{"id":"run_of_nobody"}')
        job = await rig.adapter.schedule_job("remote")
        await rig.dispatch(job.id)
        await rig.adapter.reconcile()
        await rig.sql("UPDATE {s}.remote_runs SET missing_since = missing_since - interval '11 minutes'")
        report = await rig.adapter.reconcile()
        assert (report.orphaned, await rig.status(job.id)) == ([job.id], "SYSTEM_FAILURE")


async def test_a_second_run_is_stopped_though_nothing_was_heard_of_the_first(
    accepted: tuple[Rig, list[UUID]],
) -> None:
    rig, (job, *_) = accepted
    second = rig.fake.make("remote", None, {}, [epoch_tag(job, 1)])
    rig.fake.start(second.id)
    await rig.webhook("RUN_STARTED", second)
    await rig.adapter.inbox.run_once()
    assert (await rig.row(job))["last_synced_at"] is None
    await rig.adapter.reconcile()
    assert second.status == "CANCELED"
