"""What a caller that acts for one user must not reach by knowing, or guessing, a name."""

import asyncio
import logging
from datetime import timedelta
from typing import Any
from unittest import mock

import httpx
import pytest

from adapter import Adapter
from adapter.core import keys
from adapter.core.planning import JobSpec, ScheduleOptions
from adapter.domain.identity import run_id_of
from adapter.web.auth import make_public_token
from tests.kit import eventually
from tests.web.conftest import KEY


async def as_user(adapter: Adapter, user_id: str) -> dict[str, str]:
    made = await adapter.create_key(f"of {user_id}", user_id=user_id)
    return {"authorization": f"Bearer {made.secret}"}


@pytest.mark.parametrize("on_conflict", ["keep", "replace", "reject"])
@pytest.mark.parametrize("name", ["idempotency_key", "tag"])
async def test_a_user_gets_no_job_of_another_by_its_name(
    adapter: Adapter, client: httpx.AsyncClient, name: str, on_conflict: str
) -> None:
    names: dict[str, Any] = {name: "order-1"}
    job = await adapter.schedule_job("echo", "of seven", user_id="7", **names)
    body = {"task": "echo", "data": "of eight", "on_conflict": on_conflict, **names}
    answer = await client.post("/api/jobs", json=body, headers=await as_user(adapter, "8"))
    assert (answer.status_code, answer.json()["code"]) == (422, "name_taken")
    assert str(job.id) not in answer.text
    assert "of seven" not in answer.text
    kept = await adapter.get_job(job.id)
    assert kept is not None
    assert (kept.user_id, kept.data) == ("7", "of seven")
    # Whose it is may still meet it.
    own = await client.post("/api/jobs", json=body, headers=await as_user(adapter, "7"))
    assert own.status_code == (422 if on_conflict == "reject" else 200)


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({"idempotencyKey": "order-1"}, {}),
        ({"debounce": {"key": "order-1", "delay": "1h", "mode": "trailing"}}, {}),
        ({}, {"x-trigger-request-idempotency-key": "order-1"}),
    ],
)
async def test_a_user_triggers_nothing_into_a_run_of_another(
    adapter: Adapter, client: httpx.AsyncClient, options: dict[str, Any], headers: dict[str, str]
) -> None:
    path = "/api/v1/tasks/echo/trigger"
    seven, eight = await as_user(adapter, "7"), await as_user(adapter, "8")
    first = await client.post(path, json={"payload": "of seven", "options": options}, headers=seven | headers)
    assert first.status_code == 200
    run_id = first.json()["id"]
    body = {"payload": "of eight", "options": options}
    answer = await client.post(path, json=body, headers=eight | headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "name_taken")
    assert "x-trigger-jwt" not in answer.headers
    batch = await client.post(
        "/api/v2/tasks/batch", json={"items": [body | {"task": "echo", "payload": "8"}]}, headers=eight
    )
    assert batch.status_code == (202 if headers else 422), batch.text
    shown = await client.get(f"/api/v3/runs/{run_id}", headers=seven)
    assert shown.json()["payload"] == "of seven"
    again = await client.post(path, json={"payload": "of seven", "options": options}, headers=seven | headers)
    assert again.json()["id"] == run_id


def as_token(adapter: Adapter, *scopes: str) -> dict[str, str]:
    token = make_public_token(KEY, scopes, timedelta(minutes=5), now=adapter.clock.now())
    return {"authorization": f"Bearer {token}"}


async def test_who_has_a_run_neither_reads_nor_changes_the_run_above_it(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    parent = await adapter.schedule_job("echo", 1, user_id="7", metadata={"private": 1})
    spec = JobSpec("echo", 2, ScheduleOptions(user_id="8"), parent.job)
    (child,) = await adapter.schedule_specs([spec])
    child_id, parent_id = run_id_of(child.id), run_id_of(parent.id)
    path = f"/api/v1/runs/{child_id}/metadata"
    holder = as_token(adapter, f"read:runs:{child_id}", f"write:runs:{child_id}")
    for headers, status in ((await as_user(adapter, "8"), 404), (holder, 403)):
        for name in ("parentOperations", "rootOperations"):
            body = {name: [{"type": "set", "key": "private", "value": 2}]}
            assert (await client.put(path, json=body, headers=headers)).status_code == status
        assert (await client.put(path, json={"metadata": {"own": 1}}, headers=headers)).status_code == 200
        shown = (await client.get(f"/api/v3/runs/{child_id}", headers=headers)).json()
        assert shown["relatedRuns"] == {"children": []}
    kept = await adapter.get_job(parent.id)
    assert kept is not None
    assert kept.metadata == {"private": 1}
    # A key that may, may.
    body = {"rootOperations": [{"type": "set", "key": "private", "value": 2}]}
    assert (await client.put(path, json=body)).status_code == 200
    both = as_token(adapter, f"read:runs:{child_id}", f"read:runs:{parent_id}")
    shown = (await client.get(f"/api/v3/runs/{child_id}", headers=both)).json()
    assert shown["relatedRuns"]["parent"]["metadata"] == {"private": 2}


async def test_a_stream_ends_with_the_key_that_opened_it(
    adapter: Adapter, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "FRESH_S", 0.0)
    job = (await adapter.schedule_job("echo", 1, delay=timedelta(hours=1))).job
    made = await adapter.create_key("a viewer", scopes=["read:runs"])
    headers = {"authorization": f"Bearer {made.secret}"}
    async with asyncio.TaskGroup() as group:
        with mock.patch.object(adapter.hub, "until_moved", wraps=adapter.hub.until_moved) as waited:
            streaming = group.create_task(client.get(f"/api/jobs/{job.id}/stream", headers=headers))
            await eventually(lambda: waited.call_count >= 1)
        await adapter.revoke_key(made.about.id)
        # Any change wakes it; the heartbeat would do the same.
        await adapter.cancel_job(job.id)
    assert streaming.result().text.count("data: ") == 1
    assert "CANCELED" not in streaming.result().text


async def test_a_single_use_token_is_not_given_back_by_a_second_call_of_the_same_name(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    asked = {"scopes": ["trigger:tasks"], "oneTimeUse": True}
    token = (await client.post("/api/v1/auth/public-tokens", json=asked)).json()["token"]

    async def trigger(task: str, call: str) -> int:
        headers = {"authorization": f"Bearer {token}", "x-trigger-request-idempotency-key": call}
        return (await client.post(f"/api/v1/tasks/{task}/trigger", json={}, headers=headers)).status_code

    assert await trigger("echo", "call-1") == 200
    assert await trigger("off", "call-1") == 422
    assert await trigger("other", "call-2") == 422
    assert [job.type for job in (await adapter.list_jobs()).jobs] == ["echo"]


async def test_the_url_that_completes_a_wait_token_is_neither_logged_nor_shown_to_readers(
    adapter: Adapter, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "adapter.web")
    token = (await client.post("/api/v1/waitpoints/tokens", json={})).json()
    path, secret = f"/api/v1/waitpoints/tokens/{token['id']}", token["url"].rpartition("/")[2]
    reader = as_token(adapter, f"read:waitpoints:{token['id']}")
    assert secret not in (await client.get(path, headers=reader)).text
    writer = as_token(adapter, f"read:waitpoints:{token['id']}", f"write:waitpoints:{token['id']}")
    assert (await client.get(path, headers=writer)).json()["url"] == token["url"]
    assert (await client.post(token["url"], content=b"{}")).status_code == 200
    assert secret not in caplog.text + "".join(str(vars(each)) for each in caplog.records)
    assert any(each.getMessage().endswith("/callback/*** 200") for each in caplog.records)
