"""I3: every write carries (id, epoch, holder) in its WHERE; a stale one changes nothing and is counted."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from adapter import JobSpec, JobStatus
from adapter.core.completion import Completer, Done
from adapter.domain.outcome import Applied, Authority, Errored, Lease, RemoteReport, Returned, Succeeded
from adapter.store import endings, jobs, outbox
from adapter.store.claims import Claimed
from adapter.store.direct import Direct
from adapter.store.endings import Ending, GivingBack
from tests.rig import Rig, new_id


def ending(job: Claimed, lease: Lease, **over: Any) -> Ending:
    given: dict[str, Any] = {
        "job_id": job.id,
        "epoch": job.epoch,
        "lease": lease,
        "status": JobStatus.COMPLETED,
    }
    return Ending(**(given | over))


def giving(job: Claimed, lease: Lease, **over: Any) -> GivingBack:
    given: dict[str, Any] = {"job_id": job.id, "epoch": job.epoch, "lease": lease, "kind": "retry"}
    return GivingBack(**(given | over))


async def held(rig: Rig) -> tuple[Claimed, Lease]:
    await rig.adapter.schedule_job("echo", 1)
    lease, (job,) = await rig.claim(7)
    return job, lease


async def complete(conn: Direct, rig: Rig, job: Claimed, lease: Lease, epoch: int = 1) -> int:
    completion = endings.Completion(job.key, epoch, lease.claim_number, "1")
    return await endings.complete(conn, rig.schema, lease.worker_id, [completion])


STALE: dict[str, Callable[[Lease], Lease]] = {
    "another worker": lambda lease: replace(lease, worker_id=new_id()),
    "an earlier claim": lambda lease: replace(lease, claim_number=6),
    "a later claim": lambda lease: replace(lease, claim_number=8),
}


@pytest.mark.parametrize("how", STALE)
async def test_a_stale_lease_ends_nothing_and_gives_nothing_back(rig: Rig, how: str) -> None:
    job, lease = await held(rig)
    before = await rig.row(job.id)
    async with rig.adapter.database.connection() as conn:
        assert await endings.finish(conn, rig.schema, [ending(job, STALE[how](lease))]) == []
        assert await endings.give_back(conn, rig.schema, [giving(job, STALE[how](lease))]) == {}
        assert await complete(conn, rig, job, STALE[how](lease)) == 0
    assert await rig.row(job.id) == before
    assert await rig.events(job.id) == []


async def test_a_stale_epoch_ends_nothing_and_gives_nothing_back(rig: Rig) -> None:
    job, lease = await held(rig)
    before = await rig.row(job.id)
    for epoch in (0, 2):
        async with rig.adapter.database.connection() as conn:
            assert await endings.finish(conn, rig.schema, [ending(job, lease, epoch=epoch)]) == []
            assert await endings.give_back(conn, rig.schema, [giving(job, lease, epoch=epoch)]) == {}
            assert await complete(conn, rig, job, lease, epoch=epoch) == 0
    assert await rig.row(job.id) == before


async def test_a_lease_on_a_row_that_does_not_execute_is_worth_nothing(rig: Rig) -> None:
    job, lease = await held(rig)
    await rig.set(job.id, "status = 'QUEUED'")
    async with rig.adapter.database.connection() as conn:
        assert await endings.finish(conn, rig.schema, [ending(job, lease)]) == []
        assert await endings.give_back(conn, rig.schema, [giving(job, lease)]) == {}
        assert await complete(conn, rig, job, lease) == 0
    assert await rig.status(job.id) == "QUEUED"


async def test_a_batch_of_completions_ends_what_is_still_held_and_keeps_its_results(rig: Rig) -> None:
    results = [None, "7", '"a \\"quoted\\" \\\\ one"', '{"a": [1, null]}', '"NULL"', '"{,}"']
    for n in range(len(results)):
        await rig.adapter.schedule_job("echo", n)
    lease, claimed = await rig.claim(3)
    gone = await rig.adapter.schedule_job("echo", "later")
    completions = [
        endings.Completion(job.key, job.epoch, 3, result)
        for job, result in zip(claimed, results, strict=True)
    ]
    stranger = endings.Completion(str(gone.id), 1, 3)
    async with rig.adapter.database.connection() as conn:
        ended = await endings.complete(conn, rig.schema, lease.worker_id, [stranger, *completions])
        again = await endings.complete(conn, rig.schema, lease.worker_id, completions)
    assert (ended, again) == (len(results), 0)
    kept = [(await rig.row(job.id))["result"] for job in claimed]
    assert kept == [None if each is None else json.loads(each) for each in results]
    assert await rig.status(gone.id) == "QUEUED"


async def test_a_job_that_was_lost_and_claimed_again_may_be_twice_in_one_batch(rig: Rig) -> None:
    job, lease = await held(rig)
    await rig.set(job.id, "status = 'QUEUED', worker_id = NULL, claim_number = NULL")
    _, (again,) = await rig.claim(8, worker=lease.worker_id)
    completer = Completer(rig.adapter._parts)
    completer.take(Done(job, job.lease, Succeeded("old")))
    completer.take(Done(again, again.lease, Succeeded("new")))
    await completer.flush()
    row = await rig.row(job.id)
    assert (row["status"], row["result"]) == ("COMPLETED", "new")
    assert rig.adapter.observers.counts["stale_write"] == 1


@pytest.mark.parametrize("outcome", [Succeeded(1), Errored({"name": "E"}), Returned("stopped")])
async def test_outcomes_that_come_too_late_are_counted(rig: Rig, outcome: Any) -> None:
    job, lease = await held(rig)
    completer = Completer(rig.adapter._parts)
    await completer.write([Done(job, replace(lease, claim_number=1), outcome)])
    assert rig.adapter.observers.counts["stale_write"] == 1
    assert await rig.status(job.id) == "EXECUTING"


async def test_a_batch_writes_its_good_rows_and_leaves_the_stale_ones(rig: Rig) -> None:
    for n in range(4):
        await rig.adapter.schedule_job("echo", n)
    lease, claimed = await rig.claim()
    rows = [ending(job, lease if n % 2 else replace(lease, claim_number=99)) for n, job in enumerate(claimed)]
    async with rig.adapter.database.connection() as conn:
        ended = await endings.finish(conn, rig.schema, rows)
    assert {job.id for job in ended} == {job.id for n, job in enumerate(claimed) if n % 2}


async def test_finishing_twice_ends_a_job_once(rig: Rig) -> None:
    job, lease = await held(rig)
    async with rig.adapter.database.connection() as conn:
        assert len(await endings.finish(conn, rig.schema, [ending(job, lease)])) == 1
        assert await endings.finish(conn, rig.schema, [ending(job, lease, status=JobStatus.FAILED)]) == []
    assert await rig.status(job.id) == "COMPLETED"


def report(run_id: str, status: JobStatus = JobStatus.COMPLETED, **over: Any) -> RemoteReport:
    given: dict[str, Any] = {"remote_status": status.value, "authority": Authority.ENGINE, "started": True}
    return RemoteReport(run_id=run_id, status=status, **(given | over))


@pytest.mark.parametrize(
    "status", [JobStatus.EXECUTING, JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.EXPIRED]
)
@pytest.mark.parametrize("how", ["epoch 0", "epoch 2", "another run", "another executor"])
async def test_reports_of_strangers_change_nothing_and_are_counted(
    rig: Rig, how: str, status: JobStatus
) -> None:
    job_id, run = await rig.sent()
    before = await rig.row(job_id)
    epoch = int(how.removeprefix("epoch ")) if how.startswith("epoch") else 1
    run_id = "run_other" if how == "another run" else run.id
    executor = "elsewhere" if how == "another executor" else "trigger"
    applied = await rig.adapter.applier.apply(job_id, epoch, executor, report(run_id, status))
    assert applied is Applied.STALE
    assert await rig.row(job_id) == before
    assert rig.adapter.observers.counts["report_stale"] == 1


async def test_an_open_run_of_a_closed_epoch_is_wanted_canceled_and_an_ended_one_is_not(rig: Rig) -> None:
    job_id, _ = await rig.sent()
    await rig.set(job_id, "epoch = 3, remote_run_id = NULL")
    await rig.adapter.applier.apply(job_id, 2, "trigger", report("run_open", JobStatus.EXECUTING))
    await rig.adapter.applier.apply(job_id, 2, "trigger", report("run_ended", JobStatus.FAILED))
    rows = {
        row["run_id"]: row for row in await rig.sql("SELECT * FROM {s}.remote_runs WHERE role = 'duplicate'")
    }
    assert (rows["run_open"]["wanted"], rows["run_open"]["ended_at"]) == ("canceled", None)
    assert rows["run_ended"]["ended_at"] is not None


async def test_a_late_reply_of_a_closed_epoch_is_recorded_and_its_run_wanted_canceled(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    rig.fake.next_fault("timeout_after", on="trigger")
    await rig.dispatch(job.id)
    (run,) = rig.fake.runs.values()
    await rig.adapter.resolve_job(job.id, assume="not-started", reason="looked", actor="ann")
    environment = rig.adapter.executors.by_name["trigger"].environment
    assert await rig.adapter.applier.accepted(job.id, 1, "trigger", run.id, environment) is None
    rows = await rig.sql("SELECT run_id, epoch, wanted, ended_at FROM {s}.remote_runs")
    assert [tuple(row.values()) for row in rows] == [(run.id, 1, "canceled", None)]
    assert (await rig.row(job.id))["remote_run_id"] is None
    await rig.adapter.reconcile()
    assert run.status == "CANCELED"


async def test_a_late_reply_is_accepted_by_run_id_though_the_dispatch_lease_is_lost(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    executor: Any = rig.adapter.executors.by_name["trigger"]
    real = executor.submit

    async def slow(submission: Any) -> Any:
        accepted = await real(submission)
        await rig.set(job.id, "submit_state = 'unknown', dispatch_lease = gen_random_uuid()")
        return accepted

    executor.submit = slow
    await rig.dispatch(job.id)
    row = await rig.row(job.id)
    assert (row["submit_state"], row["status"]) == ("accepted", "QUEUED")


async def _outgoing(rig: Rig, job_id: UUID, lease: UUID) -> outbox.Outgoing:
    async with rig.adapter.database.connection() as conn:
        executor = rig.adapter.executors.by_name["trigger"]
        version = await rig.value("SELECT version FROM {s}.flags_state")
        (row,) = await outbox.claim(
            conn,
            rig.schema,
            executor="trigger",
            environment=executor.environment,
            lease=lease,
            lease_for=timedelta(minutes=1),
            limit=10,
            held=[],
            flags_version=version,
            only=[job_id],
        )
    return row


@pytest.mark.parametrize("verb", ["not_sent", "unknown", "rejected", "canceled", "reroute"])
@pytest.mark.parametrize("how", ["another lease", "another epoch"])
async def test_a_dispatcher_that_lost_its_lease_changes_nothing(rig: Rig, verb: str, how: str) -> None:
    job = await rig.adapter.schedule_job("both", executor="trigger")
    row = await _outgoing(rig, job.id, new_id())
    if how == "another lease":
        await rig.set(job.id, "dispatch_lease = gen_random_uuid()")
    else:
        await rig.set(job.id, "epoch = 2, dispatch_lease = gen_random_uuid()")
    before = await rig.row(job.id)
    async with rig.adapter.database.connection() as conn:
        match verb:
            case "not_sent":
                assert not await outbox.not_sent(conn, rig.schema, row, delay=timedelta(seconds=1))
            case "unknown":
                assert not await outbox.unknown(conn, rig.schema, row, why="w", delay=timedelta(seconds=1))
            case "rejected":
                assert await outbox.rejected(conn, rig.schema, row, why="w") is None
            case "canceled":
                assert await outbox.canceled(conn, rig.schema, row) is None
            case _:
                moved = await outbox.reroute(
                    conn, rig.schema, executor="trigger", to="local", reason="r", runnable=True, row=row
                )
                assert moved == []
    assert await rig.row(job.id) == before
    assert await rig.events(job.id) == []


async def test_two_batches_in_opposite_order_do_not_deadlock(rig: Rig) -> None:
    """Each holds half of the rows and asks for all: sorted, one waits; unsorted, both would for ever."""
    for n in range(200):
        await rig.adapter.schedule_job("echo", n)
    lease, claimed = await rig.claim()
    again, more = await rig.claim()
    assert (len(claimed), len(more), lease != again) == (100, 100, True)

    async def give(rows: list[Claimed], by: Lease) -> int:
        async with rig.adapter.database.connection() as conn:
            return len(await endings.give_back(conn, rig.schema, [giving(job, by) for job in rows]))

    async with rig.adapter.database.transaction() as conn:
        # Somebody holds a row in the middle, so that both batches stand in line at the same time.
        middle = sorted(job.id for job in claimed)[50]
        await conn.execute(
            rig.schema.sql("SELECT FROM {s}.worker_jobs_open WHERE id = %s FOR UPDATE"), [middle]
        )
        both = [
            asyncio.ensure_future(give(claimed, lease)),  # noqa: TID251 - two statements at the same time
            asyncio.ensure_future(give(claimed[::-1], lease)),  # noqa: TID251 - as above
        ]
        async with asyncio.timeout(5):
            while await rig.value("SELECT count(*) FROM pg_locks WHERE NOT granted") < 2:
                pass
    counts = await asyncio.gather(*both)
    assert sorted(counts) == [0, len(claimed)]


async def test_calls_that_take_the_same_tags_in_opposite_orders_do_not_deadlock(rig: Rig) -> None:
    echo = rig.adapter.registry.get("echo").id
    for turn in range(5):
        specs = [JobSpec(echo, n, {"tag": f"t{turn}-{n}"}) for n in range(100)]
        async with asyncio.timeout(10):
            one, two = await asyncio.gather(
                rig.adapter.schedule_specs(specs), rig.adapter.schedule_specs(specs[::-1])
            )
        assert {job.id for job in one} == {job.id for job in two}


async def test_calls_that_take_the_same_keys_in_opposite_orders_do_not_deadlock(rig: Rig) -> None:
    for turn in range(5):
        specs = [JobSpec("echo", n, {"idempotency_key": f"k{turn}-{n}"}) for n in range(100)]
        async with asyncio.timeout(10):
            one, two = await asyncio.gather(
                rig.adapter.schedule_specs(specs), rig.adapter.schedule_specs(specs[::-1])
            )
        assert {job.id for job in one} == {job.id for job in two}


async def test_a_row_that_moved_between_two_looks_is_found_by_the_second(rig: Rig) -> None:
    """0 rows from open, then finished, in that order and in two statements."""
    job, lease = await held(rig)
    seen: list[str] = []

    class Between:
        """A connection that lets the job finish between two statements."""

        def __init__(self, conn: Any) -> None:
            self._conn = conn

        async def execute(self, statement: Any, parameters: Any = None) -> Any:
            if seen:
                return await self._conn.execute(statement, parameters)
            seen.append(str(statement))
            found = await self._conn.execute("SELECT WHERE false")
            async with rig.adapter.database.connection() as other:
                await endings.finish(other, rig.schema, [ending(job, lease)])
            return found

    wrapped: Any = Between(rig.conn)
    found = await jobs.get(wrapped, rig.schema, job.id)
    assert "worker_jobs_open" in seen[0]
    assert found is not None
    assert found.status is JobStatus.COMPLETED


async def test_our_transactions_run_at_read_committed(rig: Rig) -> None:
    async with rig.adapter.database.transaction() as conn:
        cursor = await conn.execute("SELECT current_setting('transaction_isolation') AS level")
        (row,) = await cursor.fetchall()
    assert row["level"] == "read committed"
