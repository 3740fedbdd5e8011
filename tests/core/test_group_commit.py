"""Calls that come together share a commit; what goes wrong with one is that one's alone."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from unittest import mock
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from adapter import Adapter, JobHandle
from adapter.core import group_commit, scheduling
from adapter.core.planning import JobSpec
from adapter.domain.errors import DatabaseUnavailableError, InvalidPayloadError
from adapter.domain.job import NewJob
from adapter.store.inserting import insert_plain
from adapter.store.rows import Written
from adapter.store.steps import Steps
from adapter.store.wakeup import decode_topics
from tests.kit import heard_next
from tests.rig import Rig, rigged, usual_tasks


def _tasks(adapter: Adapter) -> None:
    usual_tasks(adapter)

    @adapter.task("numbers", priority=3)
    async def numbers(payload: int) -> None:
        del payload


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    async with rigged(database_url, _tasks) as rig:
        # From here on it need not read the flags.
        await rig.adapter.schedule_job("echo", "first")
        await rig.sql("DELETE FROM {s}.worker_jobs_open")
        yield rig


def _insert_of(seen: list[list[NewJob]], monkeypatch: pytest.MonkeyPatch) -> None:
    def insert(jobs: list[NewJob], version: int) -> Steps[list[Written]]:
        seen.append(list(jobs))
        return (yield from insert_plain(jobs, version))

    monkeypatch.setattr(scheduling, "insert_plain", insert)


async def test_what_comes_while_one_is_under_way_goes_together(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[list[NewJob]] = []
    _insert_of(groups, monkeypatch)
    calls = [
        rig.adapter.schedule_job("numbers" if number % 2 else "echo", number, user_id=f'"{number}\\')
        for number in range(9)
    ]
    handles = await asyncio.gather(rig.adapter.schedule_job("both", {"a": 1}, executor="local"), *calls)
    assert [len(group) for group in groups] == [1, 9]
    rows = await rig.sql(
        "SELECT id, type, data, priority, user_id, route_reason, xmin FROM {s}.worker_jobs_open ORDER BY seq"
    )
    assert [row["id"] for row in rows] == [handle.id for handle in handles], "in the order of the calls"
    assert [row["data"] for row in rows] == [{"a": 1}, *range(9)]
    assert [(row["type"], row["priority"]) for row in rows[1:3]] == [("echo", 0), ("numbers", 3)]
    assert [row["user_id"] for row in rows[1:]] == [f'"{number}\\' for number in range(9)]
    assert [row["route_reason"] for row in rows[:2]] == ["call", "default"]
    assert len({row["xmin"] for row in rows}) == 2, "two commits"
    assert [handle.job.created_at for handle in handles] == [
        row["created_at"] for row in await rig.sql("SELECT created_at FROM {s}.worker_jobs_open ORDER BY seq")
    ]


async def test_a_row_that_is_refused_costs_the_others_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.adapter.registry.get("echo"), "dump_payload_text", _unchecked)
    groups: list[list[NewJob]] = []
    _insert_of(groups, monkeypatch)
    payloads = ["1", "2", '"\\u0000"', "3"]
    results: list[Any] = await asyncio.gather(
        *(rig.adapter.schedule_job("echo", each) for each in payloads), return_exceptions=True
    )
    assert [len(group) for group in groups] == [1, 3, 1, 1, 1]
    assert [type(each) for each in results] == [
        JobHandle,
        JobHandle,
        psycopg.errors.UntranslatableCharacter,
        JobHandle,
    ]
    assert await rig.value("SELECT array_agg(data ORDER BY seq) FROM {s}.worker_jobs_open") == [1, 2, 3]


async def test_a_row_that_is_too_large_costs_the_others_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = rig.adapter.group_commit._written

    async def written(conn: Any, planned: list[Any], *behind: Any) -> list[Written]:
        if any(each.job.payload == "2" for each in planned):
            raise psycopg.errors.ProgramLimitExceeded
        return await real(conn, planned, *behind)

    monkeypatch.setattr(rig.adapter.group_commit, "_written", written)
    results: list[Any] = await asyncio.gather(
        *(rig.adapter.schedule_job("echo", number) for number in range(4)), return_exceptions=True
    )
    assert [number for number, each in enumerate(results) if isinstance(each, JobHandle)] == [0, 1, 3]


def _unchecked(payload: str) -> str:
    return payload


async def test_who_gives_up_harms_nobody(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[asyncio.Task[Any]] = []
    real = rig.adapter.group_commit._written

    async def written(conn: Any, planned: list[Any], *behind: Any) -> list[Written]:
        # While the first is under way the others wait.
        monkeypatch.setattr(rig.adapter.group_commit, "_written", real)
        calls[0].cancel()
        calls[2].cancel()
        return await real(conn, planned, *behind)

    monkeypatch.setattr(rig.adapter.group_commit, "_written", written)
    loop = asyncio.get_running_loop()
    calls += [loop.create_task(rig.adapter.schedule_job("echo", number)) for number in range(4)]
    results: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in results[1::2]] == [JobHandle, JobHandle]
    kept = await rig.value("SELECT array_agg(data ORDER BY seq) FROM {s}.worker_jobs_open")
    assert [each for each in kept if each != 0] == [1, 3], "the third was never sent; the first may be in"
    await rig.adapter.schedule_job("echo", 4)


@pytest.mark.direct("the pooler would make up for the connection that is cut")
async def test_a_lost_connection_is_told_to_those_under_way_and_the_next_ones_get_in(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    real = rig.adapter.group_commit._written

    async def cut(conn: Any, planned: list[Any], *behind: Any) -> list[Written]:
        groups.append(len(planned))
        if len(groups) == 2:
            await rig.sql("SELECT pg_terminate_backend(%(pid)s, 5000)", pid=conn.info.backend_pid)
        return await real(conn, planned, *behind)

    monkeypatch.setattr(rig.adapter.group_commit, "_written", cut)
    monkeypatch.setattr(group_commit, "MOST_ROWS", 2)
    results: list[Any] = await asyncio.gather(
        *(rig.adapter.schedule_job("echo", number) for number in range(5)), return_exceptions=True
    )
    assert groups == [1, 2, 2]
    lost = [number for number, each in enumerate(results) if isinstance(each, DatabaseUnavailableError)]
    assert lost == [1, 2]
    assert await rig.value("SELECT array_agg(data ORDER BY seq) FROM {s}.worker_jobs_open") == [0, 3, 4]


async def test_only_plain_jobs_share_and_the_others_are_what_they_were(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[list[NewJob]] = []
    _insert_of(groups, monkeypatch)
    ids: list[UUID] = [
        handle.id
        for handle in await asyncio.gather(
            rig.adapter.schedule_job("echo", 0, idempotency_key="k"),
            rig.adapter.schedule_job("echo", 1, idempotency_key="k"),
            rig.adapter.schedule_job("echo", 2, delay=timedelta(hours=1)),
            rig.adapter.schedule_job("echo", 3, queue="unheard-of"),
            rig.adapter.schedule_specs([JobSpec("echo", 4)]),
        )
        if isinstance(handle, JobHandle)
    ]
    assert ids[0] == ids[1]
    assert await rig.value("SELECT count(*) FROM {s}.worker_jobs") == 4
    assert await rig.value("SELECT count(*) FROM {s}.job_queues WHERE name = 'unheard-of'") == 1
    with pytest.raises(InvalidPayloadError):
        await rig.adapter.schedule_job("numbers", "not a number")


@pytest.mark.direct("it listens")
async def test_who_comes_alone_tells_the_workers_right_behind_its_own_commit(rig: Rig) -> None:
    adapter, told = rig.adapter, list[set[str]]()
    await adapter.notifier.drain()
    adapter.notifier.subscribe(told.append)
    adapter.notifier.begins_to_hear()
    listening = await adapter.database.connect("hears")
    await listening.execute(sql.SQL("LISTEN {}").format(sql.Identifier(adapter.database.schema.channel)))
    await adapter.schedule_job("echo", 0, queue="told-to-nobody", notify="no")
    handle = await adapter.schedule_job("echo", 1, queue="default")
    (heard,) = await heard_next(listening)
    assert decode_topics(heard.extra.decode()) == {"default"}
    # It is committed before anybody can hear of it, and this process need not hear it from outside.
    assert await rig.status(handle.id) == "QUEUED"
    assert (adapter.notifier._conn, adapter.notifier.is_own(heard)) == (None, True)
    assert told == [{"default"}]
    await listening.close()


async def test_flags_that_are_too_old_are_read_before_the_insert_and_cost_no_transaction(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[list[NewJob]] = []
    _insert_of(groups, monkeypatch)
    adapter = rig.adapter
    await adapter.kill("both", to="local", reason="as of now")
    adapter.scheduler.forget_flags()
    with mock.patch.object(adapter.database, "transaction", side_effect=AssertionError):
        alone = await adapter.schedule_job("both", {"a": 1})
        adapter.scheduler.forget_flags()
        together = await asyncio.gather(*[adapter.schedule_job("echo", number) for number in range(5)])
    assert alone.job.executor == "local"
    assert [len(group) for group in groups] == [1, 1, 4]
    assert {handle.status for handle in together} == {"QUEUED"}
