"""Queues as Trigger.dev's SDK sends them (its API contract, 10)."""

from typing import Any

import httpx
import pytest

from adapter import Adapter, Queue
from adapter.domain.identity import queue_id_of
from tests.web.conftest import as_client, settings_for

BASE = "/api/v1/queues"


async def echo(payload: Any) -> Any:
    return payload


async def test_a_queue_is_found_by_id_name_and_task_and_turned(database_url: str) -> None:
    adapter = Adapter(settings_for(database_url))
    adapter.task("mine", queue=Queue("a/b c", concurrency_limit=3))(echo)
    adapter.task("ours")(echo)
    adapter.task("theirs")(echo)
    async with adapter, as_client(adapter) as client:
        await adapter.schedule_job("mine", 1)
        shown = (await client.get(f"{BASE}/mine", params={"type": "task"})).json()
        assert shown == {
            "id": queue_id_of("a/b c"),
            "name": "a/b c",
            "type": "custom",
            "running": 0,
            "queued": 1,
            "paused": False,
            "concurrencyLimit": 3,
            "concurrency": {
                "current": 3,
                "base": 3,
                "override": None,
                "overriddenAt": None,
                "overriddenBy": None,
            },
        }
        assert shown["id"] == "queue_t54aqgkk556f3rode9gaz"
        for path in (
            f"{BASE}/{shown['id']}",
            f"{BASE}/a%252Fb%20c?type=custom",
            f"{BASE}/a%2Fb%20c?type=custom",
        ):
            assert (await client.get(path)).json() == shown
        one = f"{BASE}/a%252Fb%20c"
        paused = await client.post(f"{one}/pause", json={"type": "custom", "action": "pause"})
        assert paused.json() == shown | {"paused": True}
        assert await adapter.worker().run_once() == 0
        resumed = await client.post(f"{one}/pause", json={"type": "custom", "action": "resume"})
        assert resumed.json() == shown
        limited = (
            await client.post(
                f"{BASE}/{shown['id']}/concurrency/override", json={"type": "id", "concurrencyLimit": 5}
            )
        ).json()
        at = limited["concurrency"].pop("overriddenAt")
        assert at.endswith("Z")
        assert limited["concurrency"] == {"current": 5, "base": 3, "override": 5, "overriddenBy": None}
        reset = await client.post(f"{BASE}/mine/concurrency/reset", json={"type": "task"})
        assert reset.json() == shown
        # Whoever pauses the queue of one task must not pause the jobs of others unawares.
        refused = await client.post(f"{BASE}/ours/pause", json={"type": "task", "action": "pause"})
        assert refused.status_code == 422
        assert "so do those of 1 other task" in refused.json()["error"]
        assert (await client.get(f"{BASE}/ours?type=task")).json()["name"] == "default"
        page = (await client.get(BASE, params={"perPage": 1, "page": 2})).json()
        assert page["pagination"] == {"currentPage": 2, "totalPages": 2, "count": 2}
        assert [each["name"] for each in page["data"]] == ["default"]


@pytest.mark.parametrize(
    "where",
    ["queue_nosuchqueue", "nobody?type=task", "nothing?type=custom", "%00?type=custom", "%00?type=task"],
)
async def test_an_unknown_queue_is_404(client: httpx.AsyncClient, where: str) -> None:
    reply = await client.get(f"{BASE}/{where}")
    assert (reply.status_code, reply.json()) == (404, {"error": "queue-not-found"})


async def test_what_cannot_be_is_400(client: httpx.AsyncClient) -> None:
    one = f"{BASE}/default"
    for verb, body in (
        ("pause", {"type": "custom", "action": "stop"}),
        ("pause", {"type": "custom"}),
        ("concurrency/override", {"type": "custom", "concurrencyLimit": -1}),
        ("concurrency/override", {"type": "custom", "concurrencyLimit": "5"}),
        ("concurrency/override", {"type": "nothing", "concurrencyLimit": 5}),
    ):
        assert (await client.post(f"{one}/{verb}", json=body)).status_code == 400
    assert (await client.get(f"{one}?type=nothing")).status_code == 400
