"""Many jobs of one call that are alike: written in parts, all of them or none."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest

from adapter.core.alike import are_alike
from adapter.core.planning import JobSpec
from adapter.domain.clock import SystemClock
from adapter.domain.errors import DatabaseUnavailableError, InvalidPayloadError, NotOpenError
from adapter.domain.job import JobStatus
from adapter.store import flag_changes, mass_inserting
from adapter.store.direct import Direct
from adapter.store.flag_changes import Author
from tests.fakes.clock import ManualClock
from tests.rig import Rig, rigged

#: More than two statements' worth.
MANY = 2300
PARTS = [1000, 1000, 300]

Interfere = Callable[[Direct], Awaitable[object]]


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    async with rigged(database_url) as rig:
        yield rig


def _specs(count: int = MANY, **options: Any) -> list[JobSpec]:
    return [JobSpec("echo", number, cast("Any", dict(options))) for number in range(count)]


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs each statement of a mass insert had."""
    return _watched(monkeypatch)


def _watched(monkeypatch: pytest.MonkeyPatch, before_the_second: Interfere | None = None) -> list[int]:
    sizes: list[int] = []
    insert = mass_inserting._insert

    async def watched(conn: Direct, schema: Any, part: Any, meanwhile: Any) -> Any:
        # The binary format of an array: its length is the fourth number.
        sizes.append(int.from_bytes(part[1]["id"][12:16], "big"))
        if len(sizes) == 2 and before_the_second is not None:
            await before_the_second(conn)
        return await insert(conn, schema, part, meanwhile)

    monkeypatch.setattr(mass_inserting, "_insert", watched)
    return sizes


async def _count(rig: Rig) -> int:
    return await rig.value("SELECT count(*) FROM {s}.worker_jobs")


async def test_they_are_in_in_their_order_with_one_commit(rig: Rig, parts: list[int]) -> None:
    handles = await rig.adapter.schedule_specs(_specs(priority=3, tags=["a", 'b"']))
    assert parts == PARTS
    assert [handle.status for handle in handles[:2]] == [JobStatus.QUEUED, JobStatus.QUEUED]
    rows = await rig.sql("SELECT *, xmin FROM {s}.worker_jobs_open ORDER BY seq")
    assert [row["id"] for row in rows] == [handle.id for handle in handles]
    assert [row["data"] for row in rows] == list(range(MANY))
    assert len({row["xmin"] for row in rows}) == 1
    last, row = handles[-1].job, rows[-1]
    assert (last.data, last.priority, last.tags) == (MANY - 1, 3, ("a", 'b"'))
    assert (row["priority"], row["tags"], row["created_at"]) == (3, ["a", 'b"'], last.created_at)
    assert (
        (row["executor"], row["route_reason"]) == (last.executor, last.route_reason) == ("local", "default")
    )
    assert repr(handles[0]) == f"<JobHandle {rows[0]['id']} echo QUEUED>"
    stored = await rig.adapter.get_job(handles[7].id)
    assert stored == handles[7].job


async def test_any_payload_arrives_as_it_is(rig: Rig, parts: list[int]) -> None:
    payloads: list[Any] = [None, 'é"\\\n{},', {"a": [1.5, None, {"b": "NaN"}]}, "x" * 5000, [], "", 2**60]
    handles = await rig.adapter.schedule_specs([JobSpec("echo", each) for each in payloads])
    assert parts == [len(payloads)]
    rows = await rig.sql("SELECT data FROM {s}.worker_jobs_open ORDER BY seq")
    assert [row["data"] for row in rows] == [handle.job.data for handle in handles] == payloads


async def test_a_worker_is_told_of_them(rig: Rig) -> None:
    told: list[set[str]] = []
    rig.adapter.notifier.subscribe(told.append)
    handles = await rig.adapter.schedule_specs(_specs(3))
    await rig.adapter.schedule_specs(_specs(3), notify="no")
    assert told == [{"default"}]
    assert await rig.work(2) == 6
    assert await handles[2].result() == 2
    assert handles[2].status is JobStatus.COMPLETED


async def test_a_payload_that_does_not_fit_is_refused_before_a_connection_is_asked_for(rig: Rig) -> None:
    bad = [*_specs(900), JobSpec("echo", float("nan")), JobSpec("echo", "\x00")]
    with pytest.raises(InvalidPayloadError, match="nan"):
        await rig.adapter.schedule_specs(bad)
    await rig.adapter.database.close()
    with pytest.raises(InvalidPayloadError, match="nan"):
        await rig.adapter.schedule_specs(bad)
    with pytest.raises(NotOpenError):
        await rig.adapter.schedule_specs(_specs(2))
    await rig.adapter.database.open()
    assert await _count(rig) == 0


async def test_a_part_that_is_refused_takes_the_others_with_it(
    rig: Rig, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [b"1"] * (MANY - 1)
    texts[1500] = b'"\\u0000"'
    echo = rig.adapter.registry.get("echo")

    def unchecked(payloads: object) -> list[bytes]:
        del payloads
        return texts

    monkeypatch.setattr(echo, "dump_payload_texts", unchecked)
    with pytest.raises(psycopg.errors.UntranslatableCharacter):
        await rig.adapter.schedule_specs(_specs())
    assert parts == PARTS[:2]
    assert await _count(rig) == 0
    monkeypatch.undo()
    await rig.adapter.schedule_specs(_specs())
    assert await _count(rig) == MANY


@pytest.mark.direct("the pooler would make up for the connection that is cut")
async def test_of_a_call_whose_connection_is_lost_half_way_nothing_is_in(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut(conn: Direct) -> None:
        await rig.sql("SELECT pg_terminate_backend(%(pid)s, 5000)", pid=conn.info.backend_pid)

    sizes = _watched(monkeypatch, cut)
    with pytest.raises(DatabaseUnavailableError):
        await rig.adapter.schedule_specs(_specs())
    assert sizes == PARTS[:2]
    assert await _count(rig) == 0
    await rig.adapter.schedule_specs(_specs(5))
    assert await _count(rig) == 5


async def test_of_a_call_that_is_canceled_half_way_nothing_is_in(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[asyncio.Task[Any]] = []

    async def cancel(conn: Direct) -> None:
        del conn
        calls[0].cancel()

    sizes = _watched(monkeypatch, cancel)
    calls.append(asyncio.get_running_loop().create_task(rig.adapter.schedule_specs(_specs())))
    with pytest.raises(asyncio.CancelledError):
        await calls[0]
    assert sizes == PARTS[:2]
    # What holds the table would wait for a transaction that goes on.
    await rig.sql("LOCK TABLE {s}.worker_jobs_open IN SHARE MODE; SELECT 1")
    assert await _count(rig) == 0


async def test_flags_that_change_half_way_are_those_of_all(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def turn(conn: Direct) -> None:
        del conn
        author = Author("INC-1", "ann", "test")
        await flag_changes.change(
            rig.conn, rig.schema, author, kind="kill", task="both", executor="trigger", value={}
        )

    sizes = _watched(monkeypatch, turn)
    handles = await rig.adapter.schedule_specs([JobSpec("both", number) for number in range(MANY)])
    assert sizes == PARTS[:2]
    assert {handle.executor for handle in handles} == {"trigger"}
    rows = await rig.sql("SELECT executor, count(*) AS jobs FROM {s}.worker_jobs_open GROUP BY 1")
    assert rows == [{"executor": "trigger", "jobs": MANY}]


async def test_what_the_session_has_forgotten_is_prepared_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(conn: Direct) -> None:
        await conn.execute("DEALLOCATE ALL")

    sizes = _watched(monkeypatch, forget)
    handles = await rig.adapter.schedule_specs(_specs())
    assert len({handle.id for handle in handles}) == await _count(rig) == MANY
    monkeypatch.undo()
    sizes = _watched(monkeypatch)
    await rig.adapter.schedule_specs(_specs())
    assert sizes == PARTS
    assert await _count(rig) == 2 * MANY


async def test_flags_that_are_too_old_are_read_first(database_url: str, parts: list[int]) -> None:
    clock = ManualClock(SystemClock().now())
    async with rigged(database_url, clock=clock) as rig:
        await rig.adapter.schedule_specs(_specs(3))
        clock.advance(2)
        assert rig.adapter._flags.fresh is None
        await rig.adapter.schedule_specs(_specs(3))
        assert rig.adapter._flags.fresh is not None
        assert parts == [3, 3]


async def test_in_a_callers_transaction_they_are_the_callers(rig: Rig, parts: list[int]) -> None:
    async with await psycopg.AsyncConnection.connect(rig.url) as caller:
        handles = await rig.adapter.schedule_specs(_specs(1200), caller)
        assert await _count(rig) == 0
        await caller.rollback()
        assert await _count(rig) == 0
        handles = await rig.adapter.schedule_specs(_specs(1200), caller)
        await caller.commit()
    assert await _count(rig) == len({handle.id for handle in handles}) == 1200
    assert parts == []


@pytest.mark.parametrize(
    "options",
    [
        {"delay": timedelta(hours=1)},
        {"ttl": timedelta(hours=1)},
        {"tag": "t"},
        {"idempotency_key": "k"},
        {"request_key": "r"},
        {"queue": "unheard-of"},
        {"executor": "trigger"},
    ],
    ids=str,
)
async def test_what_takes_more_than_a_plain_row_goes_another_way(
    rig: Rig, parts: list[int], options: dict[str, Any]
) -> None:
    handles = await rig.adapter.schedule_specs([JobSpec("both", n, cast("Any", options)) for n in range(3)])
    assert parts == []
    named = bool({"tag", "idempotency_key", "request_key"} & options.keys())
    assert await _count(rig) == len({handle.id for handle in handles}) == (1 if named else 3)


async def test_what_only_looks_the_same_is_stored_as_it_is(rig: Rig, parts: list[int]) -> None:
    given: list[Any] = [{"a": 1}, {"a": True}, {"a": 1.0}]
    await rig.adapter.schedule_specs([JobSpec("echo", 0, {"metadata": each}) for each in given])
    rows = await rig.sql("SELECT metadata::text AS metadata FROM {s}.worker_jobs_open ORDER BY seq")
    assert [row["metadata"] for row in rows] == ['{"a": 1}', '{"a": true}', '{"a": 1.0}']
    assert parts == []


@pytest.mark.parametrize("kinds", [2, 9])
async def test_each_gets_what_its_own_options_say(rig: Rig, parts: list[int], kinds: int) -> None:
    specs = [
        JobSpec("echo" if n % 2 else "both", n, {"priority": n % kinds, "metadata": {"kind": [n % kinds]}})
        for n in range(40)
    ]
    await rig.adapter.schedule_specs([*specs, JobSpec("echo", 40), JobSpec("echo", 41, {"user_id": "ann"})])
    rows = await rig.sql("SELECT * FROM {s}.worker_jobs_open ORDER BY data::int")
    assert [row["data"] for row in rows] == list(range(42))
    for n, row in enumerate(rows[:40]):
        assert (row["type"], row["priority"]) == ("echo" if n % 2 else "both", n % kinds)
        assert row["metadata"] == {"kind": [n % kinds]}
    assert [(row["priority"], row["metadata"], row["user_id"]) for row in rows[40:]] == [
        (0, None, None),
        (0, None, "ann"),
    ]
    assert parts == []


def test_terms_are_shared_within_a_call_and_no_longer(rig: Rig) -> None:
    options: Any = {"metadata": {"a": 1}}
    specs = [JobSpec("echo", n, options if n % 2 else {"priority": 1}) for n in range(6)]
    plans = rig.adapter.planner.plan_all(specs)
    assert len({id(each.job.terms) for each in plans}) == 2
    assert [each.job.payload for each in plans] == ["0", "1", "2", "3", "4", "5"]
    options["metadata"]["a"] = 2
    (again,) = rig.adapter.planner.plan_all([specs[1]])
    assert again.job.terms.metadata == {"a": 2}


SHARED: dict[str, Any] = {"metadata": {"a": 1}}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({}, {}, True),
        (SHARED, SHARED, True),
        ({"metadata": {"a": [1, None]}}, {"metadata": {"a": [1, None]}}, True),
        ({"metadata": {"a": [1]}}, {"metadata": {"a": [True]}}, False),
        ({"metadata": {"a": [1]}}, {"metadata": {"a": [1, 2]}}, False),
        ({"metadata": {"a": 0.0}}, {"metadata": {"a": -0.0}}, False),
        ({"priority": 1}, {"priority": 1}, True),
        ({"priority": 1}, {"priority": True}, False),
        ({"priority": 1}, {}, False),
        ({"priority": 1}, {"queue": "q"}, False),
        ({"tags": ["a"]}, {"tags": ["a"]}, True),
        ({"tags": ["a"]}, {"tags": ["b"]}, False),
        ({"tags": ["a"]}, {"tags": ("a",)}, False),
        ({"ttl": timedelta(1)}, {"ttl": timedelta(hours=24)}, True),
        ({"batch_id": UUID(int=1)}, {"batch_id": UUID(int=1)}, True),
        ({"user_id": "1"}, {"user_id": 1}, False),
    ],
)
def test_alike_is_what_surely_is(one: Any, other: Any, expected: bool) -> None:
    assert are_alike(JobSpec("echo", 1, one), JobSpec("echo", 2, other)) is expected
    assert not are_alike(JobSpec("echo", 1, one), JobSpec("both", 2, one))
