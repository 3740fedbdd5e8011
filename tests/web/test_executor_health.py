"""Executors over HTTP."""

import httpx

PREFIX = "/api/admin/cutover"


async def test_the_health_of_executors_is_answered(client: httpx.AsyncClient) -> None:
    health = (await client.get(f"{PREFIX}/health")).json()
    assert health == {"tasks": [], "canaries": [], "circuits": []}


async def test_a_circuit_that_cannot_be_is_refused(client: httpx.AsyncClient) -> None:
    refused = await client.put(f"{PREFIX}/circuits/echo/local", json={"reason": "INC-9"})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_argument")
    refused = await client.put(f"{PREFIX}/circuits/echo/local", json={})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_body")


async def test_who_may_not_is_refused(client: httpx.AsyncClient) -> None:
    stranger = {"authorization": "Bearer tr_prod_nobody"}
    assert (await client.get(f"{PREFIX}/health", headers=stranger)).status_code == 401
    change = await client.put(f"{PREFIX}/circuits/echo/trigger", json={"reason": "x"}, headers=stranger)
    assert change.status_code == 401
