"""Cutover over HTTP: who may, who did it, what is refused, and what is answered."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from adapter import Adapter
from adapter.web.auth import make_public_token
from tests.web.conftest import KEY

BASE = "/api/admin/cutover"
KILL, ROLLOUT = f"{BASE}/kills/echo", f"{BASE}/rollouts/echo/local"


def token(adapter: Adapter, *scopes: str) -> dict[str, str]:
    made = make_public_token(KEY, scopes, timedelta(hours=1), now=adapter.clock.now())
    return {"authorization": f"Bearer {made}"}


async def test_a_kill_switch_is_turned_seen_and_taken_away(client: httpx.AsyncClient) -> None:
    turned = await client.put(KILL, json={"reason": "INC-7"})
    assert turned.status_code == 200
    made = turned.json()
    assert (made["task"], made["before"], made["after"]["executor"]) == ("echo", None, "local")
    assert turned.headers["etag"] == f'"{made["version"]}"'
    (flag,) = (await client.get(f"{BASE}/flags")).json()["flags"]
    assert (flag["kind"], flag["reason"], flag["version"]) == ("kill", "INC-7", made["version"])
    tasks = {each["task"]: each for each in (await client.get(f"{BASE}/status")).json()["tasks"]}
    assert tasks["echo"]["shares"] == [{"executor": "local", "percent": 100}]
    assert tasks["echo"]["flag"]["reason"] == "INC-7"
    assert tasks["off"]["rule"] == "disabled in the registry"
    gone = await client.delete(KILL, params={"reason": "over"})
    assert (gone.status_code, gone.json()["after"]) == (200, None)
    again = await client.delete(KILL, params={"reason": "over"})
    assert (again.status_code, again.json()["code"]) == (404, "flag_not_found")


async def test_a_rollout_is_set_dealt_anew_withdrawn_and_back(client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {"percent": 12.345, "by": "user_id", "allow": ["a"], "when": {"plan": ["pro"]}}
    made = (await client.put(ROLLOUT, json={**body, "reason": "week 1"})).json()
    assert (made["after"]["percent"], made["after"]["hash_by"]) == (12.345, "user_id")
    assert made["after"]["detail"] == {"allow": ["a"], "when": {"plan": ["pro"]}}
    anew = (await client.post(f"{ROLLOUT}/resalt", json={"reason": "again"})).json()
    assert anew["after"]["salt"] != made["after"]["salt"]
    gone = (await client.delete(ROLLOUT, params={"reason": "stop"})).json()
    back = await client.post(f"{BASE}/changes/flag-{gone['id']}/revert", json={"reason": "not yet"})
    assert (back.status_code, back.json()["after"]["percent"]) == (200, 12.345)
    found = (await client.get(f"{BASE}/history", params={"subject": "echo", "limit": "2"})).json()["changes"]
    assert [(each["said"], each["change"]["source"]) for each in found] == [
        ("rollout to local 12.345%", "http"),
        ("rollout to local taken away", "http"),
    ]


async def test_a_task_whose_id_has_slashes_and_every_task(client: httpx.AsyncClient) -> None:
    turned = await client.put(f"{BASE}/kills/ns%2Ftask%20with%20space", json={"reason": "x"})
    assert turned.json()["task"] == "ns/task with space"
    path = f"{BASE}/rollouts/ns%2Ftask%20with%20space/local"
    assert (await client.put(path, json={"reason": "x", "percent": 1})).json()["kind"] == "rollout"
    assert (await client.put(f"{BASE}/kills/*", json={"reason": "x"})).json()["task"] == "*"


@pytest.mark.parametrize("by_header", [True, False])
async def test_what_somebody_changed_meanwhile_is_409(client: httpx.AsyncClient, by_header: bool) -> None:
    def guarded(version: int) -> dict[str, Any]:
        if by_header:
            return {"json": {"reason": "x"}, "headers": {"if-match": f'"{version}"'}}
        return {"json": {"reason": "x", "expected_version": version}}

    first = await client.put(KILL, **guarded(0))
    assert first.status_code == 200
    late = await client.put(KILL, **guarded(0))
    assert (late.status_code, late.json()["code"]) == (409, "flag_conflict")
    assert (await client.put(KILL, **guarded(first.json()["version"]))).status_code == 200
    stale = {"reason": "x", "expected_version": str(first.json()["version"])}
    assert (await client.delete(KILL, params=stale)).status_code == 409


async def test_a_change_that_was_changed_since_is_not_put_back(client: httpx.AsyncClient) -> None:
    made = (await client.put(ROLLOUT, json={"percent": 1, "reason": "x"})).json()
    await client.put(ROLLOUT, json={"percent": 2, "reason": "x"})
    answer = await client.post(f"{BASE}/changes/{made['id']}/revert", json={"reason": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "flag_conflict")
    for unknown in ("404", "flag-404", "queue-1", "flag-", "٣"):
        answer = await client.post(f"{BASE}/changes/{unknown}/revert", json={"reason": "x"})
        assert (answer.status_code, answer.json()["code"]) == (404, "change_not_found")


async def test_the_one_who_did_it_is_whose_key_was_shown(client: httpx.AsyncClient, adapter: Adapter) -> None:
    answer = await client.put(KILL, json={"reason": "x", "actor": "somebody else"})
    assert answer.status_code == 400
    assert answer.json()["problems"] == [{"path": "actor", "problem": "Extra inputs are not permitted"}]
    by_root = (await client.put(KILL, json={"reason": "x"})).json()
    by_token = (await client.put(KILL, json={"reason": "x"}, headers=token(adapter, "admin:cutover"))).json()
    assert by_root["actor"].startswith("api-key:")
    assert by_token["actor"].startswith("public-token:")
    assert (by_root["source"], by_token["source"]) == ("http", "http")


async def test_who_may_do_what(client: httpx.AsyncClient, adapter: Adapter) -> None:
    async def statuses(headers: dict[str, str]) -> tuple[int, int]:
        read = await client.get(f"{BASE}/status", headers=headers)
        write = await client.put(KILL, json={"reason": "x"}, headers=headers)
        return read.status_code, write.status_code

    assert await statuses({"authorization": ""}) == (401, 401)
    assert await statuses(token(adapter, "write:all", "read:runs")) == (403, 403)
    assert await statuses(token(adapter, "read:cutover")) == (200, 403)
    assert await statuses(token(adapter, "admin:cutover")) == (403, 200)
    assert await statuses(token(adapter, "admin")) == (200, 200)
    assert (await client.get(f"{BASE}/history")).json()["changes"][0]["change"]["subject"] == "echo"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (KILL, {}, 400, "invalid_body"),
        (KILL, [], 400, "invalid_body"),
        (KILL, {"reason": " "}, 400, "invalid_argument"),
        (KILL, {"reason": "x", "to": "mars"}, 400, "unknown_executor"),
        (f"{BASE}/kills/nope", {"reason": "x"}, 422, "unknown_task"),
        (f"{BASE}/rollouts/echo/mars", {"reason": "x", "percent": 1}, 400, "unknown_executor"),
        (ROLLOUT, {"reason": "x", "percent": 100.5}, 400, "invalid_body"),
        (ROLLOUT, {"reason": "x", "percent": 0.0001}, 400, "invalid_argument"),
        (ROLLOUT, {"reason": "x", "percent": 1, "by": "plan"}, 400, "invalid_argument"),
        (ROLLOUT, {"reason": "x", "percent": 1, "allow": "a"}, 400, "invalid_body"),
    ],
)
async def test_what_cannot_be_meant_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, path: str, body: Any, status: int, code: str
) -> None:
    answer = await client.put(path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await client.get(f"{BASE}/flags")).json()["flags"] == []


async def test_a_version_that_is_none_is_refused(client: httpx.AsyncClient) -> None:
    for match in ("*", "abc", '"-1"', "9" * 30):
        answer = await client.put(KILL, json={"reason": "x"}, headers={"if-match": match})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_version")
    assert (await client.get(f"{BASE}/history", params={"limit": "0"})).status_code == 400
    naive = await client.get(f"{BASE}/history", params={"before": "2026-01-01T00:00:00"})
    assert (naive.status_code, naive.json()["code"]) == (400, "invalid_argument")


async def test_an_explanation_before_and_after(client: httpx.AsyncClient, adapter: Adapter) -> None:
    await client.put(ROLLOUT, json={"percent": 0, "allow": ["vip"], "reason": "first"})
    said = (await client.post(f"{BASE}/explain", json={"task": "echo", "tag": "vip"})).json()
    assert said["route"] == {
        "executor": "local",
        "reason": "rollout 0% to local: allow list",
        "blocked": False,
    }
    assert [each["rule"] for each in said["steps"]] == ["kill switch", "call", "rollout"]
    unknown = await client.post(f"{BASE}/explain", json={"task": "echo", "executor": "mars"})
    assert (unknown.status_code, unknown.json()["code"]) == (400, "unknown_executor")
    job = await adapter.schedule_job("echo", tag="vip")
    found = (await client.get(f"{BASE}/jobs/{job.id}/explain")).json()
    assert found["job"]["route_reason"] == "rollout 0% to local: allow list"
    assert [each["reason"] for each in found["changes"]] == ["first"]
    for wrong in ("run_nothing", "01890a5d-ac96-774b-bcce-b302099a8057"):
        answer = await client.get(f"{BASE}/jobs/{wrong}/explain")
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
