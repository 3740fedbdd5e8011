"""I4: inside an epoch a status moves back only by a known retry, rescue, return or wait; an end is final."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from adapter import Adapter, JobContext, JobStatus
from adapter.domain.errors import RetryJobError
from adapter.domain.job import TERMINAL
from adapter.domain.outcome import Applied, Authority, RemoteReport
from adapter.domain.transitions import is_legal
from tests.rig import Rig, rigged, usual_tasks

ENDS = sorted(TERMINAL)


@asynccontextmanager
async def watched(rig: Rig) -> AsyncGenerator[None]:
    """Write down every status each job is ever stored in, by a trigger, and judge the moves at the end."""
    await rig.sql(
        "CREATE TABLE {s}.seen_moves (n bigint GENERATED ALWAYS AS IDENTITY, id uuid, epoch int, status text)"
    )
    await rig.sql("""
        CREATE FUNCTION {s}.see_move() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          INSERT INTO {s}.seen_moves (id, epoch, status) VALUES (NEW.id, NEW.epoch, NEW.status);
          RETURN NULL;
        END $$""")
    for table in ("worker_jobs_open", "worker_jobs_finished"):
        await rig.sql(f"""
            CREATE TRIGGER see_move AFTER INSERT OR UPDATE ON {{s}}.{table}
            FOR EACH ROW EXECUTE FUNCTION {{s}}.see_move()""")
    try:
        yield
        rows = await rig.sql("SELECT id, epoch, status FROM {s}.seen_moves ORDER BY n")
    finally:
        await rig.sql("DROP FUNCTION {s}.see_move CASCADE")
        await rig.sql("DROP TABLE {s}.seen_moves")
    assert rows
    by_epoch: dict[Any, list[JobStatus]] = {}
    for row in rows:
        by_epoch.setdefault((row["id"], row["epoch"]), []).append(JobStatus(row["status"]))
    for key, statuses in by_epoch.items():
        for before, after in pairwise(statuses):
            assert is_legal(before, after), f"{key}: {' -> '.join(statuses)}"


async def test_every_move_of_local_jobs_is_legal(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        usual_tasks(adapter)

        @adapter.task("flaky")
        async def flaky(_payload: Any, ctx: JobContext) -> int:
            if ctx.attempt < 3:
                raise RetryJobError("again", delay=timedelta(milliseconds=1))
            return ctx.attempt

        @adapter.task("hopeless", max_duration=timedelta(seconds=5))
        async def hopeless(_payload: Any) -> None:
            raise ValueError("no")

        del flaky, hopeless

    async with rigged(database_url, declare) as rig, watched(rig):
        flaky = await rig.adapter.schedule_job("flaky")
        hopeless = await rig.adapter.schedule_job("hopeless", max_attempts=1)
        later = await rig.adapter.schedule_job("echo", delay=timedelta(hours=1))
        expiring = await rig.adapter.schedule_job("echo", delay=timedelta(hours=1), ttl=timedelta(0))
        strange = await rig.adapter.schedule_job("remote", executor="local")
        canceled = await rig.adapter.schedule_job("echo")
        await rig.adapter.cancel_job(canceled.id)
        for _ in range(5):
            await rig.work()
            await rig.sql(
                "UPDATE {s}.worker_jobs_open SET due = now() WHERE status = 'DELAYED' AND attempt > 0"
            )
            await rig.adapter.maintenance.run_once()
        await rig.set(later.id, "due = now()")
        await rig.set(expiring.id, "expires_at = now()")
        await rig.adapter.maintenance.run_once()
        await rig.adapter.maintenance.run_once()
        lease, _ = await rig.claim()
        await rig.sql("UPDATE {s}.workers SET seen_at = '-infinity'")
        await rig.sql(
            "INSERT INTO {s}.workers (id, name, host, pid, lease, seen_at)"
            " VALUES (%(id)s, 'w', 'h', 1, '1 ms', now() - interval '1 h')",
            id=lease.worker_id,
        )
        await rig.bury_the_silent()
        await rig.work()
        ends = {
            name: await rig.status(job.id)
            for name, job in {
                "flaky": flaky,
                "hopeless": hopeless,
                "later": later,
                "expiring": expiring,
                "strange": strange,
            }.items()
        }
    assert ends == {
        "flaky": "COMPLETED",
        "hopeless": "FAILED",
        "later": "COMPLETED",
        "expiring": "EXPIRED",
        "strange": "WAITING",
    }


async def test_every_move_of_remote_jobs_is_legal(rig: Rig) -> None:
    async with watched(rig):
        sent = [await rig.sent("remote", n) for n in range(5)]
        for job_id, run in sent:
            await rig.webhook("RUN_STARTED", run, delivery=f"s-{job_id}", attempt=1)
        await rig.adapter.inbox.run_once()
        rig.fake.advance(1)
        rig.fake.start(sent[0][1].id)
        rig.fake.complete(sent[0][1].id, 1)
        rig.fake.start(sent[1][1].id)
        rig.fake.fail_attempt(sent[1][1].id)
        rig.fake.start(sent[2][1].id)
        rig.fake.wait(sent[2][1].id)
        await rig.webhook("RUN_COMPLETED", sent[0][1], attempt=1)
        await rig.adapter.inbox.run_once()
        await rig.adapter.inbox.confirm_once()
        await rig.adapter.cancel_job(sent[3][0])
        for _ in range(2):
            await rig.adapter.reconcile()
        rig.fake.resume(sent[2][1].id)
        rig.fake.fail(sent[2][1].id, status="CRASHED")
        rig.fake.lose(sent[4][1].id)
        await rig.adapter.reconcile()
        await rig.sql(
            "UPDATE {s}.remote_runs SET missing_since = now() - interval '11 min' WHERE missing_since IS NOT NULL"
        )
        await rig.adapter.reconcile()
        ends = [await rig.status(job_id) for job_id, _ in sent]
    assert ends == ["COMPLETED", "QUEUED", "CRASHED", "CANCELED", "SYSTEM_FAILURE"]


@pytest.mark.parametrize("first", ENDS)
async def test_an_end_is_final(rig: Rig, first: JobStatus) -> None:
    job_id, run = await rig.sent()

    def says(status: JobStatus, authority: Authority = Authority.ENGINE) -> RemoteReport:
        return RemoteReport(
            run_id=run.id, status=status, remote_status=status, authority=authority, attempt=9, started=True
        )

    apply = rig.adapter.applier.apply
    assert await apply(job_id, 1, "trigger", says(first)) is Applied.CHANGED
    before = await rig.row(job_id)
    for status in JobStatus:
        if status is JobStatus.PENDING:
            continue
        expected = (
            Applied.DUPLICATE
            if status is first
            else Applied.CONFLICT
            if status.is_terminal
            else Applied.STALE
        )
        assert await apply(job_id, 1, "trigger", says(status)) is expected, status
    assert await rig.adapter.applier.accepted(job_id, 1, "trigger", run.id, None) is not None
    await rig.adapter.cancel_job(job_id)
    assert await rig.row(job_id) == before
    assert (await rig.events(job_id)).count("conflict") == len(ENDS) - 1


async def _orphaned(rig: Rig, **options: Any) -> tuple[Any, Any]:
    job_id, run = await rig.sent(**options)
    rig.fake.start(run.id)
    rig.fake.lose(run.id)
    await rig.adapter.reconcile()
    await rig.sql("UPDATE {s}.remote_runs SET missing_since = now() - interval '11 min'")
    await rig.adapter.reconcile()
    row = await rig.row(job_id)
    assert (row["status"], row["orphaned"]) == ("SYSTEM_FAILURE", True)
    rig.fake.runs[run.id] = run
    return job_id, run


async def test_an_orphan_is_revived_by_its_own_run(rig: Rig) -> None:
    job_id, run = await _orphaned(rig)
    rig.fake.complete(run.id, {"late": True})
    await rig.adapter.reconcile()
    row = await rig.row(job_id)
    assert (row["status"], row["success"], row["result"], row["orphaned"]) == (
        "COMPLETED",
        True,
        {"late": True},
        False,
    )
    assert await rig.events(job_id) == ["orphaned", "revived"]
    assert await rig.value("SELECT count(*) FROM {s}.remote_runs WHERE ended_at IS NULL") == 0
    rig.fake.move(run, "FAILED")
    await rig.adapter.reconcile()
    assert await rig.status(job_id) == "COMPLETED"


@pytest.mark.parametrize(
    ("epoch", "run_id", "authority"),
    [(2, None, Authority.ENGINE), (1, "run_other", Authority.ENGINE), (1, None, Authority.HOOK)],
    ids=["another epoch", "another run", "only a hook says so"],
)
async def test_an_orphan_is_not_revived_by_anything_else(
    rig: Rig, epoch: int, run_id: str | None, authority: Authority
) -> None:
    job_id, run = await _orphaned(rig)
    before = await rig.row(job_id)
    said = RemoteReport(
        run_id=run_id or run.id, status=JobStatus.COMPLETED, remote_status="COMPLETED", authority=authority
    )
    await rig.adapter.applier.apply(job_id, epoch, "trigger", said)
    assert await rig.row(job_id) == before


async def test_an_orphan_keeps_its_key_until_its_run_fails_after_all(rig: Rig) -> None:
    job_id, run = await _orphaned(rig, idempotency_key="once")
    again = await rig.adapter.schedule_job("remote", idempotency_key="once")
    assert (again.id, again.deduplicated) == (job_id, True)
    row = await rig.row(job_id)
    expiry = await rig.value("SELECT expires_at FROM {s}.job_keys")
    assert row["remove_at"] >= expiry
    rig.fake.fail(run.id)
    await rig.adapter.reconcile()
    assert await rig.status(job_id) == "FAILED"
    fresh = await rig.adapter.schedule_job("remote", idempotency_key="once")
    assert fresh.id != job_id
