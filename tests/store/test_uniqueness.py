"""What a second call does: keep, replace (debounce), reject, throttle; exact under concurrency."""

import asyncio
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from adapter import Adapter, JobSpec, JobStatus, Settings
from adapter.core import scheduling
from adapter.core.planning import ScheduleOptions
from adapter.domain.errors import DuplicateJobError, InvalidArgumentError
from adapter.domain.job import NewJob
from adapter.store import upkeep
from adapter.store.steps import Steps
from tests.rig import Rig

MINUTE = timedelta(minutes=1)
NAMES: list[dict[str, Any]] = [{"tag": "t"}, {"idempotency_key": "k"}]


async def count(rig: Rig) -> int:
    return await rig.value("SELECT count(*) FROM {s}.worker_jobs")


@pytest.mark.parametrize("name", NAMES, ids=str)
async def test_the_newest_wins_while_nothing_has_started(rig: Rig, name: dict[str, Any]) -> None:
    first = await rig.adapter.schedule_job("both", {"n": 1}, delay=MINUTE, **name)
    second = await rig.adapter.schedule_job(
        "both", {"n": 2}, delay=2 * MINUTE, priority=7, queue="other", tags=["x"], metadata={"m": 1},
        max_attempts=9, user_id="u", on_conflict="replace", **name,
    )  # fmt: skip
    assert (second.id, second.deduplicated, second.job.data) == (first.id, True, {"n": 2})
    row = await rig.row(first.id)
    assert (row["data"], row["priority"], row["queue"], row["tags"]) == ({"n": 2}, 7, "other", ["x"])
    assert (row["metadata"], row["max_attempts"], row["user_id"]) == ({"m": 1}, 9, "u")
    assert (row["status"], row["epoch"], row["executor"]) == ("DELAYED", 2, "local")
    assert timedelta(seconds=119) < row["due"] - row["created_at"] < timedelta(seconds=140)
    third = await rig.adapter.schedule_job("both", {"n": 3}, on_conflict="replace", **name)
    row = await rig.row(first.id)
    assert (third.id, row["data"], row["status"], row["due"]) == (first.id, {"n": 3}, "QUEUED", None)
    assert (row["priority"], row["queue"], row["tags"], row["max_attempts"]) == (0, "default", None, 3)
    assert await rig.events(first.id) == ["replaced", "replaced"]
    assert await rig.work() == 1
    assert (await rig.row(first.id))["result"] == {"attempt": 1, "payload": {"n": 3}}
    assert await count(rig) == 1


@pytest.mark.parametrize("name", NAMES, ids=str)
async def test_a_debounce_waits_no_longer_than_its_longest_wait(rig: Rig, name: dict[str, Any]) -> None:
    options: dict[str, Any] = {"delay": MINUTE, "on_conflict": "replace", "debounce_max": 3 * MINUTE, **name}
    job = await rig.adapter.schedule_job("echo", 0, **options)
    await rig.set(job.id, "created_at = now() - interval '2 minutes 30 seconds'")
    again = await rig.adapter.schedule_job("echo", 1, ttl=MINUTE, **options)
    row = await rig.row(job.id)
    assert (again.id, row["data"]) == (job.id, 1)
    assert row["due"] - row["created_at"] == 3 * MINUTE
    assert row["expires_at"] - row["due"] == MINUTE
    await rig.set(job.id, "created_at = now() - interval '10 minutes'")
    await rig.adapter.schedule_job("echo", 2, **options)
    async with rig.adapter.database.connection() as conn:
        await upkeep.promote(conn, rig.schema)
    row = await rig.row(job.id)
    assert (row["status"], row["data"]) == ("QUEUED", 2)


async def test_a_started_job_is_left_and_its_tag_makes_a_new_one_its_key_does_not(rig: Rig) -> None:
    tagged = await rig.adapter.schedule_job("echo", 1, tag="t")
    keyed = await rig.adapter.schedule_job("echo", 1, idempotency_key="k")
    await rig.claim()
    fresh = await rig.adapter.schedule_job("echo", 2, tag="t", on_conflict="replace")
    held = await rig.adapter.schedule_job("echo", 2, idempotency_key="k", on_conflict="replace")
    assert (fresh.id != tagged.id, fresh.deduplicated) == (True, False)
    assert (held.id, held.deduplicated, held.job.data) == (keyed.id, True, 1)
    assert (await rig.row(tagged.id))["data"] == 1


async def test_what_starts_while_it_is_to_be_replaced_is_left(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim commits after the call has seen that nothing has started."""
    job = await rig.adapter.schedule_job("echo", 1, idempotency_key="k")
    real = scheduling.replace

    def slow(holder: UUID, new: NewJob, version: int) -> Steps[Any]:
        with psycopg.connect(rig.url, autocommit=True) as conn:
            conn.execute(
                rig.schema.sql(
                    "UPDATE {s}.worker_jobs_open SET started = now(), status = 'EXECUTING', attempt = 1"
                )
            )
        return (yield from real(holder, new, version))

    monkeypatch.setattr(scheduling, "replace", slow)
    found = await rig.adapter.schedule_job("echo", 2, idempotency_key="k", on_conflict="replace")
    row = await rig.row(job.id)
    assert (found.id, found.status, row["data"], row["epoch"]) == (job.id, JobStatus.EXECUTING, 1, 1)


async def test_a_remote_job_is_replaced_while_no_try_has_left(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote", 1, tag="t", delay=MINUTE)
    again = await rig.adapter.schedule_job("remote", 2, tag="t", on_conflict="replace")
    row = await rig.row(job.id)
    assert (again.id, row["data"], row["status"], row["epoch"]) == (job.id, 2, "PENDING", 2)
    await rig.dispatch()
    (run,) = rig.fake.runs.values()
    assert run.payload == 2


@pytest.mark.parametrize("state", ["trying", "unknown", "accepted"])
async def test_what_a_remote_was_given_is_left_and_the_newest_is_a_job_of_its_own(
    rig: Rig, state: str
) -> None:
    job = await rig.adapter.schedule_job("remote", 1, tag="t", delay=MINUTE)
    await rig.sql("UPDATE {s}.worker_jobs_open SET submit_state = %(state)s", state=state)
    new = await rig.adapter.schedule_job("remote", 2, tag="t", delay=MINUTE, on_conflict="replace")
    assert (new.id != job.id, new.deduplicated) == (True, False)
    assert await rig.events(job.id) == ["tag_released"]
    row = await rig.row(job.id)
    assert (row["data"], row["tag_held"], row["submit_state"]) == (1, False, state)


@pytest.mark.parametrize("name", NAMES, ids=str)
async def test_reject_names_the_holder_and_writes_nothing(rig: Rig, name: dict[str, Any]) -> None:
    held = await rig.adapter.schedule_job("echo", 1, **name)
    with pytest.raises(DuplicateJobError, match=str(held.id)) as refused:
        await rig.adapter.schedule_job("echo", 2, on_conflict="reject", **name)
    assert (refused.value.job_id, refused.value.code) == (held.id, "duplicate_job")
    specs = [
        JobSpec("echo", 3, {"tag": "free"}),
        JobSpec("echo", 4, ScheduleOptions(**name, on_conflict="reject")),
    ]
    with pytest.raises(DuplicateJobError):
        await rig.adapter.schedule_specs(specs)
    async with await psycopg.AsyncConnection.connect(rig.url) as conn:
        with pytest.raises(DuplicateJobError):
            await rig.adapter.schedule_specs(specs, conn)
        # The caller's transaction goes on without what the call had written.
        await rig.adapter.schedule_job("echo", 5, within=conn)
    assert [row["data"] for row in await rig.sql("SELECT data FROM {s}.worker_jobs ORDER BY created_at")] == [
        1,
        5,
    ]


@pytest.mark.parametrize("name", NAMES, ids=str)
async def test_a_throttle_lets_one_through_per_period_however_it_ended(
    rig: Rig, name: dict[str, Any]
) -> None:
    call = rig.adapter.schedule_job
    first = await call("echo", 1, throttle=MINUTE, **name)
    assert (await call("echo", 2, throttle=MINUTE, **name)).id == first.id
    await rig.work()
    again = await call("echo", 3, throttle=MINUTE, **name)
    assert (again.id, again.deduplicated, again.status) == (first.id, True, JobStatus.COMPLETED)
    with pytest.raises(DuplicateJobError):
        await call("echo", 3, throttle=MINUTE, on_conflict="reject", **name)
    await rig.sql("UPDATE {s}.job_keys SET expires_at = now()")
    assert (await call("echo", 4, throttle=MINUTE, **name)).id != first.id


async def test_a_failed_job_keeps_its_slot(rig: Rig) -> None:
    first = await rig.adapter.schedule_job(
        "echo", 1, throttle=MINUTE, idempotency_key="k", ttl=timedelta(hours=1)
    )
    await rig.set(first.id, "expires_at = now()")
    await rig.adapter.maintenance.run_once()
    again = await rig.adapter.schedule_job("echo", 2, throttle=MINUTE, idempotency_key="k")
    assert (again.id, again.status) == (first.id, JobStatus.EXPIRED)


@pytest.mark.parametrize("name", NAMES, ids=str)
async def test_many_at_once_replace_one_job_and_throttle_to_one(rig: Rig, name: dict[str, Any]) -> None:
    for options in ({"on_conflict": "replace", "delay": MINUTE}, {"throttle": MINUTE}):
        jobs = await asyncio.gather(
            *(
                rig.adapter.schedule_job("both" if "delay" in options else "echo", n, **options, **name)
                for n in range(30)
            )
        )
        assert len({job.id for job in jobs}) == 1
        assert sum(not job.deduplicated for job in jobs) == 1
    replaced = await rig.value("SELECT count(*) FROM {s}.job_events WHERE kind = 'replaced'")
    epoch = await rig.value("SELECT epoch FROM {s}.worker_jobs_open WHERE type = 'both'")
    assert (replaced, epoch) == (29, 30)


@pytest.mark.parametrize("kind", ["tag", "idempotency_key"])
async def test_batches_in_opposite_order_do_not_wait_for_each_other(rig: Rig, kind: str) -> None:
    names = [f"n{n}" for n in range(12)]

    def specs(order: list[str], n: int) -> list[JobSpec]:
        options: Any = {"on_conflict": "replace", "delay": MINUTE}
        return [JobSpec("echo", n, cast("Any", {**options, kind: name})) for name in order]

    calls = [specs(names if n % 2 else names[::-1], n) for n in range(16)]
    results = await asyncio.gather(*(rig.adapter.schedule_specs(each) for each in calls))
    assert await count(rig) == len(names)
    for order, jobs in zip(calls, results, strict=True):
        held = {row[kind]: row["id"] for row in await rig.sql("SELECT * FROM {s}.worker_jobs_open")}
        assert [job.id for job in jobs] == [held[each.options[kind]] for each in order]


@pytest.mark.parametrize("name", NAMES, ids=str)
async def test_a_callers_rollback_undoes_a_replacement(rig: Rig, name: dict[str, Any]) -> None:
    job = await rig.adapter.schedule_job("echo", 1, **name)
    async with await psycopg.AsyncConnection.connect(rig.url) as conn:
        await rig.adapter.schedule_job("echo", 2, within=conn, on_conflict="replace", **name)
        await conn.rollback()
    row = await rig.row(job.id)
    assert (row["data"], row["epoch"], await rig.events(job.id)) == (1, 1, [])
    async with await psycopg.AsyncConnection.connect(rig.url) as conn:
        await rig.adapter.schedule_job("echo", 3, within=conn, on_conflict="replace", **name)
    assert (await rig.row(job.id))["data"] == 3


def test_without_an_event_loop_and_in_a_session(database_url: str) -> None:
    adapter = Adapter(Settings(database_url=SecretStr(database_url)))

    @adapter.task("echo")
    async def echo(payload: Any) -> Any:
        return payload

    del echo
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with adapter.sync, Session(engine) as session:
        first = adapter.sync.schedule_job("echo", 1, tag="t")
        second = adapter.sync.schedule_job("echo", 2, tag="t", on_conflict="replace")
        third = adapter.sync.schedule_job("echo", 3, tag="t", on_conflict="replace", within=session)
        with pytest.raises(DuplicateJobError):
            adapter.sync.schedule_job("echo", 4, tag="t", on_conflict="reject", within=session)
        session.commit()
        assert first.id == second.id == third.id
        assert first.refresh().data == 3
    engine.dispose()


async def test_a_request_key_of_a_replacing_call_finds_the_job_that_was_replaced(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo", 1, tag="t")
    options: Any = {"tag": "t", "on_conflict": "replace", "request_key": "r"}
    assert (await rig.adapter.schedule_job("echo", 2, **options)).id == job.id
    repeated = await rig.adapter.schedule_job("echo", 3, **options)
    assert (repeated.id, repeated.job.data, await rig.events(job.id)) == (job.id, 2, ["replaced"])


async def test_a_replacement_is_routed_anew_with_fresh_flags(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("both", 1, tag="t", delay=MINUTE)
    async with await psycopg.AsyncConnection.connect(rig.url, autocommit=True) as conn:
        await conn.execute(rig.schema.sql("UPDATE {s}.flags_state SET version = version + 1"))
        await conn.execute(
            rig.schema.sql(
                "INSERT INTO {s}.executor_flags (kind, task, executor, version, reason, actor)"
                " SELECT 'kill', 'both', 'trigger', version, 'x', 'x' FROM {s}.flags_state"
            )
        )
    for name in ("tag", "again"):
        await rig.adapter.schedule_job("both", name, tag="t", on_conflict="replace", delay=MINUTE)
    row = await rig.row(job.id)
    assert (row["executor"], row["route_reason"]) == ("trigger", "kill switch: runtime, this task")


@pytest.mark.parametrize(
    "options",
    [
        {"on_conflict": "newest", "tag": "t"},
        {"on_conflict": "replace"},
        {"on_conflict": "replace", "tag": "t", "idempotency_key": "k"},
        {"debounce_max": MINUTE, "tag": "t"},
        {"throttle": MINUTE},
        {"throttle": MINUTE, "tag": "t", "on_conflict": "replace"},
        {"throttle": timedelta(0), "tag": "t"},
    ],
    ids=str,
)
async def test_what_cannot_be_meant_is_refused(rig: Rig, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        await rig.adapter.schedule_job("echo", 1, **options)
    assert await count(rig) == 0


async def test_a_stale_flag_does_not_stop_a_replacement(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """By key: the row is written only with the version its route was decided with."""
    job = await rig.adapter.schedule_job("echo", 1, idempotency_key="k")
    real, versions = scheduling.replace, list[int]()

    def replace(holder: UUID, new: NewJob, version: int) -> Steps[Any]:
        if not versions:
            with psycopg.connect(rig.url, autocommit=True) as conn:
                conn.execute(rig.schema.sql("UPDATE {s}.flags_state SET version = version + 1"))
        versions.append(version)
        return (yield from real(holder, new, version))

    monkeypatch.setattr(scheduling, "replace", replace)
    await rig.adapter.schedule_job("echo", 2, idempotency_key="k", on_conflict="replace")
    assert (await rig.row(job.id))["data"] == 2
    assert versions[1:] == [versions[0] + 1]
