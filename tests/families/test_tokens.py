"""Handlers that wait for tokens: no slot held, the first completion counts, and every try finds the same."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from adapter import Adapter, JobContext, Queue, RetryPolicy, TokenFilter, TokenTimedOutError, WaitToken
from adapter.domain.errors import InvalidArgumentError, TokenNotFoundError
from adapter.domain.identity import public_id
from adapter.domain.wait_token import WAITPOINT, TokenStatus
from adapter.store import wait_tokens
from tests.families.test_again import children, ended
from tests.kit import eventually
from tests.rig import Rig, new_id
from tests.stage import Stage, playing, running

ONCE = RetryPolicy(max_attempts=1)
HOUR = timedelta(hours=1)


def approvals(adapter: Adapter, stage: Stage) -> None:
    @adapter.task("approved", queue=Queue("narrow", concurrency_limit=1), retry=ONCE)
    async def approved(token: str, ctx: JobContext) -> Any:
        stage.seen.append("before")
        try:
            return await ctx.wait_for_token(token)
        except TokenTimedOutError:
            return "too late"

    @adapter.task("both", retry=ONCE)
    async def both(token: str, ctx: JobContext) -> list[Any]:
        return [*await asyncio.gather(ctx.trigger_and_wait("held", 1), ctx.wait_for_token(UUID(token)))]

    @adapter.task("held")
    async def held(payload: Any) -> Any:
        await stage.gate.wait()
        return payload

    del approved, both, held


def shown(token: WaitToken) -> str:
    return public_id(WAITPOINT, token.id)


async def waits(rig: Rig, job_id: UUID) -> bool:
    row = await rig.row(job_id)
    return (row["status"], row["waiting_for"]) == ("WAITING", "token")


async def is_late(rig: Rig, token: WaitToken) -> None:
    await rig.sql(
        "UPDATE {s}.wait_tokens SET timeout_at = now() - interval '1 s' WHERE id = %(id)s", id=token.id
    )


async def test_a_job_waits_without_a_slot_says_for_what_and_goes_on_with_the_output(
    database_url: str,
) -> None:
    async with playing(database_url, approvals) as (rig, _), running(rig.worker(concurrency=1)):
        token = await rig.adapter.create_token(timeout=HOUR, tags=["order:1"])
        job = await rig.adapter.schedule_job("approved", shown(token))
        await eventually(lambda: waits(rig, job.id))
        [reason] = await rig.adapter.why_waiting(job.id)
        assert (reason.code, reason.detail, reason.until) == (
            "token",
            {"token": shown(token)},
            token.timeout_at,
        )
        # The only slot and the only place in the queue are free meanwhile.
        answered = await rig.adapter.create_token()
        assert await rig.adapter.complete_token(answered, "yes", actor="eve")
        other = await rig.adapter.schedule_job("approved", shown(answered))
        assert await other.result(timedelta(seconds=10)) == "yes"
        first = await rig.adapter.complete_token(shown(token), {"ok": 1})
        second = await rig.adapter.complete_token(token, {"ok": 2})
        assert (first, second) == (True, False)
        assert await job.result(timedelta(seconds=10)) == {"ok": 1}
        assert (await rig.row(job.id))["attempt"] == 1
        ended = await rig.adapter.get_token(answered.id)
        assert ended is not None
        assert (ended.status, ended.output, ended.ended_by) == (TokenStatus.COMPLETED, "yes", "eve")


async def test_a_token_that_nobody_completes_in_time_ends_the_wait_whoever_looks(database_url: str) -> None:
    async with playing(database_url, approvals) as (rig, _), running(rig.worker()):
        token = await rig.adapter.create_token(timeout=HOUR)
        job = await rig.adapter.schedule_job("approved", shown(token))
        await eventually(lambda: waits(rig, job.id))
        await is_late(rig, token)
        # Late by the clock, though nobody has written it down: it is no more to be completed.
        assert not await rig.adapter.complete_token(token, "late")
        assert await job.result(timedelta(seconds=10)) == "too late"
        await rig.adapter.maintenance.run_once()
        row = (await rig.sql("SELECT * FROM {s}.wait_tokens WHERE id = %(id)s", id=token.id))[0]
        assert (row["status"], row["ended_at"], row["output"]) == ("TIMED_OUT", row["timeout_at"], None)


async def test_a_job_that_nobody_holds_is_woken_by_its_token_and_by_nothing_else(database_url: str) -> None:
    async with playing(database_url, approvals) as (rig, stage):
        token = await rig.adapter.create_token()
        async with running(rig.worker(grace=timedelta(seconds=0.2))):
            job = await rig.adapter.schedule_job("approved", shown(token))
            await eventually(lambda: waits(rig, job.id))
        row = await rig.row(job.id)
        assert (row["status"], row["waiting_for"], row["worker_id"]) == ("WAITING", "token", None)
        await rig.adapter.maintenance.run_once()
        assert await rig.status(job.id) == "WAITING"
        await rig.adapter.complete_token(token, 7)
        await rig.adapter.maintenance.run_once()
        assert await rig.status(job.id) == "QUEUED"
        await rig.work()
        assert (await rig.row(job.id))["result"] == 7
        # The handler began again, from its top, and spent nothing.
        assert stage.seen == ["before", "before"]
        assert (await rig.row(job.id))["attempt"] == 1


async def test_a_dead_workers_job_is_rescued_and_finds_its_token(database_url: str) -> None:
    async with playing(database_url, approvals) as (rig, _):
        token = await rig.adapter.create_token()
        async with running(rig.worker()):
            job = await rig.adapter.schedule_job("approved", shown(token), max_attempts=2)
            await eventually(lambda: waits(rig, job.id))
            await rig.sql(
                "INSERT INTO {s}.workers (id, name, host, pid, lease, seen_at)"
                " VALUES (%(id)s, 'dead', 'there', 1, interval '0', now() - interval '1 hour')",
                id=UUID(int=7),
            )
            await rig.set(job.id, "worker_id = '00000000-0000-0000-0000-000000000007'")
            await rig.adapter.complete_token(token, "found")
            await eventually(lambda: rescued(rig, job.id), within=20)
            assert await job.result(timedelta(seconds=10)) == "found"


async def rescued(rig: Rig, job_id: UUID) -> bool:
    await rig.adapter.maintenance.run_once()
    return "rescued" in await rig.events(job_id)


async def test_a_child_and_a_token_at_once_and_a_cancel_in_between(database_url: str) -> None:
    async with playing(database_url, approvals) as (rig, stage), running(rig.worker()):
        token = await rig.adapter.create_token()
        job = await rig.adapter.schedule_job("both", str(token.id))
        # The child ends after we have looked; that the job runs for a moment then is too short to be seen.
        await eventually(lambda: waits(rig, job.id))
        [child] = await eventually(lambda: children(rig, job.id))
        stage.gate.set()
        await eventually(lambda: ended(rig, child))
        await rig.adapter.complete_token(token, 2)
        assert await job.result(timedelta(seconds=10)) == [1, 2]
        never = await rig.adapter.create_token()
        stopped = await rig.adapter.schedule_job("approved", shown(never))
        await eventually(lambda: waits(rig, stopped.id))
        await stopped.cancel()
        await eventually(lambda: _is(rig, stopped.id, "CANCELED"), within=10)


async def _is(rig: Rig, job_id: UUID, status: str) -> bool:
    return await rig.status(job_id) == status


async def test_a_token_that_is_not_there_fails_the_try(database_url: str) -> None:
    async with playing(database_url, approvals) as (rig, _):
        jobs = [await rig.adapter.schedule_job("approved", text) for text in (f"{WAITPOINT}nothing", "x")]
        await rig.work(2)
        for job in jobs:
            assert (await rig.row(job.id))["error"]["name"] == "TokenNotFoundError"


async def test_of_many_that_complete_a_token_one_counts(rig: Rig) -> None:
    token = await rig.adapter.create_token()
    done = await asyncio.gather(*(rig.adapter.complete_token(token, n) for n in range(20)))
    assert done.count(True) == 1
    now = await rig.adapter.get_token(token)
    assert now is not None
    assert now.output == done.index(True)
    with pytest.raises(TokenNotFoundError):
        await rig.adapter.complete_token(new_id())
    assert await rig.adapter.get_token(new_id()) is None


async def test_a_key_stands_for_one_token_until_it_expires(rig: Rig) -> None:
    made = await asyncio.gather(*(rig.adapter.create_token(idempotency_key="k") for _ in range(10)))
    assert len({each.id for each in made}) == 1
    assert [each.is_cached for each in made].count(False) == 1
    await rig.adapter.complete_token(made[0], 1)
    again = await rig.adapter.create_token(idempotency_key="k", idempotency_ttl=HOUR)
    assert (again.id, again.status, again.is_cached) == (made[0].id, TokenStatus.COMPLETED, True)
    await rig.sql("UPDATE {s}.wait_tokens SET idempotency_expires_at = now()")
    fresh = await rig.adapter.create_token(idempotency_key="k", idempotency_ttl=HOUR)
    assert (fresh.id != made[0].id, fresh.is_cached) == (True, False)
    assert fresh.idempotency_expires_at == fresh.created_at + HOUR


async def test_lists_have_filters_and_pages_in_both_directions(rig: Rig) -> None:
    made = [await rig.adapter.create_token(tags=["all", f"n{n}"]) for n in range(5)]
    newest = [each.id for each in reversed(made)]
    await rig.adapter.complete_token(made[1])
    late = await rig.adapter.create_token(timeout=HOUR, idempotency_key="late")
    await is_late(rig, late)

    async def ids(**wanted: Any) -> list[UUID]:
        return [each.id for each in (await rig.adapter.list_tokens(TokenFilter(**wanted))).tokens]

    assert await ids(statuses=(TokenStatus.COMPLETED,)) == [made[1].id]
    assert await ids(statuses=(TokenStatus.TIMED_OUT,)) == [late.id]
    assert await ids(tags=("n0", "n3")) == [made[3].id, made[0].id]
    assert await ids(idempotency_key="late") == [late.id]
    assert await ids(created_to=made[0].created_at) == [made[0].id]
    first = await rig.adapter.list_tokens(TokenFilter(tags=("all",), limit=2))
    assert ([each.id for each in first.tokens], first.previous) == (newest[:2], None)
    second = await rig.adapter.list_tokens(TokenFilter(tags=("all",), limit=2, after=first.next))
    last = await rig.adapter.list_tokens(TokenFilter(tags=("all",), limit=2, after=second.next))
    assert ([each.id for each in last.tokens], last.next) == (newest[4:], None)
    back = await rig.adapter.list_tokens(TokenFilter(tags=("all",), limit=2, before=last.previous))
    assert [each.id for each in back.tokens] == newest[2:4]
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.list_tokens(TokenFilter(after="nonsense"))


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": timedelta(seconds=-1)},
        {"timeout": datetime.fromisoformat("2030-01-01")},
        {"idempotency_key": ""},
        {"idempotency_key": "k" * 2049},
        {"idempotency_key": "k", "idempotency_ttl": timedelta(seconds=-1)},
        {"tags": ["t"] * 11},
        {"tags": "t"},
        {"tags": ["t" * 129]},
    ],
)
async def test_what_cannot_be_is_refused(rig: Rig, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.create_token(**options)


async def test_a_time_is_as_good_as_a_span_and_old_tokens_go(rig: Rig) -> None:
    until = datetime(2100, 1, 1, tzinfo=UTC)
    token = await rig.adapter.create_token(timeout=until)
    assert token.timeout_at == until
    await rig.adapter.complete_token(token)
    await rig.adapter.retention.run_once()
    assert await rig.adapter.get_token(token) is not None
    await rig.sql("UPDATE {s}.wait_tokens SET ended_at = now() - interval '31 days'")
    await rig.adapter.retention.run_once()
    assert await rig.adapter.get_token(token) is None


async def test_what_is_completed_just_as_its_time_is_over_is_the_same_for_both(rig: Rig) -> None:
    database, token = rig.adapter.database, await rig.adapter.create_token(timeout=HOUR)
    async with database.connection() as taker:
        async with database.transaction() as giver:
            await giver.execute("SELECT now()")
            await rig.sql(
                "UPDATE {s}.wait_tokens SET timeout_at = clock_timestamp() WHERE id = %(id)s", id=token.id
            )
            # It came in time, and is not committed yet.
            assert await wait_tokens.complete(giver, database.schema, token.id, "yes", "me")
            looking = asyncio.get_running_loop().create_task(
                wait_tokens.settled(taker, database.schema, token.id)
            )
            await eventually(lambda: _waits_or_ends(rig, looking))
        seen = await looking
    assert seen is not None
    assert (seen.status, seen.output) == (TokenStatus.COMPLETED, "yes")
    late = await rig.adapter.create_token(timeout=HOUR)
    await is_late(rig, late)
    async with database.connection() as conn:
        seen = await wait_tokens.settled(conn, database.schema, late.id)
    assert seen is not None
    assert seen.status is TokenStatus.TIMED_OUT
    assert await rig.value("SELECT status FROM {s}.wait_tokens WHERE id = %(id)s", id=late.id) == "TIMED_OUT"


async def _waits_or_ends(rig: Rig, task: asyncio.Future[Any]) -> bool:
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return task.done() or await rig.value(blocked) > 0
