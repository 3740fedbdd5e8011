"""The background jobs of a document service: seven tasks and the reset of usage at noon.

Documents are rows of two tables beside the jobs. A customer's plan decides who is ingested first, deletes
go down from the organization, and documents are metered many at once.

    python examples/document_jobs/jobs.py      # schedules some of each and runs them
    adapter --app jobs:adapter worker          # in this folder: runs what others schedule
"""

import asyncio
import os
from datetime import timedelta
from typing import Any

import psycopg
from pydantic import BaseModel

from adapter import AbortJobError, Adapter, Batch, BatchItem, Cron, JobContext, Queue, RetryPolicy

adapter = Adapter.from_env()

DELETES = Queue("deletes", concurrency_limit=5)
PRIORITY = {"free": 0, "pro": 10}
TABLES = """
CREATE TABLE IF NOT EXISTS public.documents (
  id text PRIMARY KEY, ingest_job text NOT NULL, namespace text NOT NULL, organization text NOT NULL,
  body text NOT NULL, chunks int);
CREATE TABLE IF NOT EXISTS public.usage (organization text PRIMARY KEY, documents int NOT NULL DEFAULT 0)
"""


class Ingestion(BaseModel):
    ingest_job: str


class Document(BaseModel):
    document: str


class Namespace(BaseModel):
    namespace: str


class Organization(BaseModel):
    organization: str


class Metering(BaseModel):
    organization: str
    documents: int


async def execute(statement: str, *values: Any) -> int:
    """Carry a statement out; returns how many rows it touched."""
    url = os.environ["DATABASE_URL"]
    async with await psycopg.AsyncConnection.connect(url) as conn:
        return (await conn.execute(statement.encode(), values)).rowcount


@adapter.task("trigger-ingestion-job", retry=RetryPolicy(max_attempts=5), idempotent=True)
async def ingest(payload: Ingestion, ctx: JobContext) -> int:
    done = await execute(
        "UPDATE public.documents SET chunks = ceil(length(body) / 100.0) WHERE ingest_job = %s AND chunks IS NULL",
        payload.ingest_job,
    )
    ctx.logger.info("%d documents are ingested", done)
    return done


@adapter.task("re-ingest-job", idempotent=True)
async def re_ingest(payload: Ingestion, ctx: JobContext) -> None:
    if not await execute(
        "UPDATE public.documents SET chunks = NULL WHERE ingest_job = %s", payload.ingest_job
    ):
        raise AbortJobError(f"there is no ingest job {payload.ingest_job}")
    await ctx.schedule_job("trigger-ingestion-job", payload, tag=payload.ingest_job)


@adapter.task("delete-document-job", queue=DELETES, idempotent=True)
async def delete_document(payload: Document) -> int:
    return await execute("DELETE FROM public.documents WHERE id = %s", payload.document)


@adapter.task("delete-ingest-job", queue=DELETES, idempotent=True)
async def delete_ingest_job(payload: Ingestion) -> int:
    return await execute("DELETE FROM public.documents WHERE ingest_job = %s", payload.ingest_job)


@adapter.task("delete-namespace-job", queue=DELETES, idempotent=True)
async def delete_namespace(payload: Namespace) -> int:
    return await execute("DELETE FROM public.documents WHERE namespace = %s", payload.namespace)


@adapter.task("delete-organization-job", queue=DELETES, idempotent=True)
async def delete_organization(payload: Organization) -> int:
    await execute("DELETE FROM public.usage WHERE organization = %s", payload.organization)
    return await execute("DELETE FROM public.documents WHERE organization = %s", payload.organization)


@adapter.task("meter-org-documents-job", batch=Batch(size=100, wait=timedelta(milliseconds=50)))
async def meter(items: list[BatchItem[Metering]]) -> None:
    """Up to a hundred jobs, one statement: sums first, so that one row is not updated twice in it."""
    sums: dict[str, int] = {}
    for item in items:
        if item.payload.documents < 0:
            item.fail(AbortJobError("documents cannot be taken back"))
        else:
            sums[item.payload.organization] = sums.get(item.payload.organization, 0) + item.payload.documents
    await execute(
        "INSERT INTO public.usage SELECT * FROM unnest(%s::text[], %s::int[])"
        " ON CONFLICT (organization) DO UPDATE SET documents = usage.documents + excluded.documents",
        list(sums),
        list(sums.values()),
    )


@adapter.task("reset-usage", idempotent=True, cron=Cron("0 12 * * *", "UTC"))
async def reset_usage(_: Any) -> int:
    """Whatever the clock says: ours says nothing, Trigger.dev's for when it is meant."""
    return await execute("UPDATE public.usage SET documents = 0 WHERE documents <> 0")


async def main() -> None:
    await execute(TABLES)
    for number in range(3):
        await execute(
            "INSERT INTO public.documents VALUES (%s, 'upload', 'manuals', 'acme', %s, NULL) ON CONFLICT DO NOTHING",
            f"document-{number}",
            "word " * 100,
        )
    patience = timedelta(seconds=30)
    async with adapter.running(work=True, dispatch=False):
        job = await ingest.schedule(Ingestion(ingest_job="upload"), tag="upload", priority=PRIORITY["pro"])
        print("ingested", await job.result(patience))
        jobs = await meter.schedule_many(
            meter.job(Metering(organization="acme", documents=1)) for _ in range(200)
        )
        for each in jobs:
            await each.result(patience)
        print("metered", len(jobs))
        await (await re_ingest.schedule(Ingestion(ingest_job="upload"))).result(patience)
        gone = await delete_document.schedule(Document(document="document-0"))
        print("deleted", await gone.result(patience))
        print("reset", await (await reset_usage.schedule(None)).result(patience))
        rest = await delete_organization.schedule(Organization(organization="acme"))
        print("deleted", await rest.result(patience))


if __name__ == "__main__":
    asyncio.run(main())
