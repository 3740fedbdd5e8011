"""The public face in one file.

    export DATABASE_URL=postgresql://adapter:adapter@127.0.0.1:5432/adapter
    adapter db upgrade
    python examples/quickstart.py

With TRIGGER_SECRET_KEY set, it also schedules a job for Trigger.dev and begins a rollout to it.
"""

import asyncio
from datetime import timedelta

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from adapter import Adapter, JobContext, JobFilter, JobStatus, Queue, RetryPolicy

adapter = Adapter.from_env()  # no I/O, no globals


class Dataset(BaseModel):
    dataset_id: str
    rows: int = 3


class ReportIn(BaseModel):
    month: str


# `remote_id` says that Trigger.dev has this task as well, so a rollout or `executor=` may send it there.
@adapter.task(
    "process-large-dataset",
    queue=Queue("heavy", concurrency_limit=5),
    retry=RetryPolicy(max_attempts=3),
    remote_id={"trigger": "process-large-dataset"},
)
async def process(payload: Dataset, ctx: JobContext) -> dict[str, int]:
    ctx.logger.info("attempt %d on %s", ctx.attempt, payload.dataset_id)
    return {"rows": payload.rows}


# No handler here: only Trigger.dev runs it.
report = adapter.remote_task("generate-report", payload=ReportIn, remote_id={"trigger": "generate-report"})


async def one_job() -> None:
    """Schedule, wait, read the result: typed from payload to result."""
    job = await process.schedule(Dataset(dataset_id="123"), tag="dataset-123")
    print(f"job {job.id} goes to {job.executor} ({job.route_reason})")
    result = await job.result(timeout=timedelta(seconds=30))
    print(f"it found {result['rows']} rows")


async def a_tag_deduplicates() -> None:
    """One job per task and tag that has not started; the second call returns the first job."""
    delay = timedelta(minutes=1)
    first = await process.schedule(Dataset(dataset_id="124"), tag="dataset-124", delay=delay)
    second = await process.schedule(Dataset(dataset_id="124"), tag="dataset-124", delay=delay)
    assert second.id == first.id
    assert second.deduplicated
    canceled = await first.cancel(reason="user asked")
    assert canceled.status is JobStatus.CANCELED


async def many_jobs() -> None:
    """One transaction, a few statements, however many jobs."""
    datasets = [Dataset(dataset_id=str(number), rows=number) for number in range(10)]
    jobs = await process.schedule_many([process.job(each, tags=["bulk"]) for each in datasets])
    rows = [(await job.result(timeout=timedelta(seconds=30)))["rows"] for job in jobs]
    print(f"{len(jobs)} jobs found {sum(rows)} rows")


async def in_your_transaction() -> None:
    """The job commits with your data, or not at all; nothing is sent before the commit."""
    url = adapter.settings.database().url.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_async_engine(url)
    async with AsyncSession(engine) as session, session.begin():
        await session.execute(text("SELECT 1"))  # your own statements
        job = await adapter.schedule_job("process-large-dataset", {"dataset_id": "200"}, within=session)
    await engine.dispose()
    print(f"after the commit: {await job.result(timeout=timedelta(seconds=30))}")


async def steering() -> None:
    """Where would a job go, and why?"""
    if "trigger" in adapter.executors:
        await adapter.rollout("process-large-dataset", to="trigger", percent=25, by="tag", reason="week 2")
        sent = await report.schedule(ReportIn(month="2026-10"), executor="trigger")
        print(f"Trigger.dev's run: {sent.remote_run_id}")
    explanation = await adapter.explain("process-large-dataset", tag="dataset-123")
    for step in explanation.steps:
        print(f"  {step.rule}: {step.detail}")
    print(f"so it goes to {explanation.route.executor}")


async def main() -> None:
    # `async with adapter:` opens it; `running(work=True)` also runs jobs in this process.
    async with adapter.running(work=True):
        await one_job()
        await a_tag_deduplicates()
        await many_jobs()
        await in_your_transaction()
        await steering()
        page = await adapter.list_jobs(JobFilter(statuses=(JobStatus.COMPLETED,), limit=5))
        print(f"the newest: {[job.status.value for job in page.jobs]}")


if __name__ == "__main__":
    asyncio.run(main())
