"""A worker's jobs are taken from it only while it is dead, whoever else moves the rows meanwhile."""

import asyncio
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from adapter.core.heartbeat import Heartbeat
from adapter.domain.job import JobStatus
from adapter.store import endings, processes, rescuing
from tests.fakes.clock import ManualClock
from tests.kit import eventually
from tests.rig import Rig, new_id

LEASE = timedelta(seconds=30)

#: `pg_postmaster_start_time()` as a rescue sees it: it waits for the test between its snapshot and its locks.
_SLOW_LOOK = """
CREATE SCHEMA IF NOT EXISTS slow_look;
CREATE OR REPLACE FUNCTION slow_look.pg_postmaster_start_time() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(4711);
  RETURN '2020-01-01'::timestamptz;
END $$;
"""


async def _connect(url: str) -> psycopg.AsyncConnection[DictRow]:
    return await psycopg.AsyncConnection[DictRow].connect(url, autocommit=True, row_factory=dict_row)


@pytest.mark.parametrize("spent", [False, True], ids=["rescue", "bury"])
async def test_a_slow_rescue_does_not_take_a_job_that_a_living_worker_has_claimed_meanwhile(
    rig: Rig, spent: bool
) -> None:
    job = await rig.adapter.schedule_job("echo", 1, max_attempts=1 if spent else 3)
    dead, living = new_id(), new_id()
    async with rig.adapter.database.connection() as conn:
        for worker in (dead, living):
            await processes.register(
                conn, rig.schema, worker_id=worker, name="w", host="h", pid=1, lease=LEASE
            )
    await rig.claim(worker=dead)
    await rig.sql("UPDATE {s}.workers SET seen_at = now() - interval '1 hour' WHERE id = %(id)s", id=dead)
    await rig.conn.execute(_SLOW_LOOK)
    slow = await _connect(rig.url)
    try:
        await slow.execute("SET search_path = slow_look, pg_catalog")
        await rig.conn.execute("SELECT pg_advisory_lock(4711)")
        statement = rescuing._BURY if spent else rescuing._RESCUE
        async with asyncio.TaskGroup() as group:
            group.create_task(_run(slow, rig.schema.sql(statement), await _verdict(rig, dead)))
            await eventually(lambda: _is_waiting(rig))
            # Another process rescues the job meanwhile, and a living worker claims it.
            await rig.set(job.id, "status = 'QUEUED', worker_id = NULL, claim_number = NULL")
            lease, claimed = await rig.claim(worker=living)
            assert [each.id for each in claimed] == [job.id]
            await rig.conn.execute("SELECT pg_advisory_unlock(4711)")
        row = await rig.row(job.id)
        assert (row["status"], row["worker_id"]) == ("EXECUTING", living)
        ending = endings.Ending(job_id=job.id, epoch=1, lease=lease, status=JobStatus.COMPLETED, result=1)
        async with rig.adapter.database.connection() as conn:
            assert len(await endings.finish(conn, rig.schema, [ending])) == 1
    finally:
        await rig.conn.execute("SELECT pg_advisory_unlock_all()")
        await slow.close()
        await rig.conn.execute("DROP SCHEMA slow_look CASCADE")


async def _verdict(rig: Rig, worker: UUID) -> dict[str, Any]:
    seen = await rig.value(
        "SELECT extract(epoch FROM seen_at)::float8 FROM {s}.workers WHERE id = %(id)s", id=worker
    )
    judged = {"workers": [worker], "seen": [seen], "early": [False], "unknown": list[UUID]()}
    return judged | {"lease": LEASE, "limit": 500, "only": None, "crowded": []}


async def _run(
    conn: psycopg.AsyncConnection[DictRow], statement: LiteralString, parameters: dict[str, Any]
) -> None:
    await conn.execute(statement, parameters)


async def _is_waiting(rig: Rig) -> bool:
    return bool(await rig.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))


async def test_a_worker_that_was_paused_for_longer_than_its_lease_fences_itself(rig: Rig) -> None:
    """Its next beat gets through, but others may have taken its jobs before."""
    clock, lost = ManualClock(), list[str]()
    worker = new_id()
    async with rig.adapter.database.connection() as conn:
        await processes.register(conn, rig.schema, worker_id=worker, name="w", host="h", pid=1, lease=LEASE)
    heartbeat = Heartbeat(
        rig.adapter.database,
        worker,
        LEASE,
        clock,
        on_canceled=lambda _: None,
        on_lost=lambda: lost.append("lost"),
    )
    with psycopg.Connection[DictRow].connect(rig.url, autocommit=True, row_factory=dict_row) as conn:
        heartbeat._beat(conn)
        assert lost == []
        clock.advance(31)
        heartbeat._beat(conn)
    assert lost == ["lost"]
    assert heartbeat.age == 0
