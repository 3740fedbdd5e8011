import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from adapter.core.lifecycle import BACKOFF_S, MOST_OUTPUT_BYTES, LifecycleSender, lifecycle_event
from adapter.core.remote_events import parse_event
from adapter.domain.errors import ConfigurationError
from adapter.domain.identity import run_id_of
from adapter.domain.job import Job, JobStatus, SubmitState
from adapter.domain.outcome import Authority
from adapter.domain.signing import Secret, verify

AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
JOB_ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "http://peer.test/api/trigger/webhook"


class StillClock:
    """A clock that moves only by what is slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return AT + timedelta(seconds=sum(self.slept))

    def monotonic(self) -> float:
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Receiver:
    """Answers with the given statuses, then 200; None is a connection that cannot be made."""

    def __init__(self) -> None:
        self.answers: list[int | None] = []
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status = self.answers.pop(0) if self.answers else 200
        if status is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(status, json={"success": True})

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests]


def make_job(status: JobStatus = JobStatus.COMPLETED, **over: Any) -> Job:
    fields: dict[str, Any] = {
        "id": JOB_ID,
        "type": "echo",
        "status": status,
        "executor": "local",
        "route_reason": "default",
        "epoch": 1,
        "submit_state": SubmitState.NEVER,
        "data": None,
        "queue": "default",
        "created_at": AT,
        "updated_at": AT,
        "attempt": 1,
        "started": AT,
        "finished": AT if status.is_terminal else None,
        "tags": ("a", f"job:{UUID(int=9)}:2"),
    }
    return Job(**(fields | over))


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def make_sender(clock: StillClock, receiver: Receiver) -> AsyncIterator[Callable[..., LifecycleSender]]:
    made: list[LifecycleSender] = []

    def make(**over: Any) -> LifecycleSender:
        sender = LifecycleSender(URL, SECRET, clock, httpx.MockTransport(receiver), **over)
        made.append(sender)
        return sender

    yield make
    for sender in made:
        await sender.aclose()


async def test_an_event_is_signed_and_read_by_our_own_parser(
    make_sender: Callable[..., LifecycleSender], receiver: Receiver, clock: StillClock
) -> None:
    sender = make_sender()
    sender.finished(make_job(result={"rows": 3}))
    await sender.aclose()
    (request,) = receiver.requests
    verified = verify(request.headers, request.content, [Secret("a", SECRET)], clock.now())
    assert verified.delivery_id == f"{run_id_of(JOB_ID)}:1:1:RUN_COMPLETED"
    assert request.headers["content-type"] == "application/json"
    event = parse_event(receiver.bodies[0])
    assert event is not None
    assert event.job == (UUID(int=9), 2)
    assert (event.report.run_id, event.report.status) == (run_id_of(JOB_ID), JobStatus.COMPLETED)
    assert (event.report.authority, event.report.output) == (Authority.ENGINE, {"rows": 3})
    assert (event.report.at, event.report.attempt, event.report.started) == (AT, 1, True)
    assert sender.sent == 1


@pytest.mark.parametrize("status", [status for status in JobStatus if status.is_terminal])
def test_every_end_survives_the_way_there(status: JobStatus) -> None:
    job = make_job(status, error={"name": "E", "message": "m", "stack": "s"}, result=None)
    kind = {"COMPLETED": "RUN_COMPLETED", "CANCELED": "RUN_CANCELED"}.get(status.value, "RUN_FAILED")
    event = parse_event(json.loads(json.dumps(lifecycle_event(job, kind).body)))
    assert event is not None
    assert event.report.status is status
    if status is not JobStatus.COMPLETED:
        assert event.report.error == {"name": "E", "message": "m", "stack": "s"}


def test_a_start_and_a_job_that_never_began() -> None:
    event = parse_event(lifecycle_event(make_job(JobStatus.EXECUTING), "RUN_STARTED").body)
    assert event is not None
    assert (event.report.status, event.report.started) == (JobStatus.EXECUTING, True)
    never = make_job(JobStatus.CANCELED, attempt=0, started=None)
    event = parse_event(lifecycle_event(never, "RUN_CANCELED").body)
    assert event is not None
    assert event.report.started is False


def test_a_large_output_is_left_out_and_said_to_be() -> None:
    job = make_job(result="x" * MOST_OUTPUT_BYTES)
    body = lifecycle_event(job, "RUN_COMPLETED").body
    assert body["data"]["run"]["outputOmitted"] is True
    event = parse_event(body)
    assert event is not None
    assert event.report.authority is Authority.HOOK


@pytest.mark.parametrize("answer", [None, 500, 503, 429, 408])
async def test_a_receiver_that_is_down_is_asked_again_under_the_same_id(
    make_sender: Callable[..., LifecycleSender], receiver: Receiver, clock: StillClock, answer: int | None
) -> None:
    sender = make_sender()
    receiver.answers = [answer, answer, answer]
    sender.started(make_job(JobStatus.EXECUTING))
    await sender.aclose()
    assert clock.slept == list(BACKOFF_S)
    assert (sender.sent, sender.failed) == (1, 0)
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert len({request.headers["webhook-timestamp"] for request in receiver.requests}) > 1


async def test_after_the_last_try_the_next_event_has_its_turn(
    make_sender: Callable[..., LifecycleSender], receiver: Receiver
) -> None:
    sender = make_sender()
    receiver.answers = [500, 500, 500, 500]
    sender.started(make_job(JobStatus.EXECUTING))
    sender.finished(make_job())
    await sender.aclose()
    assert (sender.sent, sender.failed) == (1, 1)
    assert receiver.bodies[-1]["type"] == "RUN_COMPLETED"


@pytest.mark.parametrize("status", [400, 401, 404, 410, 413])
async def test_a_clear_no_is_not_asked_again(
    make_sender: Callable[..., LifecycleSender], receiver: Receiver, clock: StillClock, status: int
) -> None:
    sender = make_sender()
    receiver.answers = [status]
    sender.finished(make_job())
    await sender.aclose()
    assert (len(receiver.requests), clock.slept, sender.failed) == (1, [], 1)


async def test_a_full_queue_loses_its_oldest_and_counts_it(
    make_sender: Callable[..., LifecycleSender], receiver: Receiver
) -> None:
    sender = make_sender(capacity=2)
    for attempt in (1, 2, 3):
        sender.started(make_job(JobStatus.EXECUTING, attempt=attempt))
    await sender.aclose()
    assert [body["data"]["run"]["attempt"] for body in receiver.bodies] == [2, 3]
    assert sender.dropped == 1


async def test_a_job_that_cannot_be_told_harms_nobody(make_sender: Callable[..., LifecycleSender]) -> None:
    sender = make_sender()
    sender.finished(make_job(result=object()))
    assert sender.failed == 1


async def test_events_leave_by_themselves(clock: StillClock) -> None:
    arrived = asyncio.Event()

    def note(request: httpx.Request) -> httpx.Response:
        arrived.set()
        return httpx.Response(204)

    sender = LifecycleSender(URL, SECRET, clock, httpx.MockTransport(note))
    sender.finished(make_job())
    async with asyncio.timeout(2):
        await arrived.wait()
    await sender.aclose()
    assert (sender.sent, sender.dropped) == (1, 0)


async def test_closing_sends_what_is_queued(
    make_sender: Callable[..., LifecycleSender], receiver: Receiver
) -> None:
    sender = make_sender()
    sender.started(make_job(JobStatus.EXECUTING))
    sender.finished(make_job())
    await sender.aclose()
    assert [body["type"] for body in receiver.bodies] == ["RUN_STARTED", "RUN_COMPLETED"]
    await sender.aclose()
    assert (sender.sent, sender.dropped) == (2, 0)
    sender.finished(make_job())
    assert sender.dropped == 1


async def test_closing_stops_at_its_deadline(clock: StillClock) -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    sender = LifecycleSender(URL, SECRET, clock, httpx.MockTransport(never))
    sender.started(make_job(JobStatus.EXECUTING))
    sender.finished(make_job())
    await sender.aclose(timedelta(milliseconds=20))
    assert (sender.sent, sender.dropped) == (0, 2)


@pytest.mark.parametrize(("url", "secret"), [("ftp://x", SECRET), ("x", SECRET), (URL, ""), (URL, "whsec_!")])
def test_a_sender_that_could_never_send_is_not_made(url: str, secret: str, clock: StillClock) -> None:
    with pytest.raises(ConfigurationError):
        LifecycleSender(url, secret, clock)
