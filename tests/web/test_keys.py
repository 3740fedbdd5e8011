"""Keys that are made and ended at run time, the tokens that are signed for them, and tokens that are good once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import psycopg
import pytest

from adapter import Adapter
from adapter.core.keys import FRESH_S, KnownKeys
from adapter.domain.errors import InvalidArgumentError, KeyNotFoundError
from adapter.web.auth import environment_id
from tests.fakes.clock import ManualClock
from tests.web.conftest import KEY

#: Its types name classes of a package that is not needed here.
_jwt: Any = jwt
TRIGGER = "/api/v1/tasks/echo/trigger"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def claims_of(token: str) -> dict[str, Any]:
    return _jwt.decode(token, KEY.encode() + b"\0", algorithms=["HS256"], options={"verify_aud": False})


def stored(url: str) -> dict[str, Any]:
    with psycopg.connect(url) as conn:
        rows = conn.execute("SELECT prefix, hash, last_used_at FROM adapter.api_keys").fetchall()
    return {prefix: (digest, used) for prefix, digest, used in rows}


async def test_a_key_is_shown_once_kept_as_a_hash_and_does_what_a_root_key_does(
    adapter: Adapter, client: httpx.AsyncClient, database_url: str
) -> None:
    made = await client.post("/api/admin/keys", json={"name": "ci", "environment": "dev"})
    assert made.status_code == 201
    key: str = made.json()["key"]
    assert key.startswith("tr_dev_sk_")
    assert len(key) == len("tr_dev_sk_") + 24
    listed = (await client.get("/api/admin/keys")).json()["keys"]
    assert [(each["prefix"], each["scopes"], each["last_used_at"]) for each in listed] == [
        (key[:14], None, None)
    ]
    assert key not in str(listed)
    digest, _ = stored(database_url)[key[:14]]
    assert len(digest) == 32
    assert key.encode() not in digest
    triggered = await client.post(TRIGGER, json={"payload": 1}, headers=bearer(key))
    run_id = triggered.json()["id"]
    claims = claims_of(triggered.headers["x-trigger-jwt"])
    assert (claims["scopes"], claims["sub"]) == ([f"read:runs:{run_id}"], environment_id(KEY))
    mine = bearer(triggered.headers["x-trigger-jwt"])
    assert (await client.get(f"/api/v3/runs/{run_id}", headers=mine)).status_code == 200
    assert stored(database_url)[key[:14]][1] is not None


async def test_when_it_was_used_is_written_once_a_minute(adapter: Adapter, database_url: str) -> None:
    made = await adapter.create_key("ci")
    clock = ManualClock(datetime(2026, 11, 27, tzinfo=UTC))
    known = KnownKeys(lambda: adapter.database, clock)
    uses: list[Any] = []
    with psycopg.connect(database_url, autocommit=True) as conn:
        for seconds in (30, 90):
            assert await known.find(made.secret)
            conn.execute(
                "UPDATE adapter.api_keys SET last_used_at = now() - %s", [timedelta(seconds=seconds)]
            )
            before = stored(database_url)[made.about.prefix][1]
            clock.advance(2)
            assert await known.find(made.secret)
            uses.append(stored(database_url)[made.about.prefix][1] == before)
    assert uses == [True, False]


async def test_a_revoked_key_is_dead_within_the_second_and_a_stranger_costs_one_look(
    adapter: Adapter,
) -> None:
    made = await adapter.create_key("ci")
    clock = ManualClock(datetime(2026, 11, 27, tzinfo=UTC))
    known = KnownKeys(lambda: adapter.database, clock)
    found = await known.find(made.secret)
    assert found is not None
    assert found.id == made.about.id
    await adapter.revoke_key(made.about.id)
    assert await known.find(made.secret) == found
    clock.advance(FRESH_S)
    assert await known.find(made.secret) is None
    assert await adapter.list_keys() == []
    assert [each.revoked_at is not None for each in await adapter.list_keys(revoked=True)] == [True]


async def test_a_rotated_key_has_the_rights_of_the_old_one_which_goes_on_for_a_while(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    old = await adapter.create_key("ci", environment="stg", scopes=["read:runs"])
    path = f"/api/admin/keys/{old.about.id}/rotate"
    new = (await client.post(path, json={"overlap_s": 3600})).json()
    assert new["key"].startswith("tr_stg_sk_")
    assert (new["scopes"], new["name"]) == (["read:runs"], "ci")
    for key in (old.secret, new["key"]):
        assert (await client.get("/api/v1/runs", headers=bearer(key))).status_code == 200
        assert (await client.post(TRIGGER, json={}, headers=bearer(key))).status_code == 403
    # What ends it sooner ends it sooner; what would let it go on for longer does not.
    ended = await adapter.revoke_key(old.about.id)
    later = await adapter.revoke_key(old.about.id, after=timedelta(days=1))
    assert later.revoked_at == ended.revoked_at
    with pytest.raises(KeyNotFoundError):
        await adapter.rotate_key(old.about.id)
    gone = await client.delete("/api/admin/keys/nope")
    assert (gone.status_code, gone.json()["code"]) == (404, "key_not_found")


async def test_a_key_that_cannot_be_is_refused(adapter: Adapter) -> None:
    wrong: list[dict[str, Any]] = [
        {"name": " "},
        {"name": "a\nb"},
        {"name": "x" * 101},
        {"name": "x", "environment": "production"},
        {"name": "x", "user_id": ""},
        *({"name": "x", "scopes": each} for each in ((), ["read"], ["raed:runs"], ["read:runs:"])),
    ]
    for each in wrong:
        with pytest.raises(InvalidArgumentError):
            await adapter.create_key(**each)
    assert await adapter.list_keys() == []


async def test_only_who_may_do_everything_makes_keys_and_tokens(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    limited = await adapter.create_key("limited", scopes=["admin"])
    ones = await adapter.create_key("of one user", user_id="7")
    for key in (limited.secret, ones.secret):
        for method, path in (
            ("GET", "/api/admin/keys"),
            ("POST", "/api/admin/keys"),
            ("POST", f"/api/admin/keys/{limited.about.id}/rotate"),
            ("DELETE", f"/api/admin/keys/{limited.about.id}"),
            ("POST", "/api/v1/auth/public-tokens"),
            ("POST", "/api/v1/auth/jwt/claims"),
        ):
            body = {"name": "x", "scopes": ["read:runs"]} if method == "POST" else None
            refused = await client.request(method, path, headers=bearer(key), json=body)
            assert refused.status_code == 403
    assert len(await adapter.list_keys()) == 2


async def test_a_personal_access_token_is_for_projects_alone(
    adapter: Adapter, client: httpx.AsyncClient
) -> None:
    made = await adapter.create_key("ann", environment="pat")
    assert made.secret.startswith("tr_pat_")
    assert (await client.get("/api/v1/runs", headers=bearer(made.secret))).status_code == 401
    # Nothing of ours is there; who calls is known, though.
    found = await client.get("/api/v1/projects/proj_x/nothing", headers=bearer(made.secret))
    assert found.status_code == 404


async def test_a_token_that_the_server_signs(adapter: Adapter, client: httpx.AsyncClient) -> None:
    async def asked(**body: Any) -> httpx.Response:
        return await client.post("/api/v1/auth/public-tokens", json={"scopes": ["read:runs"], **body})

    now = adapter.clock.now()
    in_an_hour = now + timedelta(hours=1)
    for said, seconds in (
        (None, 900),
        ("2 hours", 7200),
        ("15m", 900),
        ("30d", 30 * 86_400),
        (in_an_hour.timestamp(), 3600),
        (in_an_hour.isoformat(), 3600),
    ):
        claims = claims_of((await asked(expirationTime=said)).json()["token"])
        assert abs(claims["exp"] - claims["iat"] - seconds) <= 2
        assert (claims["pub"], claims["scopes"], "otu" in claims) == (True, ["read:runs"], False)
    for wrong in ("31d", 5, now.timestamp(), "soon", "1e400y", 1e300, "-5m", {"a": 1}):
        refused = await asked(expirationTime=wrong)
        assert (refused.status_code, list(refused.json())) == (400, ["error"]), wrong
    whole = await asked(oneTimeUse=True, realtime={"skipColumns": ["payload"]})
    assert claims_of(whole.json()["token"])["realtime"] == {"skipColumns": ["payload"]}
    first, second = [(await asked(oneTimeUse=True)).json()["token"] for _ in range(2)]
    assert first != second


async def test_a_single_use_token_is_good_for_one_call_and_its_retries(client: httpx.AsyncClient) -> None:
    body = {"scopes": ["trigger:tasks:echo", "trigger:tasks:off"], "oneTimeUse": True}
    token: str = (await client.post("/api/v1/auth/public-tokens", json=body)).json()["token"]

    async def trigger(task: str, call: str | None) -> httpx.Response:
        headers = bearer(token) | ({"x-trigger-request-idempotency-key": call} if call else {})
        return await client.post(f"/api/v1/tasks/{task}/trigger", json={"payload": 1}, headers=headers)

    # What was refused has not used it.
    assert (await trigger("off", "call-0")).status_code == 422
    first = await trigger("echo", "call-1")
    again = await trigger("echo", "call-1")
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["id"] == again.json()["id"]
    for call in ("call-2", None):
        refused = await trigger("echo", call)
        assert (refused.status_code, refused.json()) == (
            422,
            {
                "error": "Cannot trigger echo with a one-time use token as it has already been used.",
                "code": "token_spent",
            },
        )
    assert len((await client.get("/api/v1/runs")).json()["data"]) == 1


async def test_what_single_use_tokens_leave_behind_goes_when_they_have_ended(
    adapter: Adapter, client: httpx.AsyncClient, database_url: str
) -> None:
    body = {"scopes": ["trigger:tasks:echo"], "oneTimeUse": True}
    for _ in range(2):
        token: str = (await client.post("/api/v1/auth/public-tokens", json=body)).json()["token"]
        assert (await client.post(TRIGGER, json={}, headers=bearer(token))).status_code == 200
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            "UPDATE adapter.spent_tokens SET expires_at = now() - interval '1 s'"
            " WHERE token = (SELECT token FROM adapter.spent_tokens LIMIT 1)"
        )
        await adapter.retention.run_once()
        assert conn.execute("SELECT count(*) FROM adapter.spent_tokens").fetchall() == [(1,)]
