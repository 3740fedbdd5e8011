import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.requests import Request

from adapter.web.auth import AUDIENCE, ISSUER, Keyring, Principal, environment_id, make_public_token
from adapter.web.errors import ApiError

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
#: As long as Trigger.dev's keys are: shorter than what PyJWT asks for.
OLD, NEW = "tr_prod_" + "a" * 24, "tr_prod_" + "b" * 24
#: Its types name classes of a package that is not needed here.
_jwt: Any = jwt
RING = Keyring([SecretStr(NEW), SecretStr(OLD), SecretStr("")])


def request(authorization: str | None) -> Request:
    headers = (
        [] if authorization is None else [(b"authorization", authorization.encode("latin-1", "replace"))]
    )
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b""})


def authenticated(authorization: str | None, now: datetime = NOW, ring: Keyring = RING) -> Principal:
    return asyncio.run(ring.authenticate(request(authorization), now))


def caller(token: str, now: datetime = NOW) -> Principal:
    return authenticated(f"Bearer {token}", now)


def refused(authorization: str | None, now: datetime = NOW) -> dict[str, Any]:
    with pytest.raises(ApiError) as caught:
        authenticated(authorization, now)
    assert caught.value.status == 401
    return caught.value.body


def token_with(key: str = NEW, **claims: Any) -> str:
    """A token as the SDK signs it by itself."""
    good: dict[str, Any] = {
        "sub": "env_1",
        "pub": True,
        "scopes": ["read:runs"],
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 60,
    }
    payload = {name: value for name, value in (good | claims).items() if value is not None}
    return _jwt.encode(payload, key.encode() + b"\0", algorithm="HS256")


@pytest.mark.parametrize("key", [NEW, OLD])
def test_each_root_key_may_do_everything(key: str) -> None:
    principal = caller(key)
    assert principal.is_root
    assert principal.can("write", ("runs", "run_1"))
    assert key not in repr(principal)
    assert key not in principal.actor


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic abc", NEW])
def test_no_key_at_all(authorization: str | None) -> None:
    assert refused(authorization) == {"error": "Invalid or Missing API key"}


@pytest.mark.parametrize("token", ["x", NEW[:-1], NEW + "x", NEW.upper(), "x" * 10_000, "é"])
def test_a_wrong_key(token: str) -> None:
    assert refused(f"Bearer {token}") == {"error": "Invalid API key"}


def test_without_keys_nobody_gets_in() -> None:
    for token in ("", "x", "a.b.c"):
        with pytest.raises(ApiError):
            authenticated(f"Bearer {token}", ring=Keyring([]))
        with pytest.raises(ApiError):
            authenticated(f"Bearer {token}", ring=Keyring([SecretStr("")]))


def test_a_token_we_made_is_the_caller_it_says() -> None:
    token = make_public_token(OLD, ["read:runs:run_1"], HOUR, now=NOW)
    principal = caller(token)
    assert (principal.scopes, principal.key, principal.once) == (("read:runs:run_1",), OLD, None)
    assert not principal.is_root
    # As any JWT library reads it with the plain key.
    claims: dict[str, Any] = _jwt.decode(
        token,
        OLD.encode() + b"\0",
        algorithms=["HS256"],
        audience=AUDIENCE,
        issuer=ISSUER,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert (claims["pub"], claims["sub"]) == (True, environment_id(OLD))
    assert claims["exp"] - claims["iat"] == 3600


def test_a_token_the_sdk_signs_is_good() -> None:
    assert caller(token_with()).can("read", ("runs", "run_9"))


def test_a_token_ends_when_it_says_by_our_clock() -> None:
    token = make_public_token(NEW, [], HOUR, now=NOW)
    caller(token, NOW + timedelta(minutes=59))
    assert refused(f"Bearer {token}", NOW + HOUR) == {"error": "Public Access Token is invalid"}


@pytest.mark.parametrize(
    "claims",
    [
        {"pub": None},
        {"pub": "true"},
        {"iss": "https://example.com"},
        {"aud": "other"},
        {"aud": None},
        {"exp": None},
        {"exp": "never"},
        {"exp": int(NOW.timestamp())},
        {"nbf": int(NOW.timestamp()) + 60},
        {"scopes": "read:runs"},
        {"key": "tr_prod_" + "c" * 24},
    ],
)
def test_a_token_that_is_wrong_anywhere_is_refused(claims: dict[str, Any]) -> None:
    assert refused(f"Bearer {token_with(**claims)}") == {"error": "Public Access Token is invalid"}


def test_an_unsigned_token_is_refused() -> None:
    unsigned = _jwt.encode(
        {"pub": True, "iss": ISSUER, "aud": AUDIENCE, "exp": 1 << 40}, None, algorithm="none"
    )
    assert refused(f"Bearer {unsigned}") == {"error": "Public Access Token is invalid"}


def test_a_single_use_token_is_the_same_at_each_use() -> None:
    token = token_with(otu=True)
    assert caller(token).once == caller(token).once is not None
    assert caller(token_with(otu=True, jti="2")).once != caller(token).once


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        ([], False),
        (["read:runs"], True),
        (["read:runs:run_1"], True),
        (["read:runs:run_2"], False),
        (["read:tags:vip"], True),
        (["read:tags"], True),
        (["read:tags:v"], False),
        (["write:runs"], False),
        (["read:all"], True),
        (["admin"], True),
        (["read"], False),
        ([7, None, "read:runs:run_1"], True),
    ],
)
def test_scopes(scopes: list[Any], allowed: bool) -> None:
    principal = caller(token_with(scopes=scopes))
    assert principal.can("read", ("runs", "run_1"), ("tags", "vip")) is allowed


def test_a_missing_scope_answers_in_upstream_s_words() -> None:
    with pytest.raises(ApiError) as caught:
        caller(token_with()).require("trigger", ("tasks", "echo"))
    assert caught.value.status == 403
    assert caught.value.body == {
        "error": "Unauthorized",
        "code": "unauthorized",
        "param": "access_token",
        "type": "authorization",
    }


def test_a_route_for_root_keys_refuses_tokens() -> None:
    assert asyncio.run(RING.require_root(request(f"Bearer {NEW}"), NOW)).is_root
    with pytest.raises(ApiError) as caught:
        asyncio.run(RING.require_root(request(f"Bearer {token_with(scopes=['admin'])}"), NOW))
    assert caught.value.status == 403


@given(st.text(max_size=200))
def test_nothing_but_an_answer_is_ever_raised(text: str) -> None:
    for authorization in (text, f"Bearer {text}", f"Bearer a.{text}.b", f"Bearer {token_with()[:-5]}{text}"):
        with pytest.raises(ApiError):
            authenticated(authorization)
