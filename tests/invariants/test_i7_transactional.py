"""I7: with the caller's connection the row commits or rolls back with the caller's data; nothing is sent inside."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from adapter import JobSpec, JobStatus
from adapter.domain.errors import InvalidArgumentError, InvalidPayloadError
from adapter.executors.base import Capabilities
from adapter.store.wakeup import decode_topics
from tests.kit import eventually
from tests.rig import Rig, rigged


class Untouchable:
    """An executor that nobody may call."""

    name = "trigger"
    environment = "nowhere"
    budget = None
    capabilities = Capabilities(lookup=True, dedup_for=None, remote_delay=False)

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was called: network inside the caller's transaction")


@pytest.fixture
async def rig(database_url: str) -> AsyncGenerator[Rig]:
    untouchable: Any = Untouchable()
    async with rigged(database_url, executors=[untouchable], dispatch_wait_seconds=5) as made:
        await made.sql("CREATE TABLE IF NOT EXISTS public.orders (n int)")
        try:
            yield made
        finally:
            await made.sql("DROP TABLE public.orders")


ORDER = "INSERT INTO public.orders VALUES (1)"


def sqlalchemy_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


@asynccontextmanager
async def psycopg_async(url: str) -> AsyncGenerator[Any]:
    async with await psycopg.AsyncConnection.connect(url) as conn:
        yield conn


@asynccontextmanager
async def psycopg_autocommit_in_a_transaction(url: str) -> AsyncGenerator[Any]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        await conn.execute("BEGIN")
        yield conn


@asynccontextmanager
async def async_connection(url: str) -> AsyncGenerator[Any]:
    engine = create_async_engine(sqlalchemy_url(url))
    async with engine.connect() as conn:
        yield conn
    await engine.dispose()


@asynccontextmanager
async def async_session(url: str) -> AsyncGenerator[Any]:
    engine = create_async_engine(sqlalchemy_url(url))
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


ASYNC = [psycopg_async, psycopg_autocommit_in_a_transaction, async_connection, async_session]


@contextmanager
def psycopg_sync(url: str) -> Generator[Any]:
    with psycopg.connect(url) as conn:
        yield conn


@contextmanager
def sync_connection(url: str) -> Generator[Any]:
    engine = create_engine(sqlalchemy_url(url))
    with engine.connect() as conn:
        yield conn
    engine.dispose()


@contextmanager
def sync_session(url: str) -> Generator[Any]:
    engine = create_engine(sqlalchemy_url(url))
    with Session(engine) as session:
        yield session
    engine.dispose()


SYNC = [psycopg_sync, sync_connection, sync_session]


def sql(caller: Any, statement: str) -> Any:
    return caller.execute(
        statement if isinstance(caller, psycopg.AsyncConnection | psycopg.Connection) else text(statement)
    )


async def counted(rig: Rig) -> tuple[int, int]:
    """(jobs, orders) that others see."""
    jobs = await rig.value("SELECT count(*) FROM {s}.worker_jobs_open")
    return jobs, await rig.value("SELECT count(*) FROM public.orders")


@pytest.mark.parametrize("caller", ASYNC, ids=lambda each: each.__name__)
@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_the_row_shares_the_fate_of_the_callers_data(rig: Rig, caller: Any, end: str) -> None:
    async with caller(rig.url) as conn:
        await sql(conn, ORDER)
        local = await rig.adapter.schedule_job("echo", 1, within=conn)
        remote = await rig.adapter.schedule_job("remote", 1, within=conn, idempotency_key="k", tag="t")
        assert (local.status, remote.status) == (JobStatus.QUEUED, JobStatus.PENDING)
        assert remote.remote_run_id is None
        assert await counted(rig) == (0, 0)
        await getattr(conn, end)()
    assert await counted(rig) == ((2, 1) if end == "commit" else (0, 0))
    assert await rig.value("SELECT count(*) FROM {s}.job_keys") == (1 if end == "commit" else 0)


@pytest.mark.parametrize("caller", SYNC, ids=lambda each: each.__name__)
@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_the_row_shares_the_fate_of_a_sync_callers_data(rig: Rig, caller: Any, end: str) -> None:
    def work() -> None:
        with rig.adapter.sync as face, caller(rig.url) as conn:
            sql(conn, ORDER)
            job = face.schedule_job("remote", 1, within=conn, idempotency_key="k", tag="t")
            assert job.job.remote_run_id is None
            face.schedule_job("echo", 1, within=conn)
            getattr(conn, end)()

    await asyncio.to_thread(work)
    assert await counted(rig) == ((2, 1) if end == "commit" else (0, 0))


@pytest.mark.parametrize("caller", ASYNC, ids=lambda each: each.__name__)
async def test_a_call_that_is_refused_leaves_the_callers_transaction_usable(rig: Rig, caller: Any) -> None:
    async with caller(rig.url) as conn:
        first = await rig.adapter.schedule_job("echo", 1, within=conn, idempotency_key="k")
        await sql(conn, ORDER)
        twice = await rig.adapter.schedule_job("echo", 2, within=conn, idempotency_key="k")
        tagged = await rig.adapter.schedule_job("echo", 3, within=conn, tag="t")
        again = await rig.adapter.schedule_job("echo", 4, within=conn, tag="t", idempotency_key="other")
        with pytest.raises(InvalidArgumentError):
            await rig.adapter.schedule_job("echo", 5, within=conn, tags=["x"] * 11)
        await conn.commit()
    assert (twice.id, twice.deduplicated, again.id) == (first.id, True, tagged.id)
    assert await counted(rig) == (2, 1)
    assert await rig.value("SELECT count(*) FROM {s}.job_keys") == 1


@asynccontextmanager
async def listening(rig: Rig) -> AsyncGenerator[list[str]]:
    """What other processes hear of."""
    heard: list[str] = []
    conn = await psycopg.AsyncConnection.connect(rig.url, autocommit=True)
    await conn.execute(SQL("LISTEN {}").format(Identifier(rig.schema.channel)))

    async def hear() -> None:
        async for note in conn.notifies():
            heard.extend(sorted(decode_topics(note.payload)))

    async with asyncio.TaskGroup() as group:
        task = group.create_task(hear())
        yield heard
        task.cancel()
    await conn.close()


@pytest.mark.parametrize("caller", [async_connection, async_session], ids=lambda each: each.__name__)
async def test_sqlalchemy_wakes_workers_after_the_commit_and_not_before(rig: Rig, caller: Any) -> None:
    async with listening(rig) as heard, caller(rig.url) as conn:
        await rig.adapter.schedule_job("echo", 1, within=conn)
        await rig.adapter.notifier.drain()
        assert not heard
        await conn.commit()
        await eventually(lambda: "default" in heard)


@pytest.mark.parametrize("caller", [async_connection, async_session], ids=lambda each: each.__name__)
async def test_a_rollback_wakes_nobody(rig: Rig, caller: Any) -> None:
    async with listening(rig) as heard, caller(rig.url) as conn:
        await rig.adapter.schedule_job("echo", 1, within=conn)
        await conn.rollback()
        await rig.adapter.notifier.drain()
        rig.adapter.poke("something else")
        await eventually(lambda: "something else" in heard)
        assert "default" not in heard


@pytest.mark.parametrize("caller", [sync_connection, sync_session], ids=lambda each: each.__name__)
async def test_sync_sqlalchemy_wakes_workers_after_the_commit(rig: Rig, caller: Any) -> None:
    def work() -> None:
        with rig.adapter.sync as face, caller(rig.url) as conn:
            face.schedule_job("echo", 1, within=conn)
            conn.commit()

    async with listening(rig) as heard:
        await asyncio.to_thread(work)
        await eventually(lambda: "default" in heard)


@pytest.mark.parametrize("caller", ASYNC, ids=lambda each: each.__name__)
async def test_notify_in_tx_is_sent_by_the_commit_itself(rig: Rig, caller: Any) -> None:
    async with listening(rig) as heard, caller(rig.url) as conn:
        await rig.adapter.schedule_job("remote", 1, within=conn, notify="in_tx")
        assert not heard
        await conn.commit()
        await eventually(lambda: heard == ["!dispatch"])


async def test_psycopg_needs_a_poke_or_the_poll_finds_it(rig: Rig) -> None:
    async with listening(rig) as heard, psycopg_async(rig.url) as conn:
        job = await rig.adapter.schedule_job("echo", 1, within=conn)
        await conn.commit()
        assert await rig.work() == 1
        assert await rig.status(job.id) == "COMPLETED"
        threading.Thread(target=rig.adapter.poke, args=("default",)).start()
        await eventually(lambda: "default" in heard)


async def test_an_autocommit_connection_is_refused(rig: Rig) -> None:
    async with await psycopg.AsyncConnection.connect(rig.url, autocommit=True) as conn:
        with pytest.raises(InvalidArgumentError, match="autocommit"):
            await rig.adapter.schedule_job("echo", 1, within=conn)
        async with conn.transaction():
            await rig.adapter.schedule_job("echo", 1, within=conn)
    engine = create_async_engine(sqlalchemy_url(rig.url), isolation_level="AUTOCOMMIT")
    async with engine.connect() as conn:
        with pytest.raises(InvalidArgumentError, match="autocommit"):
            await rig.adapter.schedule_job("echo", 1, within=conn)
    async with AsyncSession(engine) as session:
        with pytest.raises(InvalidArgumentError, match="autocommit"):
            await rig.adapter.schedule_job("echo", 1, within=session)
    await engine.dispose()
    assert await counted(rig) == (1, 0)


async def test_a_sync_autocommit_connection_is_refused(rig: Rig) -> None:
    def work() -> None:
        with rig.adapter.sync as face:
            with (
                psycopg.connect(rig.url, autocommit=True) as conn,
                pytest.raises(InvalidArgumentError, match="autocommit"),
            ):
                face.schedule_job("echo", 1, within=conn)
            engine = create_engine(sqlalchemy_url(rig.url), isolation_level="AUTOCOMMIT")
            with engine.connect() as conn, pytest.raises(InvalidArgumentError, match="autocommit"):
                face.schedule_job("echo", 1, within=conn)
            with Session(engine) as session, pytest.raises(InvalidArgumentError, match="autocommit"):
                face.schedule_job("echo", 1, within=session)
            engine.dispose()

    await asyncio.to_thread(work)
    assert await counted(rig) == (0, 0)


async def test_another_driver_is_refused(rig: Rig) -> None:
    def work() -> None:
        engine = create_engine("sqlite://")
        with rig.adapter.sync as face:
            with engine.connect() as conn, pytest.raises(InvalidArgumentError, match="pysqlite"):
                face.schedule_job("echo", 1, within=conn)
            with Session(engine) as session, pytest.raises(InvalidArgumentError, match="pysqlite"):
                face.schedule_job("echo", 1, within=session)
            raw = sqlite3.connect(":memory:")
            with pytest.raises(InvalidArgumentError, match="sqlite3"):
                face.schedule_job("echo", 1, within=cast("Any", raw))
            raw.close()
        engine.dispose()

    await asyncio.to_thread(work)
    with psycopg.connect(rig.url) as conn, pytest.raises(InvalidArgumentError, match="psycopg"):
        await rig.adapter.schedule_job("echo", 1, within=cast("Any", conn))
    with pytest.raises(InvalidArgumentError, match="object"):
        await rig.adapter.schedule_job("echo", 1, within=cast("Any", object()))


async def test_jobs_of_one_call_are_all_there_or_none(database_url: str) -> None:
    async with rigged(database_url) as rig:
        echo = rig.adapter.registry.get("echo")
        specs = [JobSpec(echo.id, n, {"tag": f"t{n}"}) for n in range(3)]
        specs.append(JobSpec(echo.id, float("nan")))
        with pytest.raises(InvalidPayloadError, match="nan"):
            await rig.adapter.schedule_specs(specs)
        assert await rig.value("SELECT count(*) FROM {s}.worker_jobs") == 0
        jobs = await rig.adapter.schedule_specs([JobSpec(echo.id, n) for n in range(2001)])
        assert [job.job.data for job in jobs] == list(range(2001))
        assert len({job.id for job in jobs}) == 2001


async def test_an_open_transaction_of_a_caller_blocks_no_claim_of_its_queue(rig: Rig) -> None:
    """Two callers schedule into a queue nobody declared, and a worker serves it meanwhile."""
    job = await rig.adapter.schedule_job("echo", 0, queue="mine")
    async with psycopg_async(rig.url) as one, psycopg_async(rig.url) as two:
        async with asyncio.timeout(3):
            await rig.adapter.schedule_job("echo", 1, queue="mine", within=one)
            await rig.adapter.schedule_job("echo", 2, queue="mine", within=two)
            await rig.sql(
                "UPDATE {s}.job_queues SET overrides = '{\"concurrency_limit\": 5}' WHERE name = 'mine'"
            )
            await rig.work()
        assert await rig.status(job.id) == "COMPLETED"
        await one.rollback()
        await two.rollback()
