"""Leaving an executor over HTTP: reads."""

import httpx
import pytest

from adapter import Adapter
from tests.web.conftest import KEY

BASE = "/api/admin/cutover"


async def test_what_executors_hold_is_answered(client: httpx.AsyncClient, adapter: Adapter) -> None:
    await adapter.schedule_job("echo", 1)
    answer = await client.get(f"{BASE}/drain", params={"executor": "local", "task": "echo", "quiet": "60"})
    assert answer.status_code == 200
    found = answer.json()
    assert (found["drained"], found["tasks"][0]["open"]) == (False, {"QUEUED": 1})
    (way, *_) = (await client.get(f"{BASE}/ways-back", params={"task": "echo"})).json()["ways"]
    assert (way["task"], way["executor"], way["verdict"]) == ("echo", "local", "failed")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("drain?executor=mars", 400),
        ("drain?quiet=0", 400),
        ("drain?nonsense=1", 400),
        ("ways-back?to=mars", 400),
        ("ways-back?task=nope", 422),
    ],
)
async def test_what_makes_no_sense_is_refused(client: httpx.AsyncClient, path: str, status: int) -> None:
    assert (await client.get(f"{BASE}/{path}")).status_code == status


@pytest.mark.parametrize("path", ["drain", "ways-back"])
async def test_only_who_may_read(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"{BASE}/{path}", headers={"authorization": ""})).status_code == 401
    assert KEY in client.headers["authorization"]


async def test_a_drill_is_begun_goes_on_and_is_put_back_when_the_server_ends(
    client: httpx.AsyncClient, adapter: Adapter
) -> None:
    body = {"task": "echo", "hold": 600, "reason": "monthly"}
    begun = await client.post(f"{BASE}/drills", json=body)
    assert (begun.status_code, begun.json()["state"]) == (202, "running"), begun.text
    again = await client.post(f"{BASE}/drills", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "drill_conflict")
    assert (await adapter.explain("echo")).route.reason.startswith("kill")
    await adapter.drilling.drain()
    (drill,) = (await client.get(f"{BASE}/drills")).json()["drills"]
    assert (drill["state"], drill["id"]) == ("interrupted", begun.json()["id"])
    assert drill["actor"].startswith("api-key:")
    assert (await adapter.explain("echo")).route.reason == "default"


@pytest.mark.parametrize(
    "change", [{"hold": 0}, {"hold": 90_000}, {"to": "mars"}, {"reason": " "}, {"at": 1}]
)
async def test_a_drill_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, change: dict[str, object]
) -> None:
    body = {"task": "echo", "hold": 60, "reason": "monthly"} | change
    assert (await client.post(f"{BASE}/drills", json=body)).status_code == 400
    assert (await client.get(f"{BASE}/drills")).json() == {"drills": []}


async def test_an_executor_is_left_and_reopened_by_whoever_holds_the_key(
    client: httpx.AsyncClient, adapter: Adapter
) -> None:
    at = f"{BASE}/finalizations"
    checked = await client.get(f"{at}/check", params={"executor": "local"})
    assert (checked.status_code, checked.json()["ready"]) == (200, False)
    body = {"executor": "local", "task": "echo", "reason": "done"}
    refused = await client.post(at, json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "not_finalized")
    shut = [each["name"] for each in checked.json()["gates"] if each["verdict"] != "passed"]
    made = await client.post(at, json={**body, "accept": dict.fromkeys(shut, "not needed")})
    assert made.status_code == 200, made.text
    assert made.json()["actor"].startswith("api-key:")
    assert [each["task"] for each in (await client.get(at)).json()["finalizations"]] == ["echo"]
    turned = await client.put(f"{BASE}/kills/echo", json={"reason": "x"})
    assert (turned.status_code, turned.json()["code"]) == (409, "executor_finalized")
    query = {"executor": "local", "task": "echo", "reason": "too early"}
    assert (await client.delete(at, params=query)).json()["reopen_reason"] == "too early"
    again = await client.delete(at, params=query)
    assert (again.status_code, again.json()["code"]) == (404, "finalization_not_found")
    assert (await client.get(f"{BASE}/drills")).json() == {"drills": []}
