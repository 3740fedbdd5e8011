"""Shadows: copies go the other way too, are looked at, and count for nothing else."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from adapter import Adapter, JobContext, JobFilter
from adapter.domain.comparison import Comparison, Ignore
from adapter.domain.errors import InvalidArgumentError, JobStateError
from adapter.domain.shadow import ACKNOWLEDGE, SHADOW_QUEUE
from adapter.store import shadows as store
from adapter.store.shadows import Judgement
from tests.fakes.trigger_engine import FakeRun
from tests.rig import Rig, rigged

NOW = timedelta(0)
REASON = "week 1"


def same(first: Any, second: Any) -> bool:
    return first["n"] == second["n"]


def tasks(adapter: Adapter, calls: list[Any]) -> None:
    def told(payload: Any, ctx: JobContext, result: Any) -> None:
        del payload, ctx, result
        calls.append("hook")

    @adapter.task(
        "pure",
        executor="trigger",
        remote_id={"trigger": "pure-there"},
        pure=True,
        compare=Comparison(ignore=["/at", Ignore("/rows/*/id", until=date(2020, 1, 1))], errors=False),
    )
    async def pure(payload: Any) -> Any:
        calls.append(payload)
        if payload == "broken":
            raise ValueError(payload)
        return payload

    @adapter.task("effects", remote_id={"trigger": "effects-there"}, on_success=told)
    async def effects(payload: Any) -> Any:
        calls.append(payload)
        return payload

    @adapter.task("there", pure=True, remote_id={"trigger": "there"}, compare=Comparison(keep_values=True))
    async def there(payload: Any, ctx: JobContext) -> Any:
        calls.append(ctx.job.id)
        return payload

    @adapter.task("judged", executor="trigger", pure=True, compare=Comparison(equal=same))
    async def judged(payload: Any) -> Any:
        calls.append(payload)
        return payload

    adapter.remote_task("remote", executor="trigger", pure=True)
    del pure, effects, there, judged


@pytest.fixture
def calls() -> list[Any]:
    """What handlers and hooks were called with."""
    return []


@pytest.fixture
async def rig(database_url: str, calls: list[Any]) -> AsyncGenerator[Rig]:
    async with rigged(database_url, lambda adapter: tasks(adapter, calls)) as made:
        yield made


async def turn_on(rig: Rig, task: str, mode: Any, at: str, **options: Any) -> None:
    await rig.adapter.shadow(task, mode=mode, at=at, reason=REASON, **options)
    await rig.sql(
        "UPDATE {s}.executor_flags SET updated_at = now() - interval '1 minute' WHERE kind = 'shadow'"
    )


async def done_there(rig: Rig, task: str, data: Any, output: Any) -> UUID:
    """A job of the task that has run at the remote."""
    job, run = await rig.sent(task, data)
    rig.fake.start(run.id)
    rig.fake.complete(run.id, output=output)
    await rig.adapter.reconcile()
    return job


async def shadows(rig: Rig) -> list[Any]:
    return await rig.sql("SELECT * FROM {s}.shadows ORDER BY made_at, job_id")


async def look(rig: Rig) -> int:
    return await rig.adapter.shadows.run_once(NOW)


async def the_copy(rig: Rig) -> tuple[UUID, FakeRun | None]:
    """The only copy, dispatched where it goes to a remote."""
    copy = (await shadows(rig))[0]["shadow_id"]
    await rig.dispatch()
    run_id = (await rig.row(copy))["remote_run_id"]
    return copy, rig.fake.runs[run_id] if run_id else None


async def begin(rig: Rig) -> None:
    await rig.sql(
        "INSERT INTO {s}.shadow_progress (task, executor, flag_version, seen_at, seen_id)"
        " SELECT task, executor, version, updated_at, gen_random_uuid() FROM {s}.executor_flags WHERE kind = 'shadow'"
    )


async def test_what_ran_there_runs_here_too_and_is_equal(rig: Rig, calls: list[Any]) -> None:
    await turn_on(rig, "pure", "execute", "local")
    job = await done_there(rig, "pure", {"a": 1, "at": 5}, {"a": 1.0, "at": 7})
    assert await look(rig) == 1
    (copy, _) = await the_copy(rig)
    row = await rig.row(copy)
    assert (row["executor"], row["queue"], row["tag"], row["idempotency_key"]) == (
        "local",
        SHADOW_QUEUE,
        None,
        None,
    )
    assert row["extra"]["shadow_of"] == str(job)
    assert await rig.work() == 1
    assert calls == [{"a": 1, "at": 5}]
    assert await look(rig) == 1
    found = (await shadows(rig))[0]
    assert (found["verdict"], found["paths"], found["detail"]) == ("equal", None, None)
    assert found["record_hash"] == found["shadow_hash"]
    # Looked at once.
    assert await look(rig) == 0


async def test_what_ran_here_runs_there_too_and_differs_without_a_word_of_the_payload(rig: Rig) -> None:
    await turn_on(rig, "pure", "execute", "trigger")
    made = await rig.adapter.schedule_job("pure", {"who": "secret"}, executor="local")
    assert await rig.work() == 1
    assert await look(rig) == 1
    copy, run = await the_copy(rig)
    assert run is not None
    assert (run.task, run.payload) == ("pure-there", {"who": "secret"})
    rig.fake.start(run.id)
    rig.fake.complete(run.id, output={"who": "other", "new": "secret"})
    await rig.adapter.reconcile()
    assert await rig.status(copy) == "COMPLETED"
    await look(rig)
    found = (await shadows(rig))[0]
    assert found["job_id"] == made.id
    assert (found["verdict"], found["paths"]) == ("different", ["/result/new", "/result/who"])
    assert found["record_hash"] != found["shadow_hash"]
    assert "secret" not in str(dict(found))
    assert "other" not in str(dict(found))


@pytest.mark.parametrize("at", ["local", "trigger"])
async def test_a_copy_that_is_only_taken_goes_the_whole_way_and_calls_no_handler(
    rig: Rig, calls: list[Any], at: str
) -> None:
    await turn_on(rig, "effects", "enqueue", at)
    if at == "trigger":
        await rig.adapter.schedule_job("effects", 1)
        await rig.work()
        before = [1, "hook"]
    else:
        job = await rig.adapter.schedule_job("effects", 1, executor="trigger")
        await rig.dispatch()
        run = rig.fake.runs[(await rig.row(job.id))["remote_run_id"]]
        rig.fake.start(run.id)
        rig.fake.complete(run.id, output=1)
        await rig.adapter.reconcile()
        before = []
    await look(rig)
    copy, sent = await the_copy(rig)
    if sent is None:
        await rig.work()
    else:
        # Another task takes it, so that one without our hooks cannot have its effects twice.
        assert (sent.task, sent.payload) == (ACKNOWLEDGE, 1)
        rig.fake.start(sent.id)
        rig.fake.complete(sent.id, output=None)
        await rig.adapter.reconcile()
    assert await rig.status(copy) == "COMPLETED"
    assert calls == before
    await look(rig)
    assert [each["verdict"] for each in await shadows(rig)] == ["taken"]


async def test_a_copy_that_fails_hurts_nobody(rig: Rig) -> None:
    await turn_on(rig, "pure", "execute", "local")
    job = await done_there(rig, "pure", "broken", "fine")
    await look(rig)
    copy, _ = await the_copy(rig)
    await rig.set(copy, "max_attempts = 1")
    await rig.work()
    assert await rig.status(copy) == "FAILED"
    await look(rig)
    found = (await shadows(rig))[0]
    assert (found["verdict"], found["paths"]) == ("different", ["/result", "/status"])
    assert found["detail"]["shadow"] == {"status": "FAILED", "error": "ValueError"}
    assert await rig.status(job) == "COMPLETED"
    # Not among the dead, in no list, and not to be run again as a job.
    assert (await rig.adapter.dead_letters()).letters == ()
    assert [each.id for each in (await rig.adapter.list_jobs()).jobs] == [job]
    assert len((await rig.adapter.list_jobs(JobFilter(shadows=True))).jobs) == 2
    with pytest.raises(JobStateError, match="is a shadow"):
        await rig.adapter.replay_job(copy)


async def test_rules_end_on_their_day_and_failures_are_compared(rig: Rig) -> None:
    await turn_on(rig, "pure", "execute", "local")
    await done_there(rig, "pure", {"rows": [{"id": 1}]}, {"rows": [{"id": 2}]})
    await look(rig)
    await rig.work()
    await look(rig)
    assert [(each["verdict"], each["paths"]) for each in await shadows(rig)] == [
        ("different", ["/result/rows/0/id"])
    ]


async def test_a_function_of_ones_own_decides_and_its_faults_say_nothing(rig: Rig) -> None:
    await turn_on(rig, "judged", "execute", "local")
    for mine, theirs in (({"n": 1}, {"n": 1, "x": 2}), ({"n": 1}, {"n": 2}), ({}, {"n": 2})):
        await done_there(rig, "judged", mine, theirs)
    await look(rig)
    await rig.work()
    await look(rig)
    found = {each["verdict"]: each for each in await shadows(rig)}
    assert set(found) == {"equal", "different", "void"}
    assert found["different"]["paths"] == ["/result"]
    assert found["void"]["detail"] == {"why": "it could not be compared: KeyError"}


async def test_values_are_kept_only_where_the_task_says_so(rig: Rig) -> None:
    await turn_on(rig, "there", "execute", "trigger")
    await rig.adapter.schedule_job("there", 1)
    await rig.work()
    await look(rig)
    _, run = await the_copy(rig)
    assert run is not None
    rig.fake.start(run.id)
    rig.fake.complete(run.id, output=2)
    await rig.adapter.reconcile()
    await look(rig)
    assert (await shadows(rig))[0]["detail"]["values"] == {"record": 1, "shadow": 2}


async def test_more_than_may_be_open_are_dropped_and_counted(rig: Rig) -> None:
    await turn_on(rig, "there", "execute", "trigger", most_open=2)
    for n in range(5):
        await rig.adapter.schedule_job("there", n)
    assert await rig.work() == 5
    assert await look(rig) == 2
    assert len(await shadows(rig)) == 2
    assert await rig.value("SELECT dropped FROM {s}.shadow_progress") == 3
    # What was passed over is not looked at again, though there is room now.
    await rig.sql("UPDATE {s}.shadows SET verdict = 'void'")
    assert await look(rig) == 0


async def test_a_sample_is_a_sample(rig: Rig) -> None:
    await turn_on(rig, "there", "execute", "trigger", percent=0)
    await rig.adapter.schedule_job("there", 1)
    await rig.work()
    assert await look(rig) == 0
    assert await rig.value("SELECT dropped FROM {s}.shadow_progress") == 0


async def test_only_jobs_that_ran_elsewhere_since_it_was_switched_on_are_copied(rig: Rig) -> None:
    await rig.adapter.schedule_job("there", "before")
    await rig.work()
    await rig.adapter.shadow("there", mode="execute", at="trigger", reason=REASON)
    assert await look(rig) == 0
    canceled = await rig.adapter.schedule_job("there", "canceled")
    await canceled.cancel()
    assert await look(rig) == 0
    await rig.adapter.schedule_job("there", "after")
    await rig.work()
    assert await look(rig) == 1
    # A copy is no job of its own: it has no copy.
    await rig.adapter.shadow("there", mode="execute", at="local", reason=REASON)
    _, run = await the_copy(rig)
    assert run is not None
    rig.fake.start(run.id)
    rig.fake.complete(run.id, output="after")
    await rig.adapter.reconcile()
    await look(rig)
    assert len(await shadows(rig)) == 1


async def test_off_is_off_and_what_ended_meanwhile_is_left(rig: Rig) -> None:
    await turn_on(rig, "there", "execute", "trigger")
    assert await look(rig) == 0
    change = await rig.adapter.shadow("there", mode="off", at="trigger", reason="enough")
    assert change is not None
    assert change.after is None
    assert await rig.adapter.shadow("there", mode="off", at="trigger", reason="enough") is None
    await rig.adapter.schedule_job("there", 1)
    await rig.work()
    assert await look(rig) == 0
    await rig.adapter.shadow("there", mode="execute", at="trigger", reason="again")
    assert await look(rig) == 0
    history = await rig.adapter.cutover_history("there")
    assert [(each.kind, each.reason) for each in history] == [
        ("shadow", each) for each in ("again", "enough", REASON)
    ]


async def test_effects_are_never_had_twice(rig: Rig) -> None:
    with pytest.raises(InvalidArgumentError, match="pure=True"):
        await rig.adapter.shadow("effects", mode="execute", at="trigger", reason=REASON)
    with pytest.raises(InvalidArgumentError, match="cannot run at 'local'"):
        await rig.adapter.shadow("remote", mode="execute", at="local", reason=REASON)
    wrong: Any = "some"
    with pytest.raises(InvalidArgumentError, match="off, enqueue or execute"):
        await rig.adapter.shadow("pure", mode=wrong, at="local", reason=REASON)
    options: Any
    for options in ({"percent": 101}, {"most_open": 0}):
        with pytest.raises(InvalidArgumentError, match=" must be from "):
            await rig.adapter.shadow("pure", mode="enqueue", at="local", reason=REASON, **options)
    # Said when it was pure, and read by a process where it is not.
    await turn_on(rig, "effects", "enqueue", "trigger")
    await rig.sql(
        "UPDATE {s}.executor_flags SET detail = %(d)s", d=Jsonb({"mode": "execute", "most_open": 5})
    )
    await rig.adapter.schedule_job("effects", 1)
    await rig.work()
    assert await look(rig) == 0
    assert await rig.value("SELECT dropped FROM {s}.shadow_progress") == 1


async def test_an_executor_that_must_not_get_jobs_gets_no_copies(rig: Rig) -> None:
    await turn_on(rig, "there", "execute", "trigger")
    await rig.adapter.kill("there", to="local", reason="INC-1")
    await rig.adapter.schedule_job("there", 1)
    await rig.work()
    assert await look(rig) == 0
    await rig.adapter.clear_flag("kill", "there", reason="over")
    await rig.adapter.open_circuit("there", executor="trigger", reason="INC-2")
    await rig.adapter.schedule_job("there", 2)
    await rig.work()
    assert await look(rig) == 0
    assert await rig.value("SELECT dropped FROM {s}.shadow_progress") == 2


async def test_copies_do_not_count_in_failback_and_hooks_and_observers_do_not_hear_of_them(rig: Rig) -> None:
    seen: list[UUID] = []
    rig.adapter.observers.on_finished(lambda job: seen.append(job.id))
    await turn_on(rig, "there", "execute", "trigger")
    job = await rig.adapter.schedule_job("there", 1)
    await rig.work()
    await look(rig)
    copy = (await shadows(rig))[0]["shadow_id"]
    for _ in range(3):
        rig.fake.next_fault("connect_error", on="trigger")
    await rig.dispatch()
    await rig.due_now(copy)
    _, run = await the_copy(rig)
    assert run is not None
    rig.fake.start(run.id)
    rig.fake.fail(run.id, {"name": "X", "message": "x"}, status="SYSTEM_FAILURE")
    await rig.adapter.reconcile()
    await rig.adapter.failback.run_once()
    assert [each for each in (await rig.adapter.executor_health()).tasks if each.task == "there"] == []
    assert seen == [job.id]
    await look(rig)
    assert (await shadows(rig))[0]["detail"] == {"why": "it ended SYSTEM_FAILURE"}


async def test_two_processes_make_one_copy_of_a_job(rig: Rig, database_url: str) -> None:
    await turn_on(rig, "there", "execute", "trigger")
    await rig.adapter.schedule_job("there", 1)
    await rig.work()
    async with rigged(database_url, lambda adapter: tasks(adapter, [])) as other:
        async with rig.adapter.database.transaction() as conn:
            held = "SELECT FROM {s}.shadow_progress FOR UPDATE"
            await begin(rig)
            await conn.execute(rig.schema.sql(held))
            # It is in other hands: nothing to do, and nothing to wait for.
            assert await look(other) == 0
        assert await look(rig) + await look(other) == 1
    assert len(await shadows(rig)) == 1


async def test_a_copy_that_does_not_end_is_given_up_and_canceled(rig: Rig) -> None:
    await turn_on(rig, "there", "execute", "trigger")
    await rig.adapter.schedule_job("there", 1)
    await rig.work()
    await look(rig)
    copy = (await shadows(rig))[0]["shadow_id"]
    await rig.sql("UPDATE {s}.shadows SET made_at = now() - interval '2 days'")
    await look(rig)
    assert (await shadows(rig))[0]["verdict"] == "void"
    assert await rig.status(copy) == "CANCELED"


async def test_a_verdict_is_given_once_and_kept_for_a_month(rig: Rig) -> None:
    await turn_on(rig, "there", "enqueue", "trigger")
    await rig.adapter.schedule_job("there", 1)
    await rig.work()
    await look(rig)
    copy, run = await the_copy(rig)
    assert run is not None
    await rig.adapter.cancel_job(copy)
    await rig.adapter.reconcile()
    assert await rig.status(copy) == "CANCELED"
    async with rig.adapter.database.connection() as conn:
        (ended,) = await store.ended_copies(conn, rig.schema, ["there"], 10)
        assert await store.judge(conn, rig.schema, ended, Judgement(verdict="refused"))
        assert not await store.judge(conn, rig.schema, ended, Judgement(verdict="taken"))
    assert [each["verdict"] for each in await shadows(rig)] == ["refused"]
    await rig.adapter.retention.run_once()
    assert len(await shadows(rig)) == 1
    await rig.sql("UPDATE {s}.shadows SET made_at = now() - interval '31 days'")
    await rig.adapter.retention.run_once()
    assert await shadows(rig) == []


async def test_middleware_is_a_part_of_how_a_copy_runs_and_hooks_are_not(
    database_url: str, calls: list[Any]
) -> None:
    def declare(adapter: Adapter) -> None:
        @asynccontextmanager
        async def around(ctx: JobContext) -> AsyncGenerator[None]:
            calls.append(("middleware", ctx.job.executor))
            yield

        def started(payload: Any, ctx: JobContext) -> None:
            calls.append((payload, ctx.attempt))

        @adapter.task("pure", remote_id={"trigger": "pure"}, pure=True, middleware=around, on_start=started)
        async def pure(payload: Any) -> Any:
            calls.append("handler")
            return payload

        del pure

    async with rigged(database_url, declare) as rig:
        await turn_on(rig, "pure", "execute", "local")
        job, run = await rig.sent("pure", 1, executor="trigger")
        rig.fake.start(run.id)
        rig.fake.complete(run.id, output=1)
        await rig.adapter.reconcile()
        await look(rig)
        await rig.work()
        await look(rig)
        assert calls == [("middleware", "local"), "handler"]
        assert [(each["job_id"], each["verdict"]) for each in await shadows(rig)] == [(job, "equal")]
