"""One adapter is the remote executor of another, over real HTTP on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import uvicorn

from adapter import AbortJobError, Adapter, JobContext, JobFailedError, JobStatus, Settings
from adapter.core.reconcile import Verdict
from adapter.domain.identity import job_id_of
from adapter.executors.base import Submission
from tests.kit import eventually, set_up

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBwZWVycyBvZiB0aGlzIHRlc3Q="
KEY = "tr_dev_" + secrets.token_hex(12)
SOON = timedelta(seconds=20)


@asynccontextmanager
async def listening(adapter: Adapter, port: int) -> AsyncGenerator[None]:
    """Serve the adapter's HTTP face for the duration of the block."""
    config = uvicorn.Config(adapter.asgi(), host="127.0.0.1", port=port, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        try:
            await eventually(lambda: server.started)
            yield
        finally:
            server.should_exit = True


def free_port() -> int:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Pair:
    """``near`` is the application, ``far`` is its remote. ``ran`` is what handlers say they ran, in order."""

    def __init__(self, database_url: str, far_url: str, *, webhooks: bool) -> None:
        self.near_port, self.far_port = free_port(), free_port()
        self.ran: list[str] = []
        self.near = Adapter(
            Settings.model_validate(
                {
                    "database_url": database_url,
                    "trigger_secret_key": KEY,
                    "trigger_api_url": f"http://127.0.0.1:{self.far_port}",
                    "webhook_secrets": [SECRET],
                    "trigger_rate_per_minute": 0,
                }
            )
        )
        lifecycle = {
            "lifecycle_url": f"http://127.0.0.1:{self.near_port}/api/trigger/webhook",
            "lifecycle_secret": SECRET,
        }
        self.far = Adapter(
            Settings.model_validate(
                {"database_url": far_url, "api_keys": [KEY], **(lifecycle if webhooks else {})}
            )
        )
        self.near.remote_task("double", executor="trigger")
        self.near.remote_task("fail", executor="trigger")
        self.near.remote_task("long", executor="trigger")

        @self.far.task("double")
        async def double(payload: int) -> int:
            self.ran.append(f"double {payload}")
            return payload * 2

        @self.far.task("fail")
        async def fail(payload: str) -> None:
            self.ran.append(f"fail {payload}")
            raise AbortJobError(payload)

        @self.far.task("long")
        async def long(_payload: object, ctx: JobContext) -> None:
            self.ran.append("long")
            while not ctx.is_canceled:
                await asyncio.Event().wait()

        del double, fail, long

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        async with (
            self.far.running(work=True),
            listening(self.far, self.far_port),
            self.near.running(),
            listening(self.near, self.near_port),
        ):
            yield


@pytest.fixture
async def pair(
    database_url: str, empty_database: str, request: pytest.FixtureRequest
) -> AsyncGenerator[Pair]:
    set_up(empty_database)
    made = Pair(database_url, empty_database, webhooks=getattr(request, "param", True))
    async with made.running():
        yield made


async def test_a_job_runs_at_the_peer_and_its_result_comes_back(pair: Pair) -> None:
    job = await pair.near.schedule_job("double", 21, tags=["answer"])
    assert job.executor == "trigger"
    assert job.remote_run_id is not None

    assert await job.result(SOON) == 42

    there = await pair.far.get_job(job_id_of(job.remote_run_id) or job.id)
    assert there is not None
    assert there.status is JobStatus.COMPLETED
    assert f"job:{job.id}:1" in there.tags
    assert "answer" in there.tags
    assert pair.ran == ["double 21"]
    # The peer's engine speaks with authority: no retrieve was needed, so nothing waits for one.
    rows = await pair.near.database.fetch("SELECT state, result FROM {s}.webhook_inbox ORDER BY id")
    assert rows
    assert all(row["state"] == "applied" for row in rows)


async def test_a_failure_comes_back_with_its_words(pair: Pair) -> None:
    job = await pair.near.schedule_job("fail", "no paper")
    with pytest.raises(JobFailedError, match="no paper"):
        await job.result(SOON)
    assert job.job.error is not None
    assert job.job.error["name"] == "AbortJobError"


async def test_a_running_job_is_canceled_at_the_peer(pair: Pair) -> None:
    job = await pair.near.schedule_job("long")
    await eventually(lambda: pair.ran, within=SOON.total_seconds())

    await job.cancel(reason="enough")

    ended = await pair.near.wait_for(job.id, SOON)
    assert ended.status is JobStatus.CANCELED
    assert ended.cancel_requested


async def test_a_job_that_waits_at_the_peer_is_canceled_at_once(pair: Pair) -> None:
    queue = "stopped"
    await pair.far.database.fetch(
        "INSERT INTO {s}.job_queues (name, paused_at) VALUES (%(name)s, now())", {"name": queue}
    )
    job = await pair.near.schedule_job("double", 1, queue=queue)
    assert job.remote_run_id is not None

    ended = await job.cancel(reason="not needed")

    assert ended.status is JobStatus.CANCELED
    assert ended.remote_status == "CANCELED"
    assert pair.ran == []


async def test_the_same_submit_twice_is_one_run(pair: Pair) -> None:
    job = await pair.near.schedule_job("double", 4)
    await job.result(SOON)
    run_id = job.job.remote_run_id

    # As if the reply had been lost: the same epoch goes out once more under the same keys.
    executor = pair.near.executors.by_name["trigger"]
    again = Submission(job_id=job.id, epoch=1, task="double", remote_id="double", data=4)
    assert (await executor.submit(again)).run_id == run_id
    assert pair.ran == ["double 4"]


@pytest.mark.parametrize("pair", [False], indirect=True)
async def test_without_any_webhook_reconciling_brings_everything_home(pair: Pair) -> None:
    jobs = [await pair.near.schedule_job("double", n) for n in range(30)]
    await eventually(lambda: len(pair.ran) == 30, within=SOON.total_seconds())

    async def done() -> bool:
        report = await pair.near.reconcile()
        return report.verdicts[Verdict.ADVANCED] == 0 and report.examined == 0

    await eventually(done, within=SOON.total_seconds())
    ended = [await pair.near.get_job(job.id) for job in jobs]
    assert [job.result for job in ended if job is not None] == [n * 2 for n in range(30)]


async def test_a_clock_is_handed_to_a_peer_and_comes_home(pair: Pair) -> None:
    near, far = pair.near, pair.far
    near.hand_overs._lag = timedelta(0)
    made = await near.schedule_cron("long", "0 0 1 1 *")

    async def arrived(owner: str) -> bool:
        found = await near.get_schedule(made.id)
        return (found.owner, found.handover_state) == (owner, None)

    await near.hand_over_schedule(made.id, to="trigger", reason="there")
    await eventually(lambda: arrived("trigger"), within=10)
    (there,) = await far.list_schedules()
    assert (there.task, there.cron, there.active) == ("long", "0 0 1 1 *", True)
    await near.hand_over_schedule(made.id, to="local", reason="home")
    await eventually(lambda: arrived("local"), within=10)
    home = await near.get_schedule(made.id)
    assert (home.next_at, home.problem) == (made.next_at, None)
    assert [each.active for each in await far.list_schedules()] == [False]
