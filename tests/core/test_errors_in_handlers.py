"""What a handler's error leads to: retried when it says, snoozed, judged by ``catch_error`` or by its class."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from adapter import AbortJobError, Adapter, JobContext, RetryJobError, RetryPolicy, SnoozeJobError
from adapter.domain.errors import InvalidArgumentError, JobControl, TaskDefinitionError
from tests.rig import Rig, rigged

DAY = timedelta(days=1)
QUICK = RetryPolicy(max_attempts=3, min_timeout_in_ms=0, max_timeout_in_ms=0)


async def ready(rig: Rig, job_id: UUID) -> None:
    await rig.set(job_id, "due = now()")
    await rig.adapter.maintenance.run_once()


def test_a_retry_says_either_how_long_or_when() -> None:
    with pytest.raises(InvalidArgumentError, match="either delay= or at="):
        RetryJobError("when?")
    with pytest.raises(InvalidArgumentError, match="either delay= or at="):
        RetryJobError("when?", delay=DAY, at=datetime.now(UTC))  # noqa: DTZ005, RUF100, TID251
    with pytest.raises(InvalidArgumentError, match="time zone"):
        RetryJobError("when?", at=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(InvalidArgumentError, match="past"):
        SnoozeJobError(delay=-DAY)


async def test_a_retry_at_a_time_is_due_at_that_time_and_spends_the_attempt(database_url: str) -> None:
    at = datetime(2099, 5, 6, 7, 8, tzinfo=UTC)

    def declare(adapter: Adapter) -> None:
        @adapter.task("at", retry=QUICK)
        async def again(payload: Any, ctx: JobContext) -> int:
            if ctx.attempt == 1:
                raise RetryJobError("the quota is used up", at=at)
            if ctx.attempt == 2:
                raise RetryJobError("long ago", at=datetime(2001, 1, 1, tzinfo=UTC))
            return ctx.attempt

        del again

    async with rigged(database_url, declare) as rig:
        job = await rig.adapter.schedule_job("at")
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["due"], row["attempt"]) == ("DELAYED", at, 1)
        await ready(rig, job.id)
        await rig.work()
        assert await rig.status(job.id) == "QUEUED"
        await rig.work()
        assert (await rig.row(job.id))["result"] == 3
        assert await rig.events(job.id) == ["retry", "retry"]


def snoozing(adapter: Adapter) -> None:
    @adapter.task("snoozes", retry=RetryPolicy(max_attempts=1), max_snoozes=2)
    async def snoozes(payload: Any, ctx: JobContext) -> str:
        if payload == "raise":
            raise SnoozeJobError("not yet", delay=timedelta(minutes=5))
        ctx.snooze(timedelta(minutes=5), "not yet")

    @adapter.task("in-thread", retry=RetryPolicy(max_attempts=1))
    def in_thread(payload: Any, ctx: JobContext) -> str:
        if not ctx.job.extra.get("snoozes"):
            ctx.snooze(timedelta(0))
        return "rested"

    del snoozes, in_thread


@pytest.mark.parametrize("how", ["raise", "call"])
async def test_a_snooze_spends_no_attempt_and_is_counted_until_its_bound(database_url: str, how: str) -> None:
    async with rigged(database_url, snoozing) as rig:
        job = await rig.adapter.schedule_job("snoozes", how)
        for count in (1, 2):
            await rig.work()
            row = await rig.row(job.id)
            assert (row["status"], row["attempt"], row["error"], row["worker_id"]) == (
                "DELAYED",
                0,
                None,
                None,
            )
            assert row["due"] - row["updated_at"] == timedelta(minutes=5)
            assert row["extra"]["snoozes"] == count
            await ready(rig, job.id)
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["error"]["name"]) == ("FAILED", "SnoozeLimit")
        details = [each.detail for each in await rig.adapter.job_events(job.id)]
        assert details == [{"count": n, "delay_s": 300, "reason": "not yet"} for n in (1, 2)]
        assert await rig.events(job.id) == ["snoozed", "snoozed"]


async def test_a_snooze_without_a_delay_is_ready_at_once(database_url: str) -> None:
    async with rigged(database_url, snoozing) as rig:
        job = await rig.adapter.schedule_job("in-thread")
        await rig.work()
        assert await rig.status(job.id) == "QUEUED"
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["attempt"], row["result"]) == ("COMPLETED", 1, "rested")


async def test_a_job_that_was_canceled_meanwhile_is_not_snoozed(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        @adapter.task("canceled")
        async def canceled(payload: Any, ctx: JobContext) -> None:
            await adapter.cancel_job(ctx.job.id)
            ctx.snooze(DAY)

        del canceled

    async with rigged(database_url, declare) as rig:
        job = await rig.adapter.schedule_job("canceled")
        await rig.work()
        assert await rig.status(job.id) == "CANCELED"


class QuotaError(Exception):
    pass


class BrokenError(Exception):
    pass


async def test_classes_say_which_errors_are_worth_another_attempt(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        @adapter.task("only", retry=QUICK, retry_on=(ConnectionError,))
        async def only(error: str) -> None:
            raise ConnectionResetError if error == "reset" else BrokenError

        @adapter.task("but", retry=QUICK, abort_on=(BrokenError,))
        def but(error: str) -> None:
            raise ConnectionResetError if error == "reset" else BrokenError

        del only, but

    async with rigged(database_url, declare) as rig:
        jobs = [
            await rig.adapter.schedule_job(task, error)
            for task in ("only", "but")
            for error in ("reset", "broken")
        ]
        await rig.work(3)
        rows = [await rig.row(job.id) for job in jobs]
        assert [(row["status"], row["attempt"]) for row in rows] == [("FAILED", 3), ("FAILED", 1)] * 2


async def test_catch_error_decides_for_the_task_before_the_one_of_all_tasks(database_url: str) -> None:
    asked: list[str] = []

    def declare(adapter: Adapter) -> None:
        def decide(payload: str, ctx: JobContext, error: BaseException) -> JobControl | None:
            asked.append(f"task {error}")
            match payload:
                case "abort":
                    return AbortJobError("no use")
                case "later":
                    raise RetryJobError("later", delay=DAY)
                case "snooze":
                    return SnoozeJobError(delay=DAY)
                case "broken":
                    raise LookupError("catch_error is broken")
                case _:
                    return None

        @adapter.task("judged", retry=RetryPolicy(max_attempts=2), catch_error=decide)
        async def judged(payload: str) -> None:
            raise QuotaError(payload)

        @judged.catch_error
        async def second(payload: str, ctx: JobContext, error: BaseException) -> JobControl | None:
            return AbortJobError("second") if payload == "second" else None

        @adapter.catch_error
        async def everywhere(payload: Any, ctx: JobContext, error: BaseException) -> JobControl | None:
            asked.append(f"all {error}")
            return RetryJobError("all", delay=2 * DAY) if payload == "all" else None

        del second, everywhere

    async with rigged(database_url, declare) as rig:
        kinds = ("abort", "later", "snooze", "broken", "second", "all", "none")
        jobs = {kind: await rig.adapter.schedule_job("judged", kind) for kind in kinds}
        await rig.work()
        rows = {kind: await rig.row(job.id) for kind, job in jobs.items()}
        assert {kind: row["status"] for kind, row in rows.items()} == {
            "abort": "FAILED",
            "later": "DELAYED",
            "snooze": "DELAYED",
            "broken": "DELAYED",
            "second": "FAILED",
            "all": "DELAYED",
            "none": "DELAYED",
        }
        # What is kept is what the handler raised, not what was decided about it.
        assert rows["abort"]["error"]["name"] == "QuotaError"
        assert rows["later"]["due"] - rows["later"]["updated_at"] == DAY
        assert rows["all"]["due"] - rows["all"]["updated_at"] == 2 * DAY
        assert rows["snooze"]["attempt"] == 0
        assert rows["broken"]["due"] - rows["broken"]["updated_at"] < timedelta(minutes=1)
        assert rig.adapter.observers.counts["hook_failed"] == 1
        assert {each for each in asked if each.startswith("all")} == {"all broken", "all all", "all none"}


async def test_what_a_handler_says_itself_is_not_judged(database_url: str) -> None:
    asked: list[BaseException] = []

    def declare(adapter: Adapter) -> None:
        def decide(payload: Any, ctx: JobContext, error: BaseException) -> JobControl:
            asked.append(error)
            return RetryJobError("again", delay=DAY)

        @adapter.task("aborts", catch_error=decide)
        async def aborts(payload: Any) -> None:
            raise AbortJobError("no use")

        del aborts

    async with rigged(database_url, declare) as rig:
        job = await rig.adapter.schedule_job("aborts")
        await rig.work()
        assert (await rig.status(job.id), asked) == ("FAILED", [])


async def test_a_catch_error_that_hangs_costs_its_time_and_not_the_outcome(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        async def decide(payload: Any, ctx: JobContext, error: BaseException) -> None:
            await asyncio.Event().wait()

        @adapter.task("hangs", retry=RetryPolicy(max_attempts=1), catch_error=decide)
        async def hangs(payload: Any) -> None:
            raise QuotaError

        del hangs

    async with rigged(database_url, declare, worker_hook_seconds=0.05) as rig:
        job = await rig.adapter.schedule_job("hangs")
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["error"]["name"]) == ("FAILED", "QuotaError")
        assert rig.adapter.observers.counts["hook_failed"] == 1


def test_a_bound_below_zero_is_refused() -> None:
    with pytest.raises(TaskDefinitionError, match="max_snoozes"):
        Adapter().task("task", max_snoozes=-1)(print)


async def test_the_bound_of_snoozes_holds_for_a_handler_without_a_context(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        @adapter.task("plain", max_snoozes=1)
        async def plain(payload: Any) -> None:
            raise SnoozeJobError(delay=timedelta(0))

        del plain

    async with rigged(database_url, declare) as rig:
        job = await rig.adapter.schedule_job("plain")
        await rig.work(2)
        row = await rig.row(job.id)
        assert (row["status"], row["error"]["name"]) == ("FAILED", "SnoozeLimit")
