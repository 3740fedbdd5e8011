"""Shadows and parity over HTTP."""

import httpx

PREFIX = "/api/admin/cutover"


async def test_a_shadow_is_switched_on_and_off(client: httpx.AsyncClient) -> None:
    path = f"{PREFIX}/shadows/echo/local"
    made = await client.put(path, json={"mode": "enqueue", "percent": 5, "reason": "week 0"})
    assert made.status_code == 200
    after = made.json()["after"]
    assert (after["percent"], after["detail"]) == (5, {"mode": "enqueue", "most_open": 10})
    stale = {"if-match": '"1"'}
    off = {"mode": "off", "reason": "enough"}
    assert (await client.put(path, json=off, headers=stale)).status_code == 409
    gone = await client.put(path, json=off, headers={"if-match": made.headers["etag"]})
    assert (gone.status_code, gone.json()["after"]) == (200, None)
    again = await client.put(path, json=off)
    assert (again.status_code, again.json()["code"]) == (404, "flag_not_found")


async def test_what_cannot_be_is_refused(client: httpx.AsyncClient) -> None:
    body = {"mode": "execute", "reason": "x"}
    refused = await client.put(f"{PREFIX}/shadows/echo/local", json=body)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_argument")
    nowhere = await client.put(f"{PREFIX}/shadows/echo/moon", json={"mode": "enqueue", "reason": "x"})
    assert (nowhere.status_code, nowhere.json()["code"]) == (400, "unknown_executor")
    stranger = {"authorization": "Bearer tr_prod_nobody"}
    assert (await client.put(f"{PREFIX}/shadows/echo/local", json=body, headers=stranger)).status_code == 401


async def test_the_parity_report_is_answered(client: httpx.AsyncClient) -> None:
    report = (await client.get(f"{PREFIX}/parity", params={"since": "1h", "at_least": 5})).json()
    assert (report["verdict"], report["tasks"]) == ("inconclusive", [])
    assert report["terms"] == {"margin": 0.02, "at_least": 5}
    one = (await client.get(f"{PREFIX}/parity", params={"task": "echo"})).json()["tasks"]
    assert [(each["task"], each["verdicts"]) for each in one] == [("echo", [])]
    for wrong in ({"since": "soon"}, {"margin": "2"}, {"at_least": "0"}, {"other": "x"}):
        assert (await client.get(f"{PREFIX}/parity", params=wrong)).status_code == 400
    assert (await client.get(f"{PREFIX}/parity", params={"task": "nope"})).status_code == 422
    stranger = {"authorization": "Bearer tr_prod_nobody"}
    assert (await client.get(f"{PREFIX}/parity", headers=stranger)).status_code == 401
