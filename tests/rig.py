"""An adapter on a real database with an in-memory Trigger.dev beside it, driven by hand."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from adapter import Adapter, JobContext, Settings
from adapter.core.worker import Worker
from adapter.domain.clock import Clock, SystemClock
from adapter.domain.job import Job, JobStatus, SubmitState
from adapter.domain.outcome import Lease
from adapter.executors.base import Executor
from adapter.executors.trigger_dev import TriggerDev
from adapter.store import claims
from adapter.store.claims import Claimed
from tests.fakes.clock import ManualClock
from tests.fakes.trigger_dev import API_URL, SECRET_KEY, FakeTriggerDev
from tests.fakes.trigger_engine import FakeRun

Declare = Callable[[Adapter], None]


def new_id() -> UUID:
    return UUID(str(uuid7()))


def a_running_job(**over: Any) -> Job:
    """A job as a worker holds it, without a database."""
    at = datetime(2026, 11, 26, tzinfo=UTC)
    given: dict[str, Any] = {
        "id": new_id(),
        "type": "task",
        "status": JobStatus.EXECUTING,
        "executor": "local",
        "route_reason": "default",
        "epoch": 1,
        "submit_state": SubmitState.NEVER,
        "data": None,
        "queue": "default",
        "created_at": at,
        "updated_at": at,
    }
    return Job(**(given | over))


def usual_tasks(adapter: Adapter) -> None:
    """Tasks that most tests can do with."""

    @adapter.task("echo")
    async def echo(payload: Any) -> Any:
        return payload

    @adapter.task("both", remote_id={"trigger": "both-there"})
    async def both(payload: Any, ctx: JobContext) -> Any:
        return {"attempt": ctx.attempt, "payload": payload}

    adapter.remote_task("remote", executor="trigger")
    adapter.remote_task("idempotent", executor="trigger", idempotent=True)
    del echo, both


class Rig:
    """The adapter, the fake remote, and a connection of the test's own to look at rows."""

    def __init__(
        self, adapter: Adapter, fake: FakeTriggerDev, conn: AsyncConnection[DictRow], url: str
    ) -> None:
        self.adapter = adapter
        self.fake = fake
        self.conn = conn
        self.url = url
        self.workers: list[Worker] = []

    @property
    def schema(self) -> Any:
        return self.adapter.database.schema

    async def sql(self, statement: LiteralString, **parameters: Any) -> list[DictRow]:
        cursor = await self.conn.execute(self.schema.sql(statement), parameters or None)
        return await cursor.fetchall() if cursor.description is not None else []

    async def value(self, statement: LiteralString, **parameters: Any) -> Any:
        rows = await self.sql(statement, **parameters)
        return next(iter(rows[0].values()))

    async def row(self, job_id: UUID) -> DictRow:
        """The job's row as it is stored, open or finished."""
        places = await self.value("SELECT count(*) FROM {s}.worker_jobs WHERE id = %(id)s", id=job_id)
        assert places == 1, f"job {job_id} is in {places} places"
        # It may move between the two looks, in this direction only.
        rows = await self.sql("SELECT * FROM {s}.worker_jobs_open WHERE id = %(id)s", id=job_id)
        if not rows:
            rows = await self.sql("SELECT * FROM {s}.worker_jobs_finished WHERE id = %(id)s", id=job_id)
        return rows[0]

    async def status(self, job_id: UUID) -> str:
        return (await self.row(job_id))["status"]

    async def events(self, job_id: UUID) -> list[str]:
        rows = await self.sql("SELECT kind FROM {s}.job_events WHERE job_id = %(id)s ORDER BY id", id=job_id)
        return [row["kind"] for row in rows]

    async def set(self, job_id: UUID, assignments: LiteralString) -> None:
        """Change an open row behind everybody's back: to move time, or to put it in a state."""
        statement: LiteralString = "UPDATE {s}.worker_jobs_open SET " + assignments + " WHERE id = %(id)s"
        await self.sql(statement, id=job_id)

    def worker(self, **options: Any) -> Worker:
        made = self.adapter.worker(**options)
        self.workers.append(made)
        return made

    async def bury_the_silent(self) -> None:
        """Let a judge look twice: workers with a lease of a millisecond that did not beat are dead then."""
        await self.adapter.maintenance.run_once()
        await self.sql("SELECT pg_sleep(0.002)")
        await self.adapter.maintenance.run_once()

    async def work(self, times: int = 1) -> int:
        """Let one worker claim and run; returns how many jobs it ran."""
        worker = self.worker()
        return sum([await worker.run_once() for _ in range(times)])

    async def claim(
        self, number: int = 1, *, worker: UUID | None = None, queue: str = "default"
    ) -> tuple[Lease, list[Claimed]]:
        """Claim as a worker would, without running anything."""
        lease = Lease(worker or new_id(), number)
        async with self.adapter.database.connection() as conn:
            return lease, await claims.claim(conn, self.schema, lease, [queue], 100)

    async def dispatch(self, *jobs: UUID) -> int:
        return await self.adapter.dispatcher.run_once(list(jobs) or None)

    async def due_now(self, job_id: UUID) -> None:
        """Let the dispatcher take the row at once, whatever pause or lease it has."""
        await self.set(
            job_id,
            "next_try_at = now() - interval '1 second', dispatch_lease_until = now() - interval '1 second'",
        )

    async def sent(self, task: str = "remote", data: Any = None, **options: Any) -> tuple[UUID, FakeRun]:
        """Schedule a remote job and dispatch it; returns its id and its run there."""
        job = await self.adapter.schedule_job(task, data, **options)
        await self.dispatch(job.id)
        run_id = (await self.row(job.id))["remote_run_id"]
        assert run_id is not None
        return job.id, self.fake.runs[run_id]

    async def webhook(self, kind: str, run: FakeRun, *, delivery: str | None = None, **fields: Any) -> None:
        """Take in an event of our hooks about a run, as the web floor does after verifying it."""
        source = fields.pop("source", "hook")
        body = {
            "type": kind,
            "timestamp": self.fake.clock.now().isoformat(),
            "data": {
                "source": source,
                "run": {"id": run.id, "taskIdentifier": run.task, "tags": list(run.tags), **fields},
            },
        }
        await self.adapter.receive_webhook("hooks", delivery or f"{kind}-{run.id}", "s1", body)


def trigger_executor(fake: FakeTriggerDev, **options: Any) -> TriggerDev:
    given: dict[str, Any] = {"secret_key": SECRET_KEY, "requests_per_minute": 0} | options
    return TriggerDev(api_url=API_URL, clock=fake.clock, transport=fake.transport, **given)


@asynccontextmanager
async def rigged(
    url: str,
    declare: Declare = usual_tasks,
    *,
    executors: list[Executor] | None = None,
    fake: FakeTriggerDev | None = None,
    clock: Clock | None = None,
    trigger: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncGenerator[Rig]:
    """A rig whose adapter is open. The fake's clock starts at the database's time."""
    fake = fake or FakeTriggerDev(ManualClock(SystemClock().now()))
    made = executors if executors is not None else [trigger_executor(fake, **(trigger or {}))]
    given: dict[str, Any] = {"database_url": SecretStr(url), "dispatch_wait_seconds": 0} | settings
    adapter = Adapter(Settings(**given), executors=made, clock=clock)
    declare(adapter)
    conn = await psycopg.AsyncConnection[DictRow].connect(url, autocommit=True, row_factory=dict_row)
    try:
        async with adapter:
            rig = Rig(adapter, fake, conn, url)
            try:
                yield rig
            finally:
                for worker in rig.workers:
                    await worker._tries.caller.close()
    finally:
        await conn.close()
