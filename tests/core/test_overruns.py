"""A try that runs past its time on a worker that does not notice is ended by upkeep, and only such a try."""

from datetime import timedelta
from typing import Any

import pytest

from adapter.core.completion import Completer, Done
from adapter.domain.outcome import Lease, Succeeded
from adapter.store import rescuing
from tests.rig import Rig

#: Upkeep waits two leases of 30 seconds beyond it.
MINUTE = timedelta(minutes=1)


async def living(rig: Rig, lease: Lease) -> None:
    await rig.sql(
        "INSERT INTO {s}.workers (id, name, host, pid, lease) VALUES (%(id)s, 'w', 'h', 1, '1 hour')",
        id=lease.worker_id,
    )


async def overrun(rig: Rig, deadline: Any, **options: Any) -> tuple[Any, Any, Any]:
    job = await rig.adapter.schedule_job("echo", max_duration=MINUTE, **options)
    lease, (claimed,) = await rig.claim()
    row = await rig.row(job.id)
    assert row["deadline"] == row["updated_at"] + MINUTE
    await rig.set(job.id, deadline)
    # Its worker lives; it is only this try that it does not look after.
    await living(rig, lease)
    await rig.adapter.maintenance.run_once()
    return job, lease, claimed


async def test_it_ends_as_timed_out_and_its_worker_has_lost_it(rig: Rig) -> None:
    job, lease, claimed = await overrun(rig, "deadline = now() - interval '61 seconds'", idempotency_key="k")
    row = await rig.row(job.id)
    assert (row["status"], row["success"], row["error"]["name"]) == ("TIMED_OUT", False, "TimedOut")
    assert await rig.events(job.id) == ["overrun"]
    assert rig.adapter.observers.counts["overrun"] == 1
    assert await rig.value("SELECT count(*) FROM {s}.job_keys") == 0
    await Completer(rig.adapter._parts).write([Done(claimed, lease, Succeeded("late"))])
    assert (await rig.row(job.id))["status"] == "TIMED_OUT"
    assert rig.adapter.observers.counts["stale_write"] == 1


async def test_one_whose_cancel_was_asked_for_is_canceled(rig: Rig) -> None:
    job, _, _ = await overrun(rig, "deadline = now() - interval '61 seconds', cancel_requested = true")
    assert await rig.status(job.id) == "CANCELED"


async def test_its_own_worker_has_the_first_word(rig: Rig) -> None:
    job, _, _ = await overrun(rig, "deadline = now() - interval '59 seconds'")
    assert await rig.status(job.id) == "EXECUTING"


async def test_a_job_without_max_duration_has_no_deadline(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo")
    await rig.claim()
    assert (await rig.row(job.id))["deadline"] is None


@pytest.mark.parametrize("how", ["rescued", "retried"])
async def test_a_new_try_has_a_new_deadline(rig: Rig, how: str) -> None:
    job = await rig.adapter.schedule_job("echo", max_duration=MINUTE)
    lease, _ = await rig.claim()
    await rig.set(job.id, "deadline = now() - interval '1 day'")
    if how == "rescued":
        async with rig.adapter.database.connection() as conn:
            await rescuing.rescue(
                conn, rig.schema, [], unknown=[lease.worker_id], lease=timedelta(days=-1000)
            )
        row = await rig.row(job.id)
        assert (row["status"], row["deadline"]) == ("QUEUED", None)
    else:
        await rig.set(job.id, "status = 'QUEUED'")
        await rig.claim()
        row = await rig.row(job.id)
        assert row["deadline"] == row["updated_at"] + MINUTE


async def test_the_time_to_live_counts_while_nobody_can_run_it_and_not_once_it_began(rig: Rig) -> None:
    waiting = await rig.adapter.schedule_job("echo", ttl=MINUTE)
    running = await rig.adapter.schedule_job("echo", ttl=MINUTE)
    await rig.set(waiting.id, "status = 'WAITING', waiting_for = 'executor'")
    lease, _ = await rig.claim()
    await living(rig, lease)
    for job in (waiting, running):
        await rig.set(job.id, "expires_at = now() - interval '1 second'")
    await rig.adapter.maintenance.run_once()
    assert [await rig.status(job.id) for job in (waiting, running)] == ["EXPIRED", "EXECUTING"]
