"""Schedules over HTTP."""

import httpx

BASE = "/api/admin/cutover/schedules"


async def test_a_schedule_is_made_shown_turned_and_removed(client: httpx.AsyncClient) -> None:
    body = {
        "task": "echo",
        "cron": "0 9 * * *",
        "tz": "Asia/Tokyo",
        "data": [1],
        "key": "k",
        "reason": "daily",
    }
    made = (await client.post(BASE, json=body)).json()
    assert (made["timezone"], made["data"], made["owner"]) == ("Asia/Tokyo", [1], "local")
    again = (await client.post(BASE, json={**body, "cron": "0 10 * * *"})).json()
    assert (again["id"], again["cron"]) == (made["id"], "0 10 * * *")
    one = f"{BASE}/{made['id']}"
    shown = (await client.get(one)).json()
    assert shown["ticks"][0] == shown["schedule"]["next_at"]
    assert (await client.post(f"{one}/pause", json={"reason": "quiet"})).json()["active"] is False
    assert (await client.post(f"{one}/resume", json={"reason": "over"})).json()["active"] is True
    [listed] = (await client.get(BASE, params={"task": "echo"})).json()["schedules"]
    assert listed["id"] == made["id"]
    assert (await client.delete(one, params={"reason": "done"})).status_code == 200
    gone = await client.get(one)
    assert (gone.status_code, gone.json()["code"]) == (404, "schedule_not_found")


async def test_what_cannot_be_is_refused_with_its_reason(client: httpx.AsyncClient) -> None:
    body = {"task": "echo", "cron": "61 * * * *", "reason": "x"}
    refused = await client.post(BASE, json=body)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cron")
    refused = await client.post(BASE, json={**body, "actor": "somebody else"})
    assert refused.json()["problems"] == [{"path": "actor", "problem": "Extra inputs are not permitted"}]
    assert (await client.get(f"{BASE}/nonsense")).status_code == 404
    stranger = {"authorization": "Bearer tr_prod_nobody"}
    assert (await client.get(BASE, headers=stranger)).status_code == 401
