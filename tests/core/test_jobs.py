"""Canceling, replaying, waiting for results, the sync face, and what refuses to open."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from adapter import Adapter, JobCanceledError, JobFailedError, JobStatus, Queue, ResultTimeoutError, Settings
from adapter.domain.errors import (
    InvalidArgumentError,
    InvalidPayloadError,
    JobNotFoundError,
    NotOpenError,
    TaskDefinitionError,
    TaskDisabledError,
    UnknownExecutorError,
    UnknownTaskError,
)
from tests.kit import ROOT
from tests.rig import Rig, new_id, rigged, usual_tasks

# ---- cancel --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "options", "state"),
    [
        ("echo", {}, None),
        ("echo", {"delay": timedelta(hours=1)}, None),
        ("remote", {"executor": "local"}, None),
        ("remote", {}, None),
        ("remote", {"delay": timedelta(hours=1)}, None),
    ],
)
async def test_what_nobody_was_given_is_canceled_at_once(
    rig: Rig, task: str, options: Any, state: Any
) -> None:
    job = await rig.adapter.schedule_job(task, 1, idempotency_key="k", **options)
    ended = await rig.adapter.cancel_job(job.id, reason="no need")
    assert (ended.status, ended.success, ended.cancel_requested) == (JobStatus.CANCELED, False, True)
    assert ended.error == {"name": "Canceled", "message": "no need"}
    assert await rig.value("SELECT count(*) FROM {s}.job_keys") == 1
    with pytest.raises(JobCanceledError, match="no need"):
        await job.result()
    assert not rig.fake.requests


async def test_a_queued_run_is_canceled_there_and_the_call_says_so(rig: Rig) -> None:
    job_id, run = await rig.sent()
    ended = await rig.adapter.cancel_job(job_id)
    assert (ended.status, run.status) == (JobStatus.CANCELED, "CANCELED")


async def test_a_running_run_is_canceled_there(rig: Rig) -> None:
    job_id, run = await rig.sent()
    rig.fake.start(run.id)
    await rig.adapter.cancel_job(job_id)
    assert (await rig.status(job_id), run.status) == ("CANCELED", "CANCELED")


async def test_a_run_that_was_faster_than_the_cancel_is_completed(rig: Rig) -> None:
    job_id, run = await rig.sent()
    rig.fake.start(run.id)
    rig.fake.complete(run.id, {"n": 1})
    ended = await rig.adapter.cancel_job(job_id)
    assert (ended.status, ended.result, ended.cancel_requested) == (JobStatus.COMPLETED, {"n": 1}, True)


async def test_a_row_in_a_dispatchers_hands_stays_open_until_it_is_known(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    await rig.set(
        job.id,
        "submit_state = 'trying', dispatch_lease = gen_random_uuid(), dispatch_lease_until = now() + interval '1 min'",
    )
    asked = await rig.adapter.cancel_job(job.id)
    assert (asked.status, asked.cancel_requested) == (JobStatus.PENDING, True)


async def test_canceling_what_is_not_there_or_has_ended(rig: Rig) -> None:
    with pytest.raises(JobNotFoundError):
        await rig.adapter.cancel_job(new_id())
    job = await rig.adapter.schedule_job("echo", 1)
    await rig.work()
    ended = await rig.adapter.cancel_job(job.id)
    assert (ended.status, ended.cancel_requested) == (JobStatus.COMPLETED, False)


async def test_an_executor_that_is_not_configured_any_more_leaves_the_wish(database_url: str) -> None:
    async with rigged(database_url) as rig:
        job_id, _ = await rig.sent()

    def local_only(adapter: Adapter) -> None:
        @adapter.task("remote")
        async def remote(payload: Any) -> Any:
            return payload

        del remote

    async with rigged(database_url, local_only, executors=[]) as without:
        asked = await without.adapter.cancel_job(job_id)
        assert (asked.status, asked.cancel_requested) == (JobStatus.QUEUED, True)


# ---- replay and results --------------------------------------------------------------------------


async def test_a_replay_is_a_new_job_that_names_the_old_one(rig: Rig) -> None:
    old = await rig.adapter.schedule_job(
        "echo", {"n": 1}, idempotency_key="k", tag="t", tags=["red"], user_id="u", priority=3, metadata={"m": 1},
        delay=timedelta(0), ttl=timedelta(hours=1),
    )  # fmt: skip
    await rig.work()
    new = await rig.adapter.replay_job(old.id, actor="ann")
    assert new.id != old.id
    row = await rig.row(new.id)
    assert (row["data"], row["tags"], row["user_id"], row["priority"], row["metadata"]) == (
        {"n": 1},
        ["red"],
        "u",
        3,
        {"m": 1},
    )
    assert [row[name] for name in ("idempotency_key", "tag", "due", "expires_at")] == [None] * 4
    assert row["extra"] == {"replay_of": str(old.id), "replayed_by": "ann"}
    assert await rig.status(old.id) == "COMPLETED"
    other = await rig.adapter.replay_job(old.id, data={"n": 2}, executor="local", priority=9)
    assert ((await rig.row(other.id))["data"], (await rig.row(other.id))["priority"]) == ({"n": 2}, 9)
    with pytest.raises(JobNotFoundError):
        await rig.adapter.replay_job(new_id())


class Answer(BaseModel):
    number: int
    at: datetime


def typed(adapter: Adapter) -> None:
    usual_tasks(adapter)

    @adapter.task("typed")
    async def answer(payload: int) -> Answer:
        return Answer(number=payload, at=datetime(2026, 1, 1, tzinfo=UTC))

    @adapter.task("fails")
    async def fails(payload: Any) -> None:
        raise ValueError("no good")

    del answer, fails


async def test_results_come_back_as_the_handler_declares_them(database_url: str) -> None:
    async with rigged(database_url, typed) as rig:
        job = await rig.adapter.schedule_job("typed", 5)
        waiting = asyncio.ensure_future(job.result(timedelta(seconds=5)))  # noqa: TID251 - while it is worked on
        await rig.work()
        assert await waiting == Answer(number=5, at=datetime(2026, 1, 1, tzinfo=UTC))


async def test_a_failed_job_raises_what_went_wrong(database_url: str) -> None:
    async with rigged(database_url, typed) as rig:
        job = await rig.adapter.schedule_job("fails", max_attempts=1)
        await rig.work()
        with pytest.raises(JobFailedError, match="no good") as caught:
            await job.result()
        assert (caught.value.status, caught.value.job_id, (caught.value.error or {})["name"]) == (
            "FAILED",
            job.id,
            "ValueError",
        )


async def test_waiting_has_an_end_and_the_job_goes_on(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("echo", 1)
    with pytest.raises(ResultTimeoutError) as caught:
        await job.result(timedelta(milliseconds=1))
    assert isinstance(caught.value, TimeoutError)
    await rig.work()
    assert await job.result(timedelta(0)) == 1
    with pytest.raises(JobNotFoundError):
        await rig.adapter.wait_for(new_id())


async def test_a_job_that_ends_elsewhere_wakes_who_waits_here(database_url: str) -> None:
    async with (
        rigged(database_url) as here,
        rigged(database_url) as there,
        here.adapter.running(sync=False, dispatch=False),
    ):
        job = await here.adapter.schedule_job("echo", 8)
        waiting = asyncio.ensure_future(job.result(timedelta(seconds=5)))  # noqa: TID251 - while it is worked on
        await there.work()
        assert await waiting == 8


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "data", "options", "error"),
    [
        ("ech", 1, {}, UnknownTaskError),
        ("off", 1, {}, TaskDisabledError),
        ("typed", "five", {}, InvalidPayloadError),
        ("echo", "a\x00b", {}, InvalidPayloadError),
        ("echo", float("inf"), {}, InvalidPayloadError),
        ("echo", {"k": "\ud800"}, {}, InvalidPayloadError),
        ("echo", [1 << 20_000], {}, InvalidPayloadError),
        ("echo", object(), {}, InvalidPayloadError),
        ("echo", 1, {"executor": "nowhere"}, UnknownExecutorError),
        ("echo", 1, {"executor": "trigger"}, InvalidArgumentError),
        ("echo", 1, {"due": datetime(2030, 1, 1)}, InvalidArgumentError),  # noqa: DTZ001 - that is the point
        ("echo", 1, {"due": datetime(2030, 1, 1, tzinfo=UTC), "delay": timedelta(1)}, InvalidArgumentError),
        ("echo", 1, {"delay": timedelta(seconds=-1)}, InvalidArgumentError),
        ("echo", 1, {"max_duration": timedelta(0)}, InvalidArgumentError),
        ("echo", 1, {"tags": "red"}, InvalidArgumentError),
        ("echo", 1, {"tags": [""]}, InvalidArgumentError),
        ("echo", 1, {"tag": "x" * 129}, InvalidArgumentError),
        ("echo", 1, {"tag": "a\x00b"}, InvalidArgumentError),
        ("echo", 1, {"tags": ["a\x00b"]}, InvalidArgumentError),
        ("echo", 1, {"queue": "\ud800"}, InvalidArgumentError),
        ("echo", 1, {"concurrency_key": "a\x00b"}, InvalidArgumentError),
        ("echo", 1, {"user_id": "a\x00b"}, InvalidArgumentError),
        ("echo", 1, {"idempotency_key": "a\x00b"}, InvalidArgumentError),
        ("echo", 1, {"metadata": {"said": "a\x00b"}}, InvalidArgumentError),
        ("echo", 1, {"priority": 1 << 31}, InvalidArgumentError),
        ("echo", 1, {"priority": 0.5}, InvalidArgumentError),
        ("echo", 1, {"max_attempts": 1 << 31}, InvalidArgumentError),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_what_cannot_be_meant_is_refused_and_nothing_is_written(
    database_url: str, task: str, data: Any, options: Any, error: type[Exception]
) -> None:
    def declare(adapter: Adapter) -> None:
        typed(adapter)
        adapter.remote_task("off", executor="trigger", enabled=False)

    async with rigged(database_url, declare) as rig:
        with pytest.raises(error):
            await rig.adapter.schedule_job(task, data, **options)
        assert await rig.value("SELECT count(*) FROM {s}.worker_jobs") == 0


async def nothing(payload: Any) -> Any:
    return payload


async def no_payload() -> None:
    """A handler must take one."""


def unknown_executor(adapter: Adapter) -> None:
    adapter.task("x", fallback="nowhere")(nothing)


def declared_twice(adapter: Adapter) -> None:
    adapter.task("x")(nothing)
    adapter.task("x")(nothing)


def nowhere_to_run(adapter: Adapter) -> None:
    adapter.remote_task("x")


def one_spelling(adapter: Adapter) -> None:
    adapter.task("sendMail")(nothing)
    adapter.task("send-mail")(nothing)


def wrong_handler(adapter: Adapter) -> None:
    wrong: Any = no_payload
    adapter.task("x")(wrong)


def no_schema(adapter: Adapter) -> None:
    async def handler(payload: asyncio.Event) -> None:
        del payload

    adapter.task("x")(handler)


def two_limits(adapter: Adapter) -> None:
    adapter.task("x", queue=Queue("q", 1))(nothing)
    adapter.task("y", queue=Queue("q", 2))(nothing)


@pytest.mark.parametrize(
    ("declare", "error", "says"),
    [
        (unknown_executor, UnknownExecutorError, "nowhere"),
        (declared_twice, TaskDefinitionError, "twice"),
        (nowhere_to_run, TaskDefinitionError, "no handler here"),
        (one_spelling, TaskDefinitionError, "SEND_MAIL"),
        (wrong_handler, TaskDefinitionError, "takes 0 arguments"),
        (no_schema, TaskDefinitionError, "no schema"),
        (two_limits, TaskDefinitionError, "with different limits"),
    ],
)
async def test_a_registry_that_cannot_be_right_refuses_to_open(
    database_url: str, declare: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        async with rigged(database_url, declare):
            pass


async def test_a_placeholder_key_turns_the_executor_off_and_says_so(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        adapter = Adapter(
            Settings(database_url=SecretStr(database_url), trigger_secret_key=SecretStr("tr_dev_xxxxxxxxxx"))
        )
        adapter.remote_task("x", remote_id={"trigger": "x"}, executor="local")
        async with adapter:
            assert adapter.executors.names == []
    assert "placeholder" in caplog.text


async def test_a_task_cannot_be_declared_after_the_adapter_was_opened(rig: Rig) -> None:
    with pytest.raises(TaskDefinitionError, match="after the adapter was opened"):
        rig.adapter.remote_task("late", executor="trigger")


async def test_a_closed_adapter_says_that_it_is_closed(database_url: str) -> None:
    async with rigged(database_url) as rig:
        adapter = rig.adapter
    with pytest.raises(NotOpenError):
        await adapter.schedule_job("echo", 1)
    with pytest.raises(NotOpenError):
        await Adapter(Settings(database_url=SecretStr(database_url))).get_job(new_id())


async def test_opening_may_be_nested(database_url: str) -> None:
    async with rigged(database_url) as rig:
        async with rig.adapter:
            await rig.adapter.schedule_job("echo", 1)
        assert await rig.work() == 1


# ---- without an event loop -----------------------------------------------------------------------


def test_the_sync_face_does_what_the_async_one_does(database_url: str) -> None:
    adapter = Adapter(Settings(database_url=SecretStr(database_url)))
    adapter.task("echo")(nothing)
    with pytest.raises(NotOpenError):
        adapter.sync.schedule_job("echo", 1)
    with adapter.sync as face:
        job = face.schedule_job("echo", {"n": 1}, tag="t")
        assert face.schedule_job("echo", 2, tag="t").deduplicated
        assert (face.get_job(job.id) or job.job).data == {"n": 1}
        assert [each.id for each in face.list_jobs().jobs] == [job.id]
        with pytest.raises(ResultTimeoutError):
            job.result(timedelta(milliseconds=1))
        face.call(adapter.worker().run_once())
        assert job.result() == {"n": 1}
        assert job.refresh().status is JobStatus.COMPLETED
        other = face.schedule_job("echo", 3)
        assert other.cancel().status is JobStatus.CANCELED
    with pytest.raises(NotOpenError):
        adapter.sync.get_job(job.id)


_FORKING = """
import json, os, sys
from pydantic import SecretStr
from adapter import Adapter, Settings
from adapter.domain.errors import NotOpenError

adapter = Adapter(Settings(database_url=SecretStr(sys.argv[1])))

@adapter.task("echo")
async def echo(payload: int) -> int:
    return payload

face = adapter.sync
face.open()
first = face.schedule_job("echo", 1)
child = os.fork()
if child == 0:
    try:
        try:
            face.schedule_job("echo", 2)
            os._exit(3)
        except NotOpenError:
            pass
        with face:
            face.schedule_job("echo", 3)
            face.kill("echo", reason="INC-7")
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(4)
_, status = os.waitpid(child, 0)
last = face.schedule_job("echo", 4)
data = sorted(job.data for job in face.list_jobs().jobs)
face.close()
print(json.dumps([os.waitstatus_to_exitcode(status), data, last.job.route_reason]))
"""


def test_a_forked_child_opens_its_own_and_the_parent_keeps_its_own(database_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORKING, database_url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0, [1, 3, 4], "kill switch: runtime, this task"]
    assert os.getpid()
