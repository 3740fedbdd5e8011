"""The SQL function ``schedule_job``: rows that nobody has routed, and who routes them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest

from adapter import Adapter, JobSpec, JobStatus
from adapter.store import inserting
from adapter.store.steps import Statement
from tests.kit import eventually
from tests.rig import Rig, rigged


async def call(rig: Rig, arguments: LiteralString, **parameters: Any) -> UUID:
    return await rig.value("SELECT {s}.schedule_job(" + arguments + ") AS id", **parameters)


async def route(rig: Rig) -> int:
    return await rig.adapter.router.run_once()


async def test_a_job_of_sql_is_routed_and_runs(rig: Rig) -> None:
    job_id = await call(
        rig, "'echo', '{\"n\": 1}', user_id => 'u', tags => '{a,b}', metadata => '{\"m\": 1}'"
    )
    row = await rig.row(job_id)
    assert (row["executor"], row["epoch"], row["status"], job_id.version) == (None, 0, "PENDING", 7)
    assert await rig.work() == 0
    assert await route(rig) == 1
    row = await rig.row(job_id)
    assert (row["executor"], row["epoch"], row["status"], row["route_reason"]) == (
        "local",
        1,
        "QUEUED",
        "default",
    )
    assert (row["user_id"], row["tags"], row["metadata"], row["extra"]) == ("u", ["a", "b"], {"m": 1}, None)
    assert await route(rig) == 0
    assert await rig.work() == 1
    assert (await rig.row(job_id))["result"] == {"n": 1}
    assert await rig.events(job_id) == []


async def test_what_the_producer_says_wins_over_the_task_and_the_rest_is_the_tasks(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        @adapter.task("busy", priority=3, queue="heavy", ttl=timedelta(hours=1))
        async def busy(payload: Any) -> None: ...

        del busy

    async with rigged(database_url, declare=declare) as rig:
        plain = await call(rig, "'busy'")
        said = await call(
            rig,
            "'busy', priority => 9, queue => 'q', ttl => '5 min', max_attempts => 7, delay => '1 min', max_duration => '90 s'",
        )
        assert await route(rig) == 2
        first, second = await rig.row(plain), await rig.row(said)
    assert (first["priority"], first["queue"], first["max_attempts"]) == (3, "heavy", 3)
    assert timedelta(minutes=59) < first["expires_at"] - first["created_at"] < timedelta(minutes=61)
    assert (second["priority"], second["queue"], second["max_attempts"], second["status"]) == (
        9,
        "q",
        7,
        "DELAYED",
    )
    assert second["due"] - second["created_at"] == timedelta(minutes=1)
    assert second["expires_at"] - second["due"] == timedelta(minutes=5)
    assert second["max_duration"] == timedelta(seconds=90)


async def test_a_row_that_may_go_at_a_moment_says_so_before_and_after_it_is_routed(rig: Rig) -> None:
    job_id = await call(rig, "'echo', '1', remove_at => '2100-01-02T03:04:05Z'")
    gone = await call(rig, "'echo', '1', remove_at => '2100-01-02T03:04:05Z'")
    assert (await rig.adapter.cancel_job(gone)).status is JobStatus.CANCELED
    await route(rig)
    await rig.work()
    moment = datetime(2100, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert [(await rig.row(each))["remove_at"] for each in (job_id, gone)] == [moment, moment]


async def test_a_call_by_place_says_what_it_always_has(rig: Rig) -> None:
    job_id = await call(
        rig,
        "'echo', '1', 't', NULL, '1 min', '5 min', 9, 'q', 'k', '1 day', 'c', 'u', '{\"m\": 1}', '{a}', 7, '90 s', 'local', false",
    )
    await route(rig)
    row = await rig.row(job_id)
    assert (row["tag"], row["priority"], row["queue"], row["concurrency_key"]) == ("t", 9, "q", "c")
    assert (row["user_id"], row["tags"], row["max_attempts"], row["remove_at"]) == ("u", ["a"], 7, None)


async def test_keys_and_tags_are_those_of_every_other_call(rig: Rig) -> None:
    keyed = await call(rig, "'echo', idempotency_key => 'k'")
    tagged = await call(rig, "'echo', tag => 't'")
    assert await call(rig, "'echo', idempotency_key => 'k'") == keyed
    assert await call(rig, "'echo', tag => 't'") == tagged
    assert await call(rig, "'echo', tag => 't', idempotency_key => 'new'") == tagged
    assert [row["key"] for row in await rig.sql("SELECT key FROM {s}.job_keys")] == ["key:k"]
    assert (await rig.adapter.schedule_job("echo", idempotency_key="k")).id == keyed
    assert (await rig.adapter.schedule_job("echo", tag="t")).id == tagged
    await route(rig)
    await rig.work()
    assert await call(rig, "'echo', idempotency_key => 'k'") == keyed
    assert await call(rig, "'echo', tag => 't'") != tagged
    await rig.sql("UPDATE {s}.job_keys SET expires_at = now()")
    assert await call(rig, "'echo', idempotency_key => 'k'") != keyed


@pytest.mark.parametrize("name", ["tag", "idempotency_key"])
async def test_many_at_once_get_one_job(rig: Rig, name: LiteralString) -> None:
    async def one() -> UUID:
        async with await psycopg.AsyncConnection.connect(rig.url) as conn:
            cursor = await conn.execute(
                rig.schema.sql("SELECT {s}.schedule_job('echo', " + name + " => 'x')")
            )
            (job_id,) = (await cursor.fetchall())[0]
            return job_id

    assert len(set(await asyncio.gather(*(one() for _ in range(12))))) == 1
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs") == 1


async def test_each_row_is_routed_once_by_however_many(rig: Rig) -> None:
    ids = {await call(rig, "'both', to_jsonb(%(n)s::int)", n=n) for n in range(40)}
    counts = await asyncio.gather(*(route(rig) for _ in range(6)))
    while await route(rig):
        pass
    assert sum(counts) <= 40
    rows = await rig.sql("SELECT id, epoch, executor FROM {s}.worker_jobs_open")
    assert {(row["id"], row["epoch"], row["executor"]) for row in rows} == {
        (each, 1, "local") for each in ids
    }


async def test_a_row_that_was_routed_meanwhile_is_not_routed_again(rig: Rig) -> None:
    job_id = await call(rig, "'echo', '1'")
    await route(rig)
    planned = rig.adapter.planner.plan(JobSpec("echo", 2))
    planned.job.id = job_id
    steps = inserting.route(job_id, planned.job, 1)
    statement = next(steps)
    assert isinstance(statement, Statement)
    assert await rig.sql(statement.template, **statement.parameters) == []
    assert (await rig.row(job_id))["data"] == 1


async def test_stale_flags_route_nothing(rig: Rig) -> None:
    await rig.adapter.schedule_job("both")
    job_id = await call(rig, "'both'")
    async with await psycopg.AsyncConnection.connect(rig.url, autocommit=True) as conn:
        await conn.execute(rig.schema.sql("UPDATE {s}.flags_state SET version = version + 1"))
        await conn.execute(
            rig.schema.sql(
                "INSERT INTO {s}.executor_flags (kind, task, executor, version, reason, actor)"
                " SELECT 'kill', 'both', 'trigger', version, 'x', 'x' FROM {s}.flags_state"
            )
        )
    assert await route(rig) == 1
    assert (await rig.row(job_id))["epoch"] == 0
    assert await route(rig) == 1
    row = await rig.row(job_id)
    assert (row["executor"], row["epoch"], row["status"]) == ("trigger", 1, "PENDING")
    await rig.dispatch()
    assert len(rig.fake.runs) == 1


async def test_a_bad_payload_and_an_unknown_task_end_with_a_clear_error(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        @adapter.task("number")
        async def number(payload: int) -> None: ...

        @adapter.task("off", enabled=False)
        async def off(payload: Any) -> None: ...

        del number, off

    async with rigged(database_url, declare=declare) as rig:
        bad = await call(rig, "'number', '\"x\"', idempotency_key => 'k'")
        nowhere = await call(rig, "'number', '1', executor => 'moon'")
        unknown, off = await call(rig, "'nobody'"), await call(rig, "'off'")
        good = await call(rig, "'number', '1'")
        await route(rig)
        row = await rig.row(bad)
        assert (row["status"], row["error"]["name"]) == ("FAILED", "InvalidPayloadError")
        assert (await rig.row(nowhere))["error"]["name"] == "UnknownExecutorError"
        assert await rig.value("SELECT count(*) FROM {s}.job_keys") == 0
        assert await rig.status(good) == "QUEUED"
        # A deploy may bring it; then nobody is in doubt.
        assert await rig.status(unknown) == "PENDING"
        await rig.set(unknown, "created_at = now() - interval '2 minutes'")
        await rig.set(off, "created_at = now() - interval '2 minutes'")
        await route(rig)
        row = await rig.row(unknown)
        assert (row["status"], row["error"]["name"]) == ("FAILED", "UnknownTaskError")
        assert (await rig.row(off))["epoch"] == 0


async def test_a_task_that_only_others_know_is_left_to_them(rig: Rig) -> None:
    job_id = await call(rig, "'theirs'")
    await rig.set(job_id, "created_at = now() - interval '2 minutes'")
    await rig.sql("INSERT INTO {s}.advertised_tasks (task, worker_id) VALUES ('theirs', gen_random_uuid())")
    rig.adapter._flags.forget()
    assert await route(rig) == 0
    assert await rig.status(job_id) == "PENDING"


async def test_an_unrouted_job_can_be_canceled_and_expires(rig: Rig) -> None:
    job_id, late = await call(rig, "'echo'"), await call(rig, "'echo', ttl => '0 s'")
    assert (await rig.adapter.cancel_job(job_id)).status is JobStatus.CANCELED
    await rig.adapter.maintenance.run_once()
    assert await rig.status(late) == "EXPIRED"
    assert await route(rig) == 0


async def test_it_commits_or_rolls_back_with_the_producer(rig: Rig) -> None:
    async with await psycopg.AsyncConnection.connect(rig.url) as conn:
        await conn.execute(rig.schema.sql("SELECT {s}.schedule_job('echo', idempotency_key => 'k')"))
        assert await route(rig) == 0
        await conn.rollback()
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs") == 0
    assert await rig.value("SELECT count(*) FROM {s}.job_keys") == 0


async def test_a_notification_wakes_the_router_at_once(rig: Rig) -> None:
    async with rig.adapter.running(work=True, dispatch=False, sync=False):
        job_id = await call(rig, "'echo', '5'")
        await eventually(lambda: _is_done(rig, job_id), within=5)


async def _is_done(rig: Rig, job_id: UUID) -> bool:
    return await rig.status(job_id) == "COMPLETED"


async def test_arguments_that_contradict_each_other_are_refused(rig: Rig) -> None:
    for arguments in ("NULL", "'echo', due => now(), delay => '1 s'"):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            await call(rig, arguments)
