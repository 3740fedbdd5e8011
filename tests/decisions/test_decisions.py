"""What the pages in docs/decisions say of the code."""

from datetime import timedelta

import pytest

from adapter.store import migrate, retention
from tests import kit
from tests.rig import Rig, rigged


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_what_is_our_own_fault_holds_jobs(rig: Rig, status: int) -> None:
    job = await rig.adapter.schedule_job("remote", 1)
    rig.fake.next_fault(status, on="trigger")
    await rig.dispatch(job.id)
    row = await rig.row(job.id)
    assert (row["status"], row["submit_state"], row["remote_run_id"]) == ("PENDING", "never", None)
    assert await rig.value("SELECT now() < %(at)s", at=row["next_try_at"])
    await rig.due_now(job.id)
    await rig.dispatch(job.id)
    assert (await rig.row(job.id))["remote_run_id"] is not None


async def test_a_422_does_not_hold_a_job(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote", 1)
    rig.fake.next_fault(422, on="trigger")
    await rig.dispatch(job.id)
    assert await rig.status(job.id) == "FAILED"


async def test_late_upkeep_keeps_rows_longer_and_never_stops_a_finish(empty_database: str) -> None:
    migrate.upgrade(empty_database, schema=kit.SCHEMA)
    async with rigged(empty_database) as rig:
        # Nobody has made partitions for a long time: only the last one is left.
        for row in await rig.sql("SELECT day FROM {s}.finished_partitions WHERE day < '9999-12-31'"):
            await rig.conn.execute(f"DROP TABLE adapter.{retention.partition_name(row['day'])}".encode())
        await rig.sql("DELETE FROM {s}.finished_partitions WHERE day < '9999-12-31'")
        job = await rig.adapter.schedule_job("echo", 1)
        assert await rig.work() == 1
        row = await rig.row(job.id)
        assert (row["status"], str(row["drop_on"])) == ("COMPLETED", "9999-12-31")
        # Upkeep comes back; what is late is deleted row by row.
        await rig.sql("UPDATE {s}.worker_jobs_finished SET remove_at = now() - interval '1 second'")
        async with rig.adapter.database.connection() as conn:
            report = await retention.upkeep(conn, rig.schema)
        assert len(report.made) > 10
        assert await rig.adapter.get_job(job.id) is None


async def test_a_row_is_kept_as_long_as_its_key_is_held(rig: Rig) -> None:
    life = timedelta(days=60)
    job = await rig.adapter.schedule_job("echo", 1, idempotency_key="k", idempotency_ttl=life)
    await rig.work()
    row = await rig.row(job.id)
    assert row["remove_at"] - row["created_at"] >= life
    assert (await rig.adapter.schedule_job("echo", 2, idempotency_key="k")).id == job.id
