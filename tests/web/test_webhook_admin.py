"""Subscriptions to webhooks over HTTP."""

from datetime import timedelta

import httpx

from adapter import Adapter
from adapter.web.auth import make_public_token
from tests.web.conftest import KEY

PATH = "/api/admin/webhooks"


async def test_a_subscription_over_http(adapter: Adapter, client: httpx.AsyncClient) -> None:
    made = await client.post(
        PATH, json={"url": "https://receiver.test/", "events": ["RUN_CANCELED"], "name": "x"}
    )
    assert made.status_code == 201
    one, secret = made.json()["id"], made.json()["secrets"][0]
    again = await client.post(PATH, json={"url": "https://receiver.test/b", "name": "x", "secret": "mine"})
    assert (again.json()["id"], again.json()["secrets"]) == (one, ["mine"])
    listed = (await client.get(PATH)).text
    assert "receiver.test/b" in listed
    assert secret not in listed
    assert "mine" not in listed
    rotated = (await client.post(f"{PATH}/{one}/rotate", json={})).json()
    assert (rotated["secret_count"], len(rotated["secrets"])) == (2, 1)
    job = await adapter.schedule_job("echo")
    await adapter.cancel_job(job.id)
    (delivery,) = (await client.get(f"{PATH}/{one}/deliveries?state=pending")).json()["deliveries"]
    assert (delivery["event"], delivery["job_id"]) == ("RUN_CANCELED", str(job.id))
    changed = await client.patch(f"{PATH}/{one}", json={"active": False})
    assert changed.json()["active"] is False
    assert (await client.post(f"{PATH}/{one}/redrive", json={})).json() == {"redriven": 0}
    assert (await client.delete(f"{PATH}/{one}")).json() == {"removed": True}
    assert (await client.delete(f"{PATH}/{one}")).status_code == 404
    assert (await client.delete(f"{PATH}/no-uuid")).status_code == 404


async def test_nothing_is_sent_into_the_own_network_from_there(client: httpx.AsyncClient) -> None:
    refused = await client.post(PATH, json={"url": "https://receiver.test/", "allow_private": True})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_body")
    one = (await client.post(PATH, json={"url": "http://127.0.0.1:1/"})).json()["id"]
    tried = (await client.post(f"{PATH}/{one}/test", json={})).json()
    assert tried["received"]["status"] is None
    assert "open internet" in tried["received"]["error"]


async def test_only_a_root_key_may(adapter: Adapter, client: httpx.AsyncClient) -> None:
    token = make_public_token(KEY, ["admin"], timedelta(hours=1), now=adapter.clock.now())
    for headers, status in (({"authorization": f"Bearer {token}"}, 403), ({"authorization": ""}, 401)):
        for method, path in (("GET", PATH), ("POST", PATH), ("DELETE", f"{PATH}/x")):
            answer = await client.request(
                method, path, headers=headers, json={"url": "https://receiver.test/"}
            )
            assert answer.status_code == status
    bad = await client.post(PATH, json={"url": "https://receiver.test/", "events": ["NO"]})
    assert (bad.status_code, bad.json()["code"]) == (400, "invalid_argument")
