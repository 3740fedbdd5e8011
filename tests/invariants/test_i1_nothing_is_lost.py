"""I1: a committed row reaches a terminal status, or shows what it waits for and a person can end the wait."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from adapter import Adapter, JobStatus, Queue
from adapter.domain.clock import SystemClock
from adapter.domain.errors import DatabaseUnavailableError
from adapter.domain.job import Job
from adapter.executors.trigger_dev import TriggerDev
from adapter.store import claims, endings, limited_claims
from tests.fakes.clock import ManualClock
from tests.fakes.trigger_dev import FakeTriggerDev
from tests.rig import Rig, rigged, trigger_executor

ONCE: dict[str, Any] = {"max_attempts": 1}


class UnspeakableError(Exception):
    """An error that cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class BeyondError(BaseException):
    """What some libraries raise to pass every `except Exception`."""


async def cancels_itself(_payload: Any) -> None:
    raise asyncio.CancelledError


async def waits_for_something_canceled(_payload: Any) -> None:
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gone.cancel()
    await gone


async def raises_beyond(_payload: Any) -> None:
    raise BeyondError("beyond")


async def raises_a_group(_payload: Any) -> None:
    raise BaseExceptionGroup("several", [BeyondError("one"), ValueError("two")])


async def raises_unspeakable(_payload: Any) -> None:
    raise UnspeakableError


async def exits(_payload: Any) -> None:
    raise SystemExit(3)


def stops_iteration(_payload: Any) -> Any:
    empty: Iterator[int] = iter([])
    return next(empty)


async def returns_nul(_payload: Any) -> str:
    return "a\x00b"


async def returns_nan(_payload: Any) -> float:
    return float("nan")


async def returns_no_json(_payload: Any) -> Any:
    return object()


async def returns_a_surrogate(_payload: Any) -> Any:
    return {"k\ud800": 1}


async def returns_a_number_too_long_to_write(_payload: Any) -> int:
    return 10**5000


async def returns_too_deep(_payload: Any) -> Any:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    return value


async def raises_nul(_payload: Any) -> Any:
    raise ValueError("a\x00b\ud800")


BAD: list[Callable[[Any], Any]] = [
    cancels_itself,
    waits_for_something_canceled,
    raises_beyond,
    raises_a_group,
    raises_unspeakable,
    exits,
    stops_iteration,
    returns_nul,
    returns_nan,
    returns_no_json,
    returns_a_surrogate,
    returns_a_number_too_long_to_write,
    returns_too_deep,
    raises_nul,
]


@pytest.mark.parametrize("handler", BAD, ids=lambda each: each.__name__)
async def test_whatever_a_handler_does_its_job_ends_and_costs_no_other_its_outcome(
    handler: Callable[[Any], Any], database_url: str
) -> None:
    def declare(adapter: Adapter) -> None:
        adapter.task("bad")(handler)

        @adapter.task("good")
        async def good(payload: Any) -> Any:
            return payload

        del good

    async with rigged(database_url, declare) as rig:
        before = await rig.adapter.schedule_job("good", 1)
        bad = await rig.adapter.schedule_job("bad", None, **ONCE)
        after = await rig.adapter.schedule_job("good", 2)
        async with asyncio.timeout(5):
            await rig.work()
        assert await rig.status(bad.id) == "FAILED"
        assert (await rig.row(bad.id))["error"]["name"]
        assert [await rig.status(each.id) for each in (before, after)] == ["COMPLETED"] * 2


async def test_jobs_whose_claim_got_no_reply_are_found_again_by_their_own_worker(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await rig.adapter.schedule_job("echo", 1)
    worker = rig.worker()
    real = claims.claim

    async def claims_and_loses_the_reply(*arguments: Any, **options: Any) -> list[Job]:
        await real(*arguments, **options)
        raise psycopg.OperationalError("the connection was cut after the commit")

    monkeypatch.setattr("adapter.core.claiming.claim", claims_and_loses_the_reply)
    with pytest.raises(DatabaseUnavailableError):
        await worker.run_once()
    assert await rig.status(job.id) == "EXECUTING"
    monkeypatch.setattr("adapter.core.claiming.claim", real)
    worker.look_again()
    await worker.run_once()
    await worker.run_once()
    row = await rig.row(job.id)
    assert (row["status"], row["attempt"]) == ("COMPLETED", 1)
    assert await rig.events(job.id) == ["returned"]


async def test_jobs_of_a_first_claim_survive_the_failure_of_the_second(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def declare(adapter: Adapter) -> None:
        @adapter.task("free")
        async def free(payload: Any) -> Any:
            return payload

        @adapter.task("limited", queue=Queue("few", concurrency_limit=1))
        async def limited(payload: Any) -> Any:
            return payload

        del free, limited

    async with rigged(database_url, declare) as rig:
        job = await rig.adapter.schedule_job("free", 1)
        worker = rig.worker()

        async def fails(*_arguments: Any) -> bool:
            raise psycopg.OperationalError("cut")

        real = limited_claims.are_any_ready
        monkeypatch.setattr("adapter.core.claiming.are_any_ready", fails)
        with pytest.raises(DatabaseUnavailableError):
            await worker.run_once()
        monkeypatch.setattr("adapter.core.claiming.are_any_ready", real)
        worker.look_again()
        await worker.run_once()
        await worker.run_once()
        assert await rig.status(job.id) == "COMPLETED"


async def test_a_row_postgresql_refuses_and_a_lost_connection_together_keep_every_outcome(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [await rig.adapter.schedule_job("echo", n) for n in range(3)]
    real = endings.complete
    refusals: list[Exception] = [
        psycopg.errors.UntranslatableCharacter("poison"),
        psycopg.OperationalError("cut in the middle of it"),
    ]

    async def refuses(*given: Any) -> int:
        if refusals:
            raise refusals.pop(0)
        return await real(*given)

    monkeypatch.setattr("adapter.core.completion.complete", refuses)
    await rig.work()
    assert refusals == []
    assert [await rig.status(job.id) for job in jobs] == ["COMPLETED"] * 3


async def test_the_queue_a_call_names_is_served_though_no_task_declares_it(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo", 1, queue="made up just now")
    await rig.work()
    assert await rig.status(job.id) == "COMPLETED"


async def test_a_remote_output_postgresql_cannot_keep_still_ends_its_job(rig: Rig) -> None:
    job_id, run = await rig.sent()
    other, run_2 = await rig.sent()
    for each, value in ((run, ["a\x00b"]), (run_2, 2)):
        rig.fake.start(each.id)
        rig.fake.complete(each.id, value)
    await rig.adapter.reconcile()
    assert (await rig.row(job_id))["result"] == ["a\ufffdb"]
    assert await rig.status(other) == "COMPLETED"


async def test_a_dispatcher_that_died_in_trying_leaves_a_row_that_is_submitted_under_the_same_keys(
    rig: Rig,
) -> None:
    job = await rig.adapter.schedule_job("remote")
    rig.fake.next_fault("reset_after", on="trigger")
    await rig.dispatch(job.id)
    await rig.set(
        job.id,
        "submit_state = 'trying', dispatch_lease = gen_random_uuid(), dispatch_lease_until = now() - interval '1 s'",
    )
    await rig.due_now(job.id)
    await rig.dispatch(job.id)
    row = await rig.row(job.id)
    assert (row["submit_state"], row["epoch"], len(rig.fake.runs)) == ("accepted", 1, 1)
    assert "submit_unknown" in await rig.events(job.id)


async def test_an_end_that_no_event_told_is_found_by_reconciling(rig: Rig) -> None:
    job_id, run = await rig.sent()
    rig.fake.start(run.id)
    rig.fake.complete(run.id, {"n": 1})
    await rig.adapter.reconcile()
    row = await rig.row(job_id)
    assert (row["status"], row["result"]) == ("COMPLETED", {"n": 1})


async def test_one_run_that_cannot_be_read_does_not_stop_the_others(rig: Rig) -> None:
    first, run = await rig.sent()
    second, run_2 = await rig.sent()
    rig.fake.move(run, "A_WORD_OF_NEXT_YEAR")
    rig.fake.start(run_2.id)
    rig.fake.complete(run_2.id, 1)
    await rig.adapter.reconcile()
    assert await rig.status(second) == "COMPLETED"
    assert await rig.status(first) == "QUEUED"


async def test_an_executor_that_is_down_does_not_stop_reconciling_another(database_url: str) -> None:
    fake, down = FakeTriggerDev(), FakeTriggerDev()
    fake.clock, down.clock = (ManualClock(SystemClock().now()) for _ in range(2))

    def declare(adapter: Adapter) -> None:
        adapter.remote_task("remote", executor="trigger")
        adapter.remote_task("other", executor="a-down")

    executors = [trigger_executor(fake), trigger_executor(down, name="a-down")]
    async with rigged(database_url, declare, executors=list(executors), fake=fake) as rig:
        there = await rig.adapter.schedule_job("other")
        await rig.dispatch(there.id)
        job_id, run = await rig.sent()
        fake.start(run.id)
        fake.complete(run.id, 1)
        for _ in range(20):
            down.next_fault("connect_error")
        report = await rig.adapter.reconcile()
        assert await rig.status(job_id) == "COMPLETED"
        assert report.stopped is not None


async def test_a_job_somebody_wants_canceled_whose_run_is_gone_does_not_stay_open(rig: Rig) -> None:
    job_id, run = await rig.sent()
    rig.fake.next_fault(500, on="cancel")
    rig.fake.next_fault(500, on="cancel")
    rig.fake.next_fault(500, on="cancel")
    await rig.adapter.cancel_job(job_id)
    rig.fake.lose(run.id)
    for _ in range(2):
        await rig.adapter.reconcile()
        await rig.sql("UPDATE {s}.remote_runs SET missing_since = now() - interval '11 minutes'")
    await rig.adapter.reconcile()
    assert JobStatus(await rig.status(job_id)).is_terminal


async def test_webhooks_are_applied_each_on_its_own(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = await rig.sent()
    job_id, run_2 = await rig.sent()
    rig.fake.start(run_2.id)
    await rig.webhook("RUN_STARTED", run)
    await rig.webhook("RUN_STARTED", run_2)
    real = rig.adapter.applier.apply

    async def poisoned(*arguments: Any) -> Any:
        if arguments[-1].run_id == run.id:
            raise psycopg.DataError("no such text")
        return await real(*arguments)

    monkeypatch.setattr(rig.adapter.applier, "apply", poisoned)
    await rig.adapter.inbox.run_once()
    assert await rig.status(job_id) == "EXECUTING"


async def test_an_executor_that_breaks_its_promise_costs_no_other_try(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = await rig.adapter.schedule_job("remote", "bad")
    good = await rig.adapter.schedule_job("remote", "good")
    executor = rig.adapter.executors.by_name["trigger"]
    assert isinstance(executor, TriggerDev)
    real = executor.submit

    async def submit(submission: Any) -> Any:
        if submission.data == "bad":
            raise KeyError("a plug-in's own bug")
        return await real(submission)

    monkeypatch.setattr(executor, "submit", submit)
    await rig.dispatch()
    assert (await rig.row(good.id))["submit_state"] == "accepted"
    assert (await rig.row(bad.id))["submit_state"] == "unknown"


async def test_what_waits_says_for_what_and_a_person_can_end_it(rig: Rig) -> None:
    lost = await rig.adapter.schedule_job("remote")
    again = await rig.adapter.schedule_job("remote")
    for job in (lost, again):
        rig.fake.next_fault("timeout_before", on="trigger")
        await rig.dispatch(job.id)
        assert (await rig.row(job.id))["submit_state"] == "unknown"
    ended = await rig.adapter.resolve_job(lost.id, assume="lost", reason="no such run there", actor="ann")
    assert ended.status is JobStatus.SYSTEM_FAILURE
    opened = await rig.adapter.resolve_job(again.id, assume="not-started", reason="looked", actor="ann")
    assert (opened.epoch, opened.submit_state, opened.status) == (2, "never", JobStatus.PENDING)
    events = await rig.adapter.job_events(again.id)
    assert [(each.kind, each.actor) for each in events][-1] == ("assumed_not_started", "ann")


async def test_the_run_of_a_job_given_up_by_a_person_still_counts_when_it_reports(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    rig.fake.next_fault("timeout_after", on="trigger")
    await rig.dispatch(job.id)
    await rig.adapter.resolve_job(job.id, assume="lost", reason="looked", actor="ann")
    (run,) = rig.fake.runs.values()
    rig.fake.start(run.id)
    rig.fake.complete(run.id, 7)
    await rig.webhook("RUN_COMPLETED", run, source="engine", status="COMPLETED", output=7)
    await rig.adapter.inbox.run_once()
    row = await rig.row(job.id)
    assert (row["status"], row["result"], row["remote_run_id"]) == ("COMPLETED", 7, run.id)


async def test_a_local_job_nobody_here_can_run_waits_for_an_executor_and_says_so(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote", executor="local")
    row = await rig.row(job.id)
    assert (row["status"], row["waiting_for"]) == ("WAITING", "executor")


async def test_a_remote_that_answers_again_gets_the_jobs_that_waited(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    for _ in range(4):
        for _ in range(3):
            rig.fake.next_fault("connect_error", on="trigger")
        await rig.dispatch(job.id)
        assert (await rig.row(job.id))["submit_state"] == "never"
        await rig.due_now(job.id)
    await rig.dispatch(job.id)
    assert (await rig.row(job.id))["submit_state"] == "accepted"


async def test_the_lapsed_lease_of_a_dead_worker_frees_its_jobs(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo", 1)
    lease, (claimed,) = await rig.claim()
    assert claimed.id == job.id
    await rig.sql(
        "INSERT INTO {s}.workers (id, name, host, pid, lease, seen_at)"
        " VALUES (%(id)s, 'w', 'h', 1, '1 ms', now() - interval '1 hour')",
        id=lease.worker_id,
    )
    await rig.bury_the_silent()
    await rig.work()
    assert await rig.status(job.id) == "COMPLETED"
    assert await rig.events(job.id) == ["rescued"]


async def test_handlers_that_are_out_of_time_end_their_jobs(database_url: str) -> None:
    forever = asyncio.Event()

    def declare(adapter: Adapter) -> None:
        @adapter.task("slow", max_duration=timedelta(milliseconds=20))
        async def slow(_payload: Any) -> None:
            await forever.wait()

        del slow

    async with rigged(database_url, declare) as rig:
        job = await rig.adapter.schedule_job("slow")
        await rig.work()
        assert await rig.status(job.id) == "TIMED_OUT"
