"""The Trigger.dev executor: what goes out, what is made of what comes back."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from adapter.domain.errors import (
    ConfigurationError,
    InvalidArgumentError,
    NotSentError,
    RejectedError,
    ThrottledError,
    UnknownOutcomeError,
)
from adapter.domain.job import TERMINAL, JobStatus
from adapter.executors.base import Accepted, Budget, Executor, RunFilter, Submission
from adapter.executors.trigger_dev import TriggerDev
from adapter.executors.trigger_runs import STATUSES, normalize_error, read_run, words_for
from tests.fakes.clock import START, ManualClock
from tests.fakes.trigger_dev import API_URL, SECRET_KEY, FakeTriggerDev

JOB = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
TAG = f"job:{JOB}:2"


def submission(**over: Any) -> Submission:
    fields: dict[str, Any] = {
        "job_id": JOB,
        "epoch": 2,
        "task": "process",
        "remote_id": "process-large-dataset",
        "data": {"dataset": "ä"},
    }
    return Submission(**(fields | over))


def options_of(fake: FakeTriggerDev) -> dict[str, Any]:
    return fake.requests[-1].body["options"]


def answering(response: httpx.Response) -> TriggerDev:
    transport = httpx.MockTransport(lambda _: response)
    return TriggerDev(secret_key=SECRET_KEY, api_url=API_URL, clock=ManualClock(), transport=transport)


def test_it_is_an_executor(executor: TriggerDev) -> None:
    assert isinstance(executor, Executor)
    assert executor.name == "trigger"
    assert executor.budget == Budget(per_second=25, burst=750)
    assert executor.capabilities.lookup
    assert executor.capabilities.dedup_for == timedelta(hours=24)
    assert executor.capabilities.longest_ttl == timedelta(days=14)


def test_the_environment_tells_keys_branches_and_hosts_apart_and_no_secret() -> None:
    def environment(**over: Any) -> str:
        given: dict[str, Any] = {"secret_key": "tr_prod_abcdefgh", **over}
        return TriggerDev(**given).environment

    assert environment() == "prod-e06aecab39e9"
    others = [
        environment(secret_key="tr_prod_abcdefgi"),
        environment(secret_key="tr_dev_abcdefgh"),
        environment(secret_key="tr_preview_sk_abcdefgh"),
        environment(secret_key="tr_prod_abcdefgh", branch="feature"),
        environment(api_url="https://trigger.internal"),
        environment(secret_key="opaque"),
    ]
    assert len({environment(), *others}) == 7
    assert [each.partition("-")[0] for each in others] == ["prod", "dev", "preview", "prod", "prod", "key"]
    assert environment(environment="prod-eu") == "prod-eu"
    assert "abcdefgh" not in repr(TriggerDev(secret_key="tr_prod_abcdefgh"))


@pytest.mark.parametrize(
    "over",
    [{"secret_key": ""}, {"secret_key": "tr prod"}, {"secret_key": "tr_\n"}, {"api_url": "api.trigger.dev"}],
)
def test_what_cannot_work_stops_the_boot(over: dict[str, Any]) -> None:
    given: dict[str, Any] = {"secret_key": "tr_prod_x", **over}
    with pytest.raises(ConfigurationError):
        TriggerDev(**given)


async def test_a_submit_on_the_wire(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    accepted = await executor.submit(submission(remote_id="ns/task with space"))
    (seen,) = fake.requests
    assert accepted == Accepted(run_id="run_" + "1".rjust(26, "x"))
    assert (seen.method, seen.path) == ("POST", "/api/v1/tasks/ns%2Ftask%20with%20space/trigger")
    ours = {name: value for name, value in seen.headers.items() if name not in {"accept", "user-agent"}}
    assert ours == {
        "host": "api.trigger.test",
        "authorization": f"Bearer {SECRET_KEY}",
        "x-trigger-api-version": "2025-07-16",
        "x-trigger-request-idempotency-key": "f4cb1f52-e0b7-59f5-ab85-eb46cd1ce1fd",
        "content-type": "application/json",
        "content-length": seen.headers["content-length"],
        "accept-encoding": seen.headers["accept-encoding"],
        "connection": "keep-alive",
    }
    assert seen.body == {
        "payload": {"dataset": "ä"},
        "options": {
            "payloadType": "application/json",
            "idempotencyKey": "399af44b64217c6587fd8e724c4d56df6bdc1eabeafe73757a6489b9b782e5d3",
            "idempotencyKeyTTL": "30d",
            "idempotencyKeyOptions": {"key": f"{JOB}:2", "scope": "global"},
            "tags": [TAG],
            "ttl": 1_209_600,
            "maxAttempts": 3,
        },
    }


async def test_every_option(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await executor.submit(
        submission(
            tags=("a", "b:1"),
            metadata={"k": "v"},
            queue="heavy",
            concurrency_key="tenant-1",
            priority=10,
            max_attempts=5,
            max_duration=timedelta(seconds=90.5),
            ttl=timedelta(hours=2),
            delay_until=START + timedelta(hours=1),
            traceparent=trace,
        )
    )
    options = options_of(fake)
    assert {name: options[name] for name in options if not name.startswith("idempotency")} == {
        "payloadType": "application/json",
        "tags": [TAG, "a", "b:1"],
        "metadata": {"k": "v"},
        "queue": {"name": "heavy"},
        "concurrencyKey": "tenant-1",
        "priority": 10,
        "maxAttempts": 5,
        "maxDuration": 91,
        "ttl": 3600,
        "delay": "2026-11-22T11:00:00.000Z",
    }
    assert fake.requests[-1].headers["traceparent"] == trace


@pytest.mark.parametrize(
    ("over", "name", "expected"),
    [
        ({"queue": "default"}, "queue", None),
        ({"max_duration": timedelta(seconds=1)}, "maxDuration", 5),
        ({"ttl": timedelta(days=60)}, "ttl", 1_209_600),
        ({"ttl": timedelta(seconds=0.2)}, "ttl", 1),
        ({"ttl": -timedelta(seconds=5)}, "ttl", 1),
        ({"max_attempts": 0}, "maxAttempts", 1),
        ({"delay_until": START - timedelta(1), "ttl": timedelta(seconds=9)}, "ttl", 9),
    ],
)
async def test_options_stay_in_their_bounds(
    over: dict[str, Any], name: str, expected: Any, executor: TriggerDev, fake: FakeTriggerDev
) -> None:
    await executor.submit(submission(**over))
    assert options_of(fake).get(name) == expected


async def test_our_tag_always_fits(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    others = ("x" * 200, " ", "tag", "tag", f"job:{JOB}:7", " tombstone:1:1", *(f"t{n}" for n in range(20)))
    await executor.submit(submission(tags=others))
    assert options_of(fake)["tags"] == [TAG, "x" * 128, "tag", *(f"t{n}" for n in range(7))]


async def test_a_trace_that_is_none_is_left_out(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    await executor.submit(submission(traceparent="00-x\r\nevil: 1"))
    assert "traceparent" not in fake.requests[-1].headers


@pytest.mark.parametrize("data", [None, "text", 0, [], {"a": [1, None]}, "x" * 131_069])
async def test_a_small_payload_is_the_value_itself(
    data: Any, executor: TriggerDev, fake: FakeTriggerDev
) -> None:
    await executor.submit(submission(data=data))
    assert fake.requests[-1].body["payload"] == data
    assert [run.payload for run in fake.runs.values()] == [data]


async def test_a_large_payload_goes_through_the_store(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    data = "x" * 131_070
    await executor.submit(submission(data=data))
    assert [(seen.call, seen.method) for seen in fake.requests] == [
        ("packet", "PUT"),
        ("store", "PUT"),
        ("trigger", "POST"),
    ]
    packet, store, trigger = fake.requests
    place = f"trigger/packet_{JOB}_2/payload.json"
    assert packet.path == "/api/v2/packets/" + place.replace("/", "%2F")
    assert packet.headers["content-length"] == "0"
    assert "authorization" not in store.headers
    assert (store.headers["content-type"], store.headers["content-length"]) == ("application/json", "131072")
    assert trigger.body["payload"] == place
    assert trigger.body["options"]["payloadType"] == "application/store"
    assert trigger.body["options"]["payloadSize"] == 131_072
    assert [run.payload for run in fake.runs.values()] == [data]


@pytest.mark.parametrize(
    ("call", "fault", "expected"),
    [
        ("packet", 500, NotSentError),
        ("packet", "timeout_after", NotSentError),
        ("packet", "garbled_after", NotSentError),
        ("packet", 429, ThrottledError),
        ("packet", 401, RejectedError),
        ("store", 403, NotSentError),
        ("store", 503, NotSentError),
        ("store", "reset_after", NotSentError),
    ],
)
async def test_a_payload_that_was_not_stored_was_not_submitted(
    call: Any, fault: Any, expected: type[Exception], executor: TriggerDev, fake: FakeTriggerDev
) -> None:
    for _ in range(3):
        fake.next_fault(fault, on=call)
    with pytest.raises(expected):
        await executor.submit(submission(data="x" * 200_000))
    assert fake.runs == {}


async def test_a_payload_that_is_no_json_is_refused_here(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    with pytest.raises(RejectedError):
        await executor.submit(submission(data=float("nan")))
    assert fake.requests == []


async def test_a_lost_reply_makes_no_second_run(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    fake.next_fault("timeout_after", on="trigger")
    with pytest.raises(UnknownOutcomeError):
        await executor.submit(submission())
    fake.next_fault(500, on="trigger", after=True)
    accepted = await executor.submit(submission())
    assert list(fake.runs) == [accepted.run_id]


async def test_the_first_run_answers_whatever_became_of_it(
    executor: TriggerDev, fake: FakeTriggerDev
) -> None:
    first = await executor.submit(submission())
    fake.start(first.run_id)
    fake.fail(first.run_id)
    fake.advance(20 * 3600)
    assert (await executor.submit(submission())).run_id == first.run_id
    assert (await executor.submit(submission(epoch=3))).run_id != first.run_id


async def test_a_tombstone_finds_the_run_or_proves_its_absence(
    executor: TriggerDev, fake: FakeTriggerDev
) -> None:
    found = await executor.submit_tombstone(submission())
    run = await executor.retrieve(found.run_id)
    assert run is not None
    assert run.tags == (f"tombstone:{JOB}:2",)
    assert (run.status, run.never_started) == (JobStatus.DELAYED, True)
    assert fake.runs[found.run_id].payload is None
    real = await executor.submit(submission(epoch=3))
    assert (await executor.submit_tombstone(submission(epoch=3))).run_id == real.run_id


@pytest.mark.parametrize("word", sorted(STATUSES))
async def test_a_status_in_our_words(word: str, executor: TriggerDev, fake: FakeTriggerDev) -> None:
    run_id = (await executor.submit(submission())).run_id
    fake.runs[run_id].status = word
    run = await executor.retrieve(run_id)
    assert run is not None
    assert run.remote_status == word
    expected = {"DEQUEUED": "EXECUTING", "PENDING_VERSION": "QUEUED"}.get(word, word)
    assert run.status == expected
    # The server's own booleans deny this for EXPIRED and TIMED_OUT.
    assert run.status.is_terminal == (word in {str(status) for status in TERMINAL})


async def test_a_status_nobody_knows_is_said_aloud(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    run_id = (await executor.submit(submission())).run_id
    fake.runs[run_id].status = "SLEEPING"
    with pytest.raises(UnknownOutcomeError, match="SLEEPING"):
        await executor.retrieve(run_id)


async def test_a_finished_run_comes_back_whole(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    run_id = (await executor.submit(submission(tags=("b", "a")))).run_id
    fake.advance(5)
    fake.start(run_id)
    fake.advance(2)
    fake.complete(run_id, {"rows": 7})
    run = await executor.retrieve(run_id)
    assert run is not None
    assert (run.status, run.output, run.error, run.complete) == (JobStatus.COMPLETED, {"rows": 7}, None, True)
    assert (run.task, run.tags, run.attempt) == ("process-large-dataset", ("a", "b", TAG), 1)
    assert run.created_at == START
    assert run.started_at == START + timedelta(seconds=5)
    assert run.finished_at == run.updated_at == START + timedelta(seconds=7)
    assert not run.never_started


async def test_a_failed_run_brings_its_error(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    run_id = (await executor.submit(submission())).run_id
    fake.start(run_id)
    fake.fail(run_id, {"message": "boom", "stackTrace": "at x", "causes": []}, status="CRASHED")
    run = await executor.retrieve(run_id)
    assert run is not None
    assert run.status == JobStatus.CRASHED
    assert run.error == {"name": "Error", "message": "boom", "stack": "at x"}


@pytest.mark.parametrize(
    ("content_type", "packet", "output"),
    [
        ("application/json", {"json": {"a": 1}}, {"json": {"a": 1}}),
        ("application/super+json", {"json": {"n": "7"}, "meta": {"values": {"n": ["bigint"]}}}, {"n": 7}),
        ("binary/octet-stream", [1], [1]),
    ],
)
async def test_a_stored_output_is_fetched(
    content_type: str, packet: Any, output: Any, executor: TriggerDev, fake: FakeTriggerDev
) -> None:
    run_id = (await executor.submit(submission())).run_id
    fake.start(run_id)
    fake.complete(run_id, stored_as=content_type, packet=json.dumps(packet).encode())
    run = await executor.retrieve(run_id)
    assert run is not None
    assert (run.output, run.complete) == (output, True)


@pytest.mark.parametrize("loss", [404, 403, "unreadable"])
async def test_an_output_that_is_lost_does_not_hide_the_end(
    loss: Any, executor: TriggerDev, fake: FakeTriggerDev
) -> None:
    run_id = (await executor.submit(submission())).run_id
    fake.start(run_id)
    fake.complete(run_id, stored_as="application/json", packet=b"{")
    if loss != "unreadable":
        fake.next_fault(loss, on="store")
    run = await executor.retrieve(run_id)
    assert run is not None
    assert (run.status, run.output, run.complete) == (JobStatus.COMPLETED, None, False)


@pytest.mark.parametrize("fault", [503, 429, "timeout_after"])
async def test_an_output_that_may_come_is_waited_for(
    fault: Any, executor: TriggerDev, fake: FakeTriggerDev
) -> None:
    run_id = (await executor.submit(submission())).run_id
    fake.start(run_id)
    fake.complete(run_id, stored_as="application/json", packet=b"1")
    fake.next_fault(fault, on="store")
    with pytest.raises(UnknownOutcomeError):
        await executor.retrieve(run_id)


async def test_an_unknown_run_is_none_after_a_few_looks(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    assert await executor.retrieve("run_nope") is None
    assert [seen.call for seen in fake.requests] == ["retrieve"] * 3


async def test_odd_ids_stay_in_their_part_of_the_path(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    await executor.retrieve("a/b?c")
    await executor.cancel("..")
    assert [seen.path for seen in fake.requests[-2:]] == [
        "/api/v3/runs/a%2Fb%3Fc",
        "/api/v2/runs/%2E%2E/cancel",
    ]


@pytest.mark.parametrize("body", [{}, [], {"id": "run_1"}, {"id": 1, "status": "QUEUED"}, "text", None])
async def test_a_reply_that_is_no_run_is_unknown(body: Any) -> None:
    executor = answering(httpx.Response(200, json=body))
    await executor.open()
    with pytest.raises(UnknownOutcomeError):
        await executor.retrieve("run_1")
    with pytest.raises(UnknownOutcomeError):
        await executor.list_runs(RunFilter(since=START))
    if body != {"id": "run_1"}:
        with pytest.raises(UnknownOutcomeError):
            await executor.replay("run_1")
    await executor.close()


@pytest.mark.parametrize("body", [{}, [], {"id": ""}, {"id": 7}, "run_1"])
async def test_an_acceptance_without_a_run_is_unknown(body: Any) -> None:
    executor = answering(httpx.Response(200, json=body))
    await executor.open()
    with pytest.raises(UnknownOutcomeError):
        await executor.submit(submission())
    await executor.close()


async def test_a_list_on_the_wire(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    await executor.list_runs(
        RunFilter(
            since=datetime(2026, 11, 1, tzinfo=UTC),
            until=datetime(2026, 11, 2, tzinfo=UTC),
            tags=("a", "job:1:2"),
            tasks=("echo", "fail"),
            statuses=(JobStatus.QUEUED, JobStatus.EXECUTING),
            page_size=500,
        )
    )
    assert dict(fake.requests[-1].query) == {
        "filter[createdAt][from]": "1793491200000",
        "filter[createdAt][to]": "1793577600000",
        "filter[tag]": "a,job:1:2",
        "filter[taskIdentifier]": "echo,fail",
        "filter[status]": "DEQUEUED,EXECUTING,PENDING_VERSION,QUEUED",
        "page[size]": "100",
    }


async def test_a_list_is_walked_to_its_end(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    made = [(await executor.submit(submission(epoch=epoch))).run_id for epoch in range(1, 6)]
    wanted = RunFilter(since=START - timedelta(1), page_size=2)
    pages = [await executor.list_runs(wanted)]
    while pages[-1].next is not None:
        pages.append(await executor.list_runs(wanted, pages[-1].next))
    assert [len(page.runs) for page in pages] == [2, 2, 1]
    assert [run.run_id for page in pages for run in page.runs] == made[::-1]
    assert not any(run.complete for page in pages for run in page.runs)


async def test_a_list_finds_by_any_tag(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    made = [(await executor.submit(submission(epoch=epoch))).run_id for epoch in range(1, 4)]
    page = await executor.list_runs(RunFilter(since=START, tags=(f"job:{JOB}:1", f"job:{JOB}:3")))
    assert {run.run_id for run in page.runs} == {made[0], made[2]}
    with pytest.raises(InvalidArgumentError):
        await executor.list_runs(RunFilter(since=START, tags=tuple(map(str, range(101)))))


async def test_one_odd_run_does_not_hide_the_others(
    executor: TriggerDev, fake: FakeTriggerDev, caplog: pytest.LogCaptureFixture
) -> None:
    made = [(await executor.submit(submission(epoch=epoch))).run_id for epoch in range(1, 4)]
    fake.move(fake.runs[made[1]], "SLEEPING")
    page = await executor.list_runs(RunFilter(since=START))
    assert {run.run_id for run in page.runs} == {made[0], made[2]}
    assert "SLEEPING" in caplog.text


async def test_a_cursor_that_stands_still_ends_the_walk() -> None:
    run = {"id": "run_1", "status": "QUEUED", "taskIdentifier": "t"}
    executor = answering(httpx.Response(200, json={"data": [run], "pagination": {"next": "same"}}))
    await executor.open()
    assert (await executor.list_runs(RunFilter(since=START))).next == "same"
    assert (await executor.list_runs(RunFilter(since=START), "same")).next is None
    await executor.close()


async def test_cancel_asks_and_forgives(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    run_id = (await executor.submit(submission())).run_id
    await executor.cancel(run_id)
    await executor.cancel(run_id)
    await executor.cancel("run_nope")
    seen = fake.requests[-1]
    assert (seen.body, seen.headers["content-length"]) == (None, "0")
    run = await executor.retrieve(run_id)
    assert run is not None
    assert (run.status, run.never_started) == (JobStatus.CANCELED, True)


async def test_a_replay_does_not_pass_for_the_old_job(executor: TriggerDev, fake: FakeTriggerDev) -> None:
    run_id = (await executor.submit(submission(tags=("a",)))).run_id
    again = await executor.replay(run_id)
    assert fake.runs[again].tags == ("a", f"replay-of:{run_id}")
    fake.next_fault(500, on="replay", after=True)
    with pytest.raises(UnknownOutcomeError):
        await executor.replay(run_id)
    assert len(fake.runs) == 3  # asked once only: each try would be a run
    with pytest.raises(RejectedError):
        await executor.replay("run_nope")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_wrong_key_can_be_told_from_a_refused_job(
    status: int, executor: TriggerDev, fake: FakeTriggerDev
) -> None:
    fake.next_fault(status)
    with pytest.raises(RejectedError) as raised:
        await executor.submit(submission())
    assert raised.value.status == status


async def test_several_live_side_by_side(fake: FakeTriggerDev) -> None:
    executor = TriggerDev(
        secret_key=SECRET_KEY, api_url=API_URL + "/", name="trigger-eu", branch="b", transport=fake.transport
    )
    await executor.open()
    await executor.submit(submission())
    await executor.close()
    assert executor.name == "trigger-eu"
    assert fake.requests[-1].headers["x-trigger-branch"] == "b"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, None),
        ("text", {"name": "Error", "message": "text"}),
        ({"message": "m", "name": "TypeError"}, {"name": "TypeError", "message": "m"}),
        (
            {"type": "BUILT_IN_ERROR", "name": "E", "message": "m", "stackTrace": "s"},
            {"name": "E", "message": "m", "stack": "s"},
        ),
        ({"type": "STRING_ERROR", "raw": "r"}, {"name": "Error", "message": "r"}),
        ({"type": "CUSTOM_ERROR", "raw": '{"a":1}'}, {"name": "Error", "message": '{"a":1}'}),
        (
            {"type": "INTERNAL_ERROR", "code": "MAX_DURATION_EXCEEDED"},
            {"name": "MAX_DURATION_EXCEEDED", "message": "MAX_DURATION_EXCEEDED"},
        ),
        ({}, {"name": "Error", "message": ""}),
    ],
)
def test_errors_have_one_shape(error: Any, expected: Any) -> None:
    assert normalize_error(error) == expected


def test_a_filter_asks_for_every_word_of_ours() -> None:
    assert words_for([JobStatus.PENDING]) == ["PENDING_VERSION", "QUEUED"]
    assert words_for(JobStatus) == sorted(STATUSES)
    assert words_for([]) == []


def test_times_are_read_with_their_zone() -> None:
    body = {"id": "r", "status": "QUEUED", "taskIdentifier": "t", "createdAt": "2026-11-22T10:01:52.330Z"}
    assert read_run(body).created_at == datetime(2026, 11, 22, 10, 1, 52, 330_000, tzinfo=UTC)
