"""What a worker tells of itself, and what it does not begin while judges may think it dead."""

from datetime import timedelta
from typing import Any
from unittest import mock

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from adapter.core.heartbeat import Heartbeat
from adapter.store import liveness, processes
from tests.fakes.clock import ManualClock
from tests.kit import eventually
from tests.rig import Rig, new_id, rigged

LEASE = timedelta(seconds=30)

#: Behind a transaction pooler a worker takes none.
locks_a_session = pytest.mark.direct("a lock of the session")


async def _made(rig: Rig, clock: ManualClock) -> Heartbeat:
    worker = new_id()
    async with rig.adapter.database.connection() as conn:
        await processes.register(conn, rig.schema, worker_id=worker, name="w", host="h", pid=1, lease=LEASE)
    return Heartbeat(
        rig.adapter.database, worker, LEASE, clock, on_canceled=lambda _: None, on_lost=lambda: None
    )


async def _looks_free(rig: Rig) -> bool:
    async with rig.adapter.database.connection() as conn:
        (pulse,) = await liveness.look(conn, rig.schema)
    return pulse.lock_is_free


async def _nobody_locks(rig: Rig) -> bool:
    return not await rig.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")


@locks_a_session
async def test_a_beat_takes_the_lock_and_tells_of_it_and_the_lock_goes_with_the_connection(rig: Rig) -> None:
    heartbeat = await _made(rig, ManualClock())
    with heartbeat._connect() as conn:
        heartbeat._beat(conn)
        heartbeat._beat(conn)
        told = await rig.sql("SELECT backend_pid, lock_key FROM {s}.workers")
        assert told[0]["backend_pid"] == conn.info.backend_pid
        assert not await _looks_free(rig)
    await eventually(lambda: _looks_free(rig))


@locks_a_session
async def test_a_lock_that_an_earlier_connection_still_has_is_not_told_of_and_taken_later(rig: Rig) -> None:
    heartbeat = await _made(rig, ManualClock())
    with heartbeat._connect() as earlier:
        heartbeat._beat(earlier)
        with heartbeat._connect() as conn:
            heartbeat._beat(conn)
            assert await rig.value("SELECT lock_key FROM {s}.workers") is None
            earlier.close()
            # Its backend ends a moment later.
            await eventually(lambda: _nobody_locks(rig))
            heartbeat._beat(conn)
            assert await rig.value("SELECT backend_pid FROM {s}.workers") == conn.info.backend_pid
            assert not await _looks_free(rig)


@locks_a_session
async def test_no_lock_is_taken_where_the_backend_is_not_the_connections_own(rig: Rig) -> None:
    heartbeat = await _made(rig, ManualClock())
    with psycopg.Connection[DictRow].connect(rig.url, autocommit=True, row_factory=dict_row) as conn:
        with mock.patch.object(psycopg.ConnectionInfo, "backend_pid", 4711):
            heartbeat._beat(conn)
        assert await rig.value("SELECT lock_key FROM {s}.workers") is None
        assert await rig.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


@locks_a_session
async def test_nothing_begins_when_no_beat_got_through_for_four_seconds(rig: Rig) -> None:
    clock = ManualClock()
    heartbeat = await _made(rig, clock)
    with heartbeat._connect() as conn:
        heartbeat._beat(conn)
        clock.advance(3.9)
        assert heartbeat.may_start
        clock.advance(0.1)
        assert not heartbeat.may_start
        heartbeat._beat(conn)
        assert heartbeat.may_start


async def test_a_worker_that_judges_know_by_no_lock_goes_by_its_lease_alone(database_url: str) -> None:
    clock = ManualClock()
    async with rigged(database_url, database_pooler="transaction") as rig:
        heartbeat = await _made(rig, clock)
        with heartbeat._connect() as conn:
            heartbeat._beat(conn)
            assert await rig.value("SELECT lock_key FROM {s}.workers") is None
            clock.advance(20)
            assert heartbeat.may_start


@pytest.mark.parametrize("late", [False, True], ids=["before the claim", "during the claim"])
async def test_a_worker_that_may_not_start_claims_nothing_and_gives_back_what_it_just_got(
    rig: Rig, late: bool
) -> None:
    job = await rig.adapter.schedule_job("echo", 1)
    worker = rig.worker()
    await worker.start()
    assert worker._heartbeat is not None
    answers = iter([True] if late else [])

    def may_start(_: Any) -> bool:
        return next(answers, False)

    try:
        with mock.patch.object(Heartbeat, "may_start", property(may_start)):
            await worker.run_once()
            row = await rig.row(job.id)
            assert (row["status"], row["attempt"]) == ("QUEUED", 0)
            assert await rig.events(job.id) == (["returned"] if late else [])
        await worker.run_once()
        assert await rig.status(job.id) == "COMPLETED"
    finally:
        await worker._finish()
