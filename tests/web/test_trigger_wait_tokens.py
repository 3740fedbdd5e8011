"""Wait tokens as Trigger.dev's SDK sends them (its API contract, 11)."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest

from adapter import Adapter
from adapter.domain.errors import InvalidArgumentError
from adapter.web.auth import AUDIENCE, ISSUER, make_public_token
from tests.web.conftest import KEY

BASE = "/api/v1/waitpoints/tokens"
#: Its types name classes of a package that is not needed here.
_jwt: Any = jwt


async def made(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    reply = await client.post(BASE, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def as_token(adapter: Adapter, *scopes: str) -> dict[str, str]:
    token = make_public_token(KEY, scopes, timedelta(hours=1), now=adapter.clock.now())
    return {"authorization": f"Bearer {token}"}


async def test_a_token_as_the_contract_shows_it(client: httpx.AsyncClient) -> None:
    reply = await client.post(
        BASE, json={"timeout": "10m", "idempotencyKey": "tok1", "idempotencyKeyTTL": "1h", "tags": ["x"]}
    )
    token = reply.json()
    claims: dict[str, Any] = _jwt.decode(
        reply.headers["x-trigger-jwt"],
        KEY.encode() + b"\0",
        algorithms=["HS256"],
        audience=AUDIENCE,
        issuer=ISSUER,
    )
    assert claims["scopes"] == [f"write:waitpoints:{token['id']}"]
    assert claims["exp"] - claims["iat"] == 24 * 3600
    assert token == {
        "id": token["id"],
        "isCached": False,
        "url": f"http://adapter.test{BASE}/{token['id']}/callback/{token['url'][-64:]}",
    }
    one = f"{BASE}/{token['id']}"
    waiting = (await client.get(one)).json()
    assert sorted(waiting) == [
        "createdAt",
        "id",
        "idempotencyKey",
        "idempotencyKeyExpiresAt",
        "status",
        "tags",
        "timeoutAt",
        "url",
    ]
    assert (await client.post(f"{one}/complete", json={"data": {"ok": 1}})).json() == {"success": True}
    assert (await client.post(f"{one}/complete", json={"data": {"ok": 2}})).json() == {"success": True}
    done = (await client.get(one)).json()
    assert (done["status"], done["output"], done["outputType"], done["outputIsError"]) == (
        "COMPLETED",
        '{"ok":1}',
        "application/json",
        False,
    )
    assert done["completedAt"] >= done["createdAt"]


async def test_a_callback_needs_its_url_and_nothing_else(client: httpx.AsyncClient) -> None:
    nobody = {"authorization": ""}
    token = await made(client)
    one = f"{BASE}/{token['id']}"
    wrong = await client.post(f"{one}/callback/{'0' * 64}", json={}, headers=nobody)
    assert wrong.status_code == 401
    unknown = await client.post(f"{BASE}/waitpoint_nothing/callback/{'0' * 64}", json={}, headers=nobody)
    assert unknown.status_code == 404

    async def pieces() -> AsyncIterator[bytes]:
        yield b"{}"

    assert (await client.post(token["url"], content=pieces(), headers=nobody)).status_code == 411
    large = await client.post(token["url"], content=b"x" * (3 * 1024 * 1024 + 1), headers=nobody)
    assert large.status_code == 413
    assert (await client.get(one)).json()["status"] == "WAITING"
    called = await client.post(token["url"], content=b"a=1&b=2", headers=nobody)
    assert (called.status_code, called.json()) == (200, {"success": True})
    assert (await client.get(one)).json()["output"] == "{}"


async def test_who_may_do_what(adapter: Adapter, client: httpx.AsyncClient) -> None:
    mine, other = await made(client), await made(client)
    writer = as_token(adapter, f"write:waitpoints:{mine['id']}")
    assert (await client.post(f"{BASE}/{mine['id']}/complete", json={}, headers=writer)).status_code == 200
    for refused in (
        await client.post(f"{BASE}/{other['id']}/complete", json={}, headers=writer),
        await client.get(f"{BASE}/{mine['id']}", headers=writer),
        await client.get(BASE, headers=writer),
        await client.post(BASE, json={}, headers=writer),
    ):
        assert refused.status_code == 403
    reader = as_token(adapter, "read:waitpoints")
    assert (await client.get(f"{BASE}/{mine['id']}", headers=reader)).json()["outputIsError"] is False
    assert (await client.post(BASE, json={}, headers={"authorization": "Bearer x"})).status_code == 401


async def test_a_token_that_is_late_says_so(client: httpx.AsyncClient) -> None:
    token = await made(client, timeout="2026-01-01T00:00:00.000Z")
    shown = (await client.get(f"{BASE}/{token['id']}")).json()
    assert (shown["status"], shown["outputIsError"]) == ("TIMED_OUT", True)
    assert "TRIGGER_WAITPOINT_TIMEOUT" in shown["output"]
    assert "2026-01-01T00:00:00.000Z" in shown["output"]
    listed = (await client.get(BASE, params={"filter[status]": "TIMED_OUT"})).json()
    assert ([each["id"] for each in listed["data"]], listed["pagination"]) == ([token["id"]], {})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"timeout": "soon"}, 422),
        ({"timeout": 5}, 400),
        ({"idempotencyKey": "k" * 2049}, 400),
        ({"idempotencyKey": "k", "idempotencyKeyTTL": "never"}, 422),
        ({"tags": ["t"] * 11}, 422),
        ({"tags": ["x" * 11_000]}, 413),
    ],
)
async def test_what_cannot_be_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], status: int
) -> None:
    reply = await client.post(BASE, json=body)
    assert reply.status_code == status
    assert reply.json()["error"]


async def test_a_query_that_cannot_be_read(client: httpx.AsyncClient) -> None:
    for params in (
        {"filter[status]": "DONE"},
        {"filter[tags]": "a\x00"},
        {"page[size]": "0"},
        {"page[after]": "nonsense"},
    ):
        assert (await client.get(BASE, params=params)).status_code == 400


async def test_an_output_that_cannot_be_kept_completes_nothing(
    client: httpx.AsyncClient, adapter: Adapter
) -> None:
    token = (await client.post(BASE, json={})).json()
    with pytest.raises(InvalidArgumentError, match=r"output\.n: JSON has no inf"):
        await adapter.complete_token(token["id"], {"n": float("inf")})
    refused = await client.post(f"{BASE}/{token['id']}/complete", content=b'{"data":1e400}')
    assert refused.status_code == 400
    assert (await client.get(f"{BASE}/{token['id']}")).json()["status"] == "WAITING"
