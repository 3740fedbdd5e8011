"""What a trigger asks for beside its payload, and what becomes of it (Trigger.dev's API contract, 5 and 8)."""

import asyncio
import json
from datetime import timedelta
from typing import Any, LiteralString

import httpx
import pytest

from adapter import Adapter
from adapter.domain.identity import job_id_of, run_id_of
from adapter.domain.job import Job, JobStatus, depth_of
from adapter.store import upkeep

HASH = "5e78863ed1ffb9fc66b1d61634b126bf8eb20267e7996297eeeb9b19c8c0f732"
LEADING = {"key": "dk", "delay": "5m"}
TRAILING = LEADING | {"mode": "trailing"}


async def trigger(
    client: httpx.AsyncClient, payload: Any = None, task: str = "echo", **options: Any
) -> dict[str, Any]:
    body = {"payload": payload, "options": options}
    reply = await client.post(f"/api/v1/tasks/{task}/trigger", content=json.dumps(body).encode())
    assert reply.status_code == 200, reply.text
    return reply.json()


async def job_of(adapter: Adapter, reply: dict[str, Any]) -> Job:
    job_id = job_id_of(reply["id"])
    assert job_id is not None
    job = await adapter.get_job(job_id)
    assert job is not None
    return job


async def change(adapter: Adapter, reply: dict[str, Any], assignments: LiteralString) -> None:
    statement: LiteralString = "UPDATE {s}.worker_jobs_open SET " + assignments + " WHERE id = %(id)s"
    await adapter.database.fetch(statement, {"id": job_id_of(reply["id"])})


# ---- tasks that nobody knows ------------------------------------------------------------------------


async def test_a_task_that_nobody_knows_is_taken_and_waits_until_a_worker_has_it(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    reply = await trigger(client, {"a": 1}, task="later%2Ftask", queue={"name": "q"}, tags=["t"])
    job = await job_of(adapter, reply)
    assert (job.type, job.status, job.waiting_for, job.queue) == ("later/task", "WAITING", "executor", "q")
    assert not await adapter.owns_task("later/task")
    run = (await client.get(f"/api/v3/runs/{reply['id']}")).json()
    assert (run["status"], run["isQueued"], run["isWaiting"]) == ("PENDING_VERSION", True, False)
    async with adapter.database.connection() as conn:
        assert await upkeep.admit(conn, adapter.database.schema, ["later/task"]) == frozenset({"q"})
    job = await job_of(adapter, reply)
    assert (job.status, job.executor, job.data) == (JobStatus.QUEUED, "local", {"a": 1})


async def test_a_task_that_workers_advertise_is_ours_and_ready(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    assert await adapter.owns_task("echo")
    await adapter.database.fetch(
        "INSERT INTO {s}.advertised_tasks (task, worker_id) VALUES ('elsewhere', gen_random_uuid())"
    )
    assert await adapter.owns_task("elsewhere")
    # A call goes by what was read within a second.
    await adapter.steering.current()
    assert (await job_of(adapter, await trigger(client, 1, task="elsewhere"))).status is JobStatus.QUEUED
    await adapter.database.fetch("UPDATE {s}.advertised_tasks SET seen_at = now() - interval '8 days'")
    assert "elsewhere" not in (await adapter.steering.current()).advertised
    assert (await job_of(adapter, await trigger(client, 1, task="elsewhere"))).status is JobStatus.WAITING


async def test_a_repeated_call_for_a_task_that_nobody_knows_makes_one_run(client: httpx.AsyncClient) -> None:
    first = await trigger(client, 1, task="unheard-of", idempotencyKey=HASH)
    assert await trigger(client, 1, task="unheard-of", idempotencyKey=HASH) == first | {"isCached": True}


# ---- what is kept -----------------------------------------------------------------------------------


async def test_what_moves_nothing_here_is_kept_and_shown(adapter: Adapter, client: httpx.AsyncClient) -> None:
    parent = await trigger(client, 1)
    child = await trigger(
        client,
        1,
        machine="small-2x",
        region="eu-central-1",
        lockToVersion="20250101.1",
        test=True,
        concurrency=["openai"],
        parentRunId=parent["id"],
        resumeParentOnCompletion=True,
    )
    grandchild = await trigger(client, 1, parentRunId=child["id"])
    run = (await client.get(f"/api/v3/runs/{child['id']}")).json()
    assert (run["machine"], run["region"], run["version"]) == ("small-2x", "eu-central-1", "20250101.1")
    assert (run["isTest"], run["depth"], run["triggerFunction"]) == (True, 1, "triggerAndWait")
    run = (await client.get(f"/api/v3/runs/{grandchild['id']}")).json()
    assert (run["depth"], run["isTest"], "machine" in run) == (2, False, False)
    job = await job_of(adapter, grandchild)
    assert (job.parent_id, job.root_id) == (job_id_of(child["id"]), job_id_of(parent["id"]))
    # A parent that is none of ours makes no family.
    orphan = await job_of(adapter, await trigger(client, 1, parentRunId="run_somebody_elses"))
    assert (orphan.parent_id, depth_of(orphan)) == (None, 0)


async def test_a_trace_goes_on(adapter: Adapter, client: httpx.AsyncClient) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for given, kept in ((trace, trace), ("nonsense", None)):
        reply = await client.post(
            "/api/v1/tasks/echo/trigger", json={"payload": 1}, headers={"traceparent": given}
        )
        assert (await job_of(adapter, reply.json())).extra.get("traceparent") == kept


async def test_the_repetition_of_a_call_with_a_key_is_not_cached(client: httpx.AsyncClient) -> None:
    """The SDK's own retry of a call whose answer was lost: the call did make the run."""
    headers = {"x-trigger-request-idempotency-key": "3884146a-cd6e-43a8-a888-7e69b48a9a7d"}
    body = {"payload": 1, "options": {"idempotencyKey": HASH}}
    replies = [
        (await client.post("/api/v1/tasks/echo/trigger", json=body, headers=headers)).json() for _ in range(2)
    ]
    assert replies[0] == replies[1]
    assert replies[1]["isCached"] is False


# ---- debounce ---------------------------------------------------------------------------------------


async def test_a_debounced_run_is_put_off_and_keeps_its_first_payload(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    first = await trigger(client, 1, debounce=LEADING, ttl="10m", tags=["first"])
    assert first["isCached"] is False
    await change(
        adapter, first, "due = due - interval '4 minutes', expires_at = expires_at - interval '4 minutes'"
    )
    before = await job_of(adapter, first)
    assert (await trigger(client, 2, debounce=LEADING, tags=["last"])) == first | {"isCached": True}
    after = await job_of(adapter, first)
    assert before.due is not None
    assert before.expires_at is not None
    assert after.due is not None
    assert after.due - before.due > timedelta(minutes=3)
    # The time to live begins when it is due.
    assert after.expires_at == after.due + timedelta(minutes=10)
    assert (after.data, after.tags, after.status) == (1, ("first",), "DELAYED")
    events = await adapter.job_events(after.id)
    assert [event.kind for event in events] == ["debounced"]


async def test_a_trailing_debounce_takes_what_the_last_call_said(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    first = await trigger(
        client, 1, debounce=TRAILING, metadata={"n": 1}, tags=["first"], maxAttempts=2, machine="micro"
    )
    again = await trigger(
        client,
        {"n": 2},
        debounce=TRAILING,
        metadata={"n": 2},
        tags=["last"],
        maxAttempts=5,
        maxDuration=60,
        machine="large-1x",
    )
    assert again == first | {"isCached": True}
    job = await job_of(adapter, first)
    assert (job.data, job.metadata, job.tags, job.max_attempts) == ({"n": 2}, {"n": 2}, ("last",), 5)
    assert (job.max_duration, job.extra["machine"]) == (timedelta(minutes=1), "large-1x")
    # What the last call left open stays.
    await trigger(client, 3, debounce=TRAILING)
    job = await job_of(adapter, first)
    assert (job.data, job.metadata, job.tags, job.max_attempts) == (3, {"n": 2}, ("last",), 5)


@pytest.mark.parametrize(
    "end",
    [
        # Nobody may put it off any more.
        "created_at = created_at - interval '6 minutes'",
        # It is about to start, or has.
        "status = 'QUEUED'",
        "status = 'EXECUTING', started = now()",
    ],
)
async def test_a_debounce_that_is_over_makes_a_new_run(
    adapter: Adapter, client: httpx.AsyncClient, end: LiteralString
) -> None:
    limited = LEADING | {"maxDelay": "10m"}
    first = await trigger(client, 1, debounce=limited)
    await change(adapter, first, end)
    second = await trigger(client, 2, debounce=limited)
    assert (second["id"] != first["id"], second["isCached"]) == (True, False)
    assert await trigger(client, 3, debounce=limited) == second | {"isCached": True}
    assert (await job_of(adapter, first)).data == 1


async def test_calls_at_the_same_time_are_debounced_into_one_run(client: httpx.AsyncClient) -> None:
    replies = await asyncio.gather(*(trigger(client, n, debounce=LEADING) for n in range(12)))
    assert len({reply["id"] for reply in replies}) == 1
    assert sum(not reply["isCached"] for reply in replies) == 1


async def test_the_idempotency_key_comes_before_the_debounce(client: httpx.AsyncClient) -> None:
    first = await trigger(client, 1, debounce=LEADING, idempotencyKey=HASH)
    other = await trigger(client, 2, debounce=LEADING | {"key": "other"}, idempotencyKey=HASH)
    assert other == first | {"isCached": True}
    # One key per task.
    elsewhere = await trigger(client, 1, task="ns%2Ftask%20with%20space", debounce=LEADING)
    assert elsewhere["id"] != first["id"]


async def test_a_canceled_run_is_debounced_no_more(adapter: Adapter, client: httpx.AsyncClient) -> None:
    first = await trigger(client, 1, debounce=LEADING)
    await client.post(f"/api/v2/runs/{run_id_of((await job_of(adapter, first)).id)}/cancel")
    assert (await trigger(client, 2, debounce=LEADING))["id"] != first["id"]


@pytest.mark.parametrize(
    ("debounce", "status"),
    [
        ({"key": "k"}, 400),
        ({"key": "", "delay": "5s"}, 400),
        ({"key": "k" * 513, "delay": "5s"}, 400),
        ({"key": "k", "delay": "5s", "mode": "sideways"}, 400),
        ({"key": "k", "delay": "soon"}, 422),
        ({"key": "k", "delay": "2026-11-22T13:00:00.000Z"}, 422),
        ({"key": "k", "delay": "0s"}, 422),
        ({"key": "k", "delay": "5s", "maxDelay": "never"}, 422),
        ({"key": "k", "delay": "5s", "maxDelay": "5s"}, 422),
    ],
)
async def test_a_debounce_that_cannot_be(
    client: httpx.AsyncClient, debounce: dict[str, Any], status: int
) -> None:
    reply = await client.post("/api/v1/tasks/echo/trigger", json={"options": {"debounce": debounce}})
    assert reply.status_code == status
    assert "debounce" in reply.json()["error"]
