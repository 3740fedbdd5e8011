"""Environment variables and what we do not have, as Trigger.dev's SDK asks for them (its API contract, 13)."""

import logging
from typing import Any

import httpx
import pytest

from adapter import Adapter
from adapter.domain.errors import InvalidArgumentError
from tests.web.conftest import as_client, settings_for

BASE = "/api/v1/projects/proj_abc/envvars"
DONE = {"success": True}


async def test_variables_are_set_read_changed_and_removed(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    dev = f"{BASE}/dev"
    assert (await client.post(dev, json={"name": "A", "value": "b"})).json() == DONE
    assert (await client.post(dev, json={"name": "A", "value": "c"})).json() == DONE
    assert (await client.get(f"{dev}/A")).json() == {"name": "A", "value": "c", "isSecret": False}
    assert (await client.get(f"{BASE}/prod")).json() == []
    assert (await client.put(f"{dev}/A", json={"value": "d"})).json() == DONE
    many = {"variables": {"A": "1", "B": "2"}}
    refused = await client.post(f"{dev}/import", json=many)
    assert (refused.status_code, "Already set in dev: A." in refused.json()["error"]) == (400, True)
    assert (await client.post(f"{dev}/import", json={**many, "override": True})).json() == DONE
    listed = (await client.get(dev)).json()
    assert [(each["name"], each["value"]) for each in listed] == [("A", "1"), ("B", "2")]
    assert (await client.delete(f"{dev}/A")).json() == DONE
    for gone in (
        await client.get(f"{dev}/A"),
        await client.put(f"{dev}/A", json={"value": "x"}),
        await client.delete(f"{dev}/A"),
    ):
        assert (gone.status_code, gone.json()) == (404, {"error": "Environment variable not found"})
    kept = await adapter.get_variable("B", environment="dev")
    assert kept is not None
    assert (kept.value, kept.changed_by.startswith("api-key:")) == ("2", True)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_name_that_no_variable_can_have_is_404(client: httpx.AsyncClient, method: str) -> None:
    assert (await client.request(method, f"{BASE}/dev/a%00b")).status_code == 404


async def test_a_secret_is_read_in_python_and_shown_and_logged_nowhere(
    adapter: Adapter, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "the-word-nobody-sees"
    prod = f"{BASE}/prod"
    await client.post(prod, json={"name": "S", "value": secret, "isSecret": True})
    # It stays secret, whoever sets it again.
    await client.post(prod, json={"name": "S", "value": secret})
    hidden = {"name": "S", "value": "<redacted>", "isSecret": True}
    assert (await client.get(f"{prod}/S")).json() == hidden
    assert (await client.get(prod)).json() == [hidden]
    for wrong in ({"name": "1 S", "value": secret}, {"name": "S", "value": secret * 5000}, {"value": secret}):
        reply = await client.post(prod, json=wrong)
        assert reply.status_code == 400
        assert secret not in reply.text
    kept = await adapter.get_variable("S")
    assert kept is not None
    assert (kept.value, secret in repr(kept)) == (secret, False)
    assert secret not in caplog.text
    with pytest.raises(InvalidArgumentError) as refused:
        await adapter.set_variables({"S": secret}, override=False)
    assert secret not in str(refused.value)


async def test_who_may_and_which_environments_there_are(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"{BASE}/moon")).status_code == 404
    assert (await client.post(f"{BASE}/stg", json={"name": "A", "value": "b"})).json() == DONE
    assert [each["name"] for each in (await client.get(f"{BASE}/staging")).json()] == ["A"]
    nobody = {"authorization": "Bearer tr_dev_nobody"}
    assert (await client.get(f"{BASE}/dev", headers=nobody)).status_code == 401


async def test_there_are_no_deployments_and_no_limits_beside_those_of_queues(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.get("/api/v1/deployments")).json() == {"data": [], "pagination": {}}
    for which in ("current", "latest", "deployment_1"):
        reply = await client.get(f"/api/v1/deployments/{which}")
        assert (reply.status_code, reply.json()) == (404, {"error": "Deployment not found"})
    empty: dict[str, Any] = {"data": [], "pagination": {"currentPage": 1, "totalPages": 1, "count": 0}}
    assert (await client.get("/api/v1/concurrency-limits")).json() == empty
    gone = await client.get("/api/v1/concurrency-limits/openai")
    assert (gone.status_code, gone.json()) == (404, {"error": "Concurrency limit not found"})
    assert (await client.post("/api/v1/concurrency-limits/openai/pause")).status_code == 404


async def test_with_an_upstream_these_are_upstreams(database_url: str) -> None:
    settings = settings_for(database_url).model_copy(update={"upstream_url": "http://127.0.0.1:9"})
    async with Adapter(settings) as adapter, as_client(adapter) as client:
        for path in (f"{BASE}/dev", "/api/v1/deployments", "/api/v1/concurrency-limits"):
            assert (await client.get(path)).status_code == 404
