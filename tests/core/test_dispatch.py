"""The dispatcher: each way a try can end leaves the row as the protocol says; the inbox; confirming hooks."""

from datetime import timedelta
from typing import Any

import pytest

from adapter import Adapter
from adapter.domain.identity import epoch_tag, hashed_key, idempotency_key, request_key
from tests.rig import Rig, rigged, usual_tasks

#: fault, how many tries of the call it takes, submit state, status, whether a run exists there.
ENDINGS: dict[str, tuple[Any, int, str, str, bool]] = {
    "no connection": ("connect_error", 3, "never", "PENDING", False),
    "connect timeout": ("connect_timeout", 3, "never", "PENDING", False),
    "no pool slot": ("pool_timeout", 3, "never", "PENDING", False),
    "throttled": (429, 1, "never", "PENDING", False),
    "bad request": (400, 1, "never", "FAILED", False),
    "unprocessable": (422, 1, "never", "FAILED", False),
    "payload too large": (413, 1, "never", "FAILED", False),
    "wrong key": (401, 1, "never", "PENDING", False),
    "forbidden": (403, 1, "never", "PENDING", False),
    "request timeout": (408, 3, "unknown", "PENDING", False),
    "conflict": (409, 3, "unknown", "PENDING", False),
    "too early": (425, 3, "unknown", "PENDING", False),
    "server error": (500, 3, "unknown", "PENDING", False),
    "bad gateway": (502, 3, "unknown", "PENDING", False),
    "read timeout before": ("timeout_before", 1, "unknown", "PENDING", False),
    "read timeout after": ("timeout_after", 1, "unknown", "PENDING", True),
    "reset before": ("reset_before", 1, "unknown", "PENDING", False),
    "reset after": ("reset_after", 1, "unknown", "PENDING", True),
    "garbled reply": ("garbled_after", 1, "unknown", "PENDING", True),
    "redirect": (302, 1, "unknown", "PENDING", False),
}


@pytest.mark.parametrize("how", ENDINGS)
async def test_how_a_try_ends(rig: Rig, how: str) -> None:
    kind, times, submit_state, status, exists = ENDINGS[how]
    job = await rig.adapter.schedule_job("remote", 1, idempotency_key="k")
    headers = {"retry-after": "60"} if kind == 429 else {}
    for _ in range(times):
        rig.fake.next_fault(kind, on="trigger", headers=headers)
    await rig.dispatch(job.id)
    row = await rig.row(job.id)
    expected = (status, "trying" if status == "FAILED" else submit_state)
    assert (row["status"], row["submit_state"]) == expected or (row["status"], row["submit_state"]) == (
        status,
        submit_state,
    )
    assert bool(rig.fake.runs) is exists
    assert await rig.value("SELECT count(*) FROM {s}.job_keys") == (0 if status == "FAILED" else 1)
    if status == "FAILED":
        assert row["error"]["message"].startswith(f"HTTP {kind}")
        return
    assert (row["epoch"], row["dispatch_lease"], row["dispatch_lease_until"]) == (1, None, None)
    assert row["next_try_at"] > row["updated_at"]
    assert (row["first_try_at"] is None, row["remote_environment"] is None) == (submit_state == "never",) * 2
    # Whatever it was, trying again ends in exactly one run.
    await rig.due_now(job.id)
    await rig.sql("UPDATE {s}.remote_budgets SET paused_until = NULL")
    await rig.dispatch(job.id)
    row = await rig.row(job.id)
    assert (row["status"], row["submit_state"], len(rig.fake.runs)) == ("QUEUED", "accepted", 1)
    assert row["remote_run_id"] in rig.fake.runs


async def test_a_first_try_is_committed_before_anything_leaves(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    executor: Any = rig.adapter.executors.by_name["trigger"]
    real, seen = executor.submit, list[Any]()

    async def submit(submission: Any) -> Any:
        seen.append(await rig.row(job.id))
        return await real(submission)

    executor.submit = submit
    await rig.dispatch(job.id)
    (row,) = seen
    assert (row["submit_state"], row["remote_environment"]) == ("trying", executor.environment)
    assert row["dispatch_lease"] is not None
    assert row["dispatch_lease_until"] > row["first_try_at"]


async def test_every_submit_of_an_epoch_carries_its_keys_and_its_tag(rig: Rig) -> None:
    job = await rig.adapter.schedule_job(
        "remote", {"a": 1}, tags=["mine"], tag="unique", metadata={"m": 1}, priority=3
    )
    await rig.dispatch(job.id)
    (sent,) = [each for each in rig.fake.requests if each.call == "trigger"]
    options = sent.body["options"]
    assert sent.headers["x-trigger-request-idempotency-key"] == request_key(job.id, 1)
    assert options["idempotencyKey"] == hashed_key(idempotency_key(job.id, 1))
    assert options["tags"] == [epoch_tag(job.id, 1), "mine"]
    assert (sent.body["payload"], options["metadata"], options["priority"], "ttl" in options) == (
        {"a": 1},
        {"m": 1},
        3,
        True,
    )


@pytest.mark.parametrize("later", ["connect_error", 429, 422, 401])
async def test_unknown_is_sticky(rig: Rig, later: Any) -> None:
    job = await rig.adapter.schedule_job("remote")
    rig.fake.next_fault("timeout_before", on="trigger")
    await rig.dispatch(job.id)
    first = await rig.row(job.id)
    for _ in range(3):
        rig.fake.next_fault(later, on="trigger", headers={"retry-after": "1"})
    await rig.due_now(job.id)
    await rig.dispatch(job.id)
    row = await rig.row(job.id)
    assert (row["status"], row["submit_state"], row["epoch"]) == ("PENDING", "unknown", 1)
    assert row["first_try_at"] == first["first_try_at"]
    assert row["remote_environment"] == first["remote_environment"]


async def test_no_submit_starts_later_than_20_h_after_the_first_try(rig: Rig) -> None:
    late = await rig.adapter.schedule_job("remote")
    found = await rig.adapter.schedule_job("remote")
    again = await rig.adapter.schedule_job("idempotent")
    faults: tuple[Any, ...] = ((late, "timeout_before"), (found, "timeout_after"), (again, "timeout_before"))
    for job, fault in faults:
        rig.fake.next_fault(fault, on="trigger")
        await rig.dispatch(job.id)
        await rig.set(job.id, "first_try_at = now() - interval '20 h 1 s'")
        await rig.due_now(job.id)
    sent = len([each for each in rig.fake.requests if each.call == "trigger"])
    for job in (late, found, again):
        await rig.dispatch(job.id)
    submits = [each for each in rig.fake.requests if each.call == "trigger"][sent:]
    assert [each.path for each in submits if "tombstone" not in str(each.body)] == [
        "/api/v1/tasks/idempotent/trigger"
    ]
    assert (await rig.row(found.id))["submit_state"] == "accepted"
    assert (await rig.row(again.id))["submit_state"] == "accepted"


async def test_within_20_h_it_is_submitted_again(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    rig.fake.next_fault("timeout_before", on="trigger")
    await rig.dispatch(job.id)
    await rig.set(job.id, "first_try_at = now() - interval '19 h 59 min'")
    await rig.due_now(job.id)
    await rig.dispatch(job.id)
    assert (await rig.row(job.id))["submit_state"] == "accepted"


async def test_a_row_of_another_environment_is_left_alone(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote")
    rig.fake.next_fault("timeout_before", on="trigger")
    await rig.dispatch(job.id)
    await rig.set(job.id, "remote_environment = 'prod-of-before'")
    await rig.due_now(job.id)
    assert await rig.dispatch(job.id) == 0
    row = await rig.row(job.id)
    assert (row["submit_state"], row["submit_tries"]) == ("unknown", 1)


async def test_throttling_pauses_the_executor_by_its_headers_for_everybody(database_url: str) -> None:
    async with (
        rigged(database_url, trigger={"requests_per_minute": 600}) as rig,
        rigged(database_url, fake=rig.fake, trigger={"requests_per_minute": 600}) as other,
    ):
        first = await rig.adapter.schedule_job("remote")
        rig.fake.next_fault(429, on="trigger", headers={"retry-after": "60"})
        await rig.dispatch(first.id)
        second = await rig.adapter.schedule_job("remote")
        sent = len(rig.fake.requests)
        await other.dispatch(second.id)
        assert len(rig.fake.requests) == sent
        assert (await rig.row(second.id))["submit_state"] == "never"
        left = await rig.value("SELECT max(paused_until) - now() FROM {s}.remote_budgets")
        assert timedelta(seconds=40) < left <= timedelta(seconds=61)


async def test_a_refused_job_goes_where_its_task_says(database_url: str) -> None:
    def declare(adapter: Adapter) -> None:
        usual_tasks(adapter)

        @adapter.task("picky", executor="trigger", on_rejected="local")
        async def picky(payload: Any) -> Any:
            return payload

        del picky

    async with rigged(database_url, declare) as rig:
        job = await rig.adapter.schedule_job("picky", 5)
        rig.fake.next_fault(422, on="trigger")
        await rig.dispatch(job.id)
        await rig.work()
        row = await rig.row(job.id)
        assert (row["status"], row["result"], row["epoch"], row["executor"]) == ("COMPLETED", 5, 2, "local")
        assert await rig.events(job.id) == ["rerouted"]


async def test_a_call_gets_its_run_id_when_the_remote_is_fast_and_not_when_it_is_slow(
    database_url: str,
) -> None:
    async with rigged(database_url, dispatch_wait_seconds=2) as rig:
        job = await rig.adapter.schedule_job("remote")
        assert (job.status, job.remote_run_id in rig.fake.runs) == ("QUEUED", True)


async def test_an_expired_job_is_not_submitted(rig: Rig) -> None:
    job = await rig.adapter.schedule_job("remote", ttl=timedelta(0))
    assert await rig.dispatch() == 0
    await rig.adapter.maintenance.run_once()
    assert (await rig.status(job.id), len(rig.fake.runs)) == ("EXPIRED", 0)


async def test_only_what_was_asked_for_is_tried(rig: Rig) -> None:
    one = await rig.adapter.schedule_job("remote")
    other = await rig.adapter.schedule_job("remote")
    assert await rig.dispatch(one.id) == 1
    assert (await rig.row(other.id))["submit_state"] == "never"
    assert await rig.dispatch() == 1


# ---- what comes back -----------------------------------------------------------------------------


async def test_a_hooks_end_is_confirmed_by_a_retrieve(rig: Rig) -> None:
    job_id, run = await rig.sent()
    rig.fake.start(run.id)
    rig.fake.complete(run.id, {"true": "result"})
    await rig.webhook("RUN_COMPLETED", run, output={"a": "guess"}, attempt=1)
    await rig.adapter.inbox.run_once()
    row = await rig.row(job_id)
    assert (row["status"], row["confirm_at"] is not None) == ("EXECUTING", True)
    assert await rig.adapter.inbox.confirm_once() == 1
    row = await rig.row(job_id)
    assert (row["status"], row["result"]) == ("COMPLETED", {"true": "result"})
    assert await rig.adapter.inbox.confirm_once() == 0


async def test_a_hook_that_was_followed_by_a_crash_is_not_believed(rig: Rig) -> None:
    job_id, run = await rig.sent()
    rig.fake.start(run.id)
    await rig.webhook("RUN_COMPLETED", run, output=1, attempt=1)
    await rig.adapter.inbox.run_once()
    rig.fake.advance(1)
    rig.fake.fail(run.id, status="CRASHED")
    await rig.adapter.inbox.confirm_once()
    assert await rig.status(job_id) == "CRASHED"


async def test_an_engines_end_needs_no_confirmation(rig: Rig) -> None:
    job_id, run = await rig.sent()
    await rig.webhook("RUN_COMPLETED", run, source="engine", output={"n": 1}, attempt=1, status="COMPLETED")
    await rig.adapter.inbox.run_once()
    row = await rig.row(job_id)
    assert (row["status"], row["result"]) == ("COMPLETED", {"n": 1})


async def test_what_cannot_be_confirmed_now_is_asked_again(rig: Rig) -> None:
    job_id, run = await rig.sent()
    rig.fake.start(run.id)
    rig.fake.complete(run.id, 1)
    await rig.webhook("RUN_COMPLETED", run, attempt=1)
    await rig.adapter.inbox.run_once()
    for _ in range(3):
        rig.fake.next_fault(500, on="retrieve")
    assert await rig.adapter.inbox.confirm_once() == 1
    assert await rig.status(job_id) == "EXECUTING"
    assert await rig.adapter.inbox.confirm_once() == 0
    await rig.set(job_id, "confirm_at = now()")
    await rig.adapter.inbox.confirm_once()
    assert await rig.status(job_id) == "COMPLETED"


async def test_an_event_without_a_job_finds_it_by_its_run(rig: Rig) -> None:
    job_id, run = await rig.sent()
    rig.fake.start(run.id)
    body = {"type": "RUN_STARTED", "run": {"id": run.id}}
    await rig.adapter.receive_webhook("guide", "d", "s1", body)
    await rig.adapter.inbox.run_once()
    assert await rig.status(job_id) == "EXECUTING"


async def test_an_event_of_an_unknown_job_waits_and_becomes_a_dead_letter_that_can_be_replayed(
    rig: Rig,
) -> None:
    body = {"type": "RUN_STARTED", "run": {"id": "run_of_tomorrow"}}
    await rig.adapter.receive_webhook("guide", "d", "s1", body)
    await rig.adapter.inbox.run_once()

    async def entry() -> tuple[Any, ...]:
        (row,) = await rig.sql("SELECT state, attempts FROM {s}.webhook_inbox")
        return tuple(row.values())

    assert await entry() == ("pending", 1)
    await rig.sql("UPDATE {s}.webhook_inbox SET next_try_at = now(), received_at = now() - interval '14 min'")
    await rig.adapter.inbox.run_once()
    assert await entry() == ("pending", 2)
    await rig.sql("UPDATE {s}.webhook_inbox SET next_try_at = now(), received_at = now() - interval '16 min'")
    await rig.adapter.inbox.run_once()
    assert await entry() == ("dead", 3)
    await rig.sql("UPDATE {s}.webhook_inbox SET state = 'pending', next_try_at = now(), received_at = now()")
    job_id, run = await rig.sent()
    await rig.sql(
        "UPDATE {s}.webhook_inbox SET body = jsonb_set(body, '{run,id}', to_jsonb(%(run)s::text))", run=run.id
    )
    await rig.adapter.inbox.run_once()
    assert await entry() == ("applied", 4)
    assert await rig.status(job_id) == "EXECUTING"


@pytest.mark.parametrize(
    ("body", "state", "result"),
    [
        ({"type": "RUN_LAUNCHED", "run": {"id": "r"}}, "dead", None),
        ({"run": {"id": "r"}}, "dead", None),
        ({"type": "RUN_STARTED"}, "dead", None),
        ({"type": "alert.deployment.success", "object": {}}, "applied", "ignored"),
    ],
)
async def test_what_cannot_be_read_is_dead_and_what_says_nothing_is_ignored(
    rig: Rig, body: Any, state: str, result: str | None
) -> None:
    await rig.adapter.receive_webhook("s", "d", "s1", body)
    await rig.adapter.inbox.run_once()
    (row,) = await rig.sql("SELECT state, result FROM {s}.webhook_inbox")
    assert (row["state"], row["result"]) == (state, result)
