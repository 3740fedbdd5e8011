"""What a caller that acts for one user must not reach by knowing, or guessing, a name."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from adapter import Adapter
from tests.web.conftest import as_client, settings_for


@pytest.fixture
async def adapter(database_url: str) -> AsyncIterator[Adapter]:
    made = Adapter(settings_for(database_url))

    @made.task("echo")
    async def echo(payload: object) -> None:
        del payload

    del echo
    async with made:
        yield made


@pytest.fixture
async def client(adapter: Adapter) -> AsyncIterator[httpx.AsyncClient]:
    async with as_client(adapter) as made:
        yield made


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
