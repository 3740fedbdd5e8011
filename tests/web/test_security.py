"""Sessions and rules of the application, requests from elsewhere, limits, and what every answer says."""

from collections.abc import Sequence
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.routing import Route

from adapter import Adapter, Settings
from adapter.web.app import create_app
from adapter.web.auth import Principal
from adapter.web.authorization import Resource, allowed_by_default
from adapter.web.errors import ApiError
from adapter.web.rates import RateLimit
from tests.fakes.clock import ManualClock
from tests.web.conftest import KEY

SESSIONS = {"ann": "7", "bob": "8", "root": "0"}


async def signed_in(request: Request) -> Principal | None:
    user = SESSIONS.get(request.cookies.get("session", ""))
    return None if user is None else Principal(id=f"session-{user}", user_id=user)


def support_reads(principal: Principal, action: str, resources: Sequence[Resource]) -> bool:
    return (principal.user_id == "8" and action == "read") or allowed_by_default(principal, action, resources)


def talking_to(adapter: Adapter, **headers: str) -> httpx.AsyncClient:
    app = adapter.asgi(authenticate=signed_in, authorize=support_reads)
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://adapter.test", headers=headers)


async def test_the_application_says_who_calls_and_what_they_may(adapter: Adapter) -> None:
    job = await adapter.schedule_job("echo", 1, user_id="7")
    path = f"/api/jobs/{job.id}"
    seen: dict[str, tuple[int, int]] = {}
    for who in ("ann", "bob", "root", "nobody"):
        async with talking_to(adapter, cookie=f"session={who}", origin="http://adapter.test") as client:
            # The last one cancels, so nobody before may have.
            shown = (await client.get(path)).status_code
            seen[who] = shown, (await client.post(f"{path}/retry")).status_code
    # 422: they may, and it has not ended.
    assert seen == {"ann": (200, 422), "bob": (200, 404), "root": (200, 422), "nobody": (401, 401)}
    # A key in a header is still a key.
    async with talking_to(adapter, authorization=f"Bearer {KEY}", cookie="session=bob") as client:
        assert (await client.post(f"{path}/cancel")).json()["status"] == "CANCELED"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"origin": "http://adapter.test"}, 201),
        ({"origin": "http://ADAPTER.test"}, 201),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[::1"}, 403),
        ({"origin": "http://x@adapter.test.evil.example"}, 403),
        ({"sec-fetch-site": "same-origin"}, 201),
        ({"sec-fetch-site": "none"}, 201),
        ({"sec-fetch-site": "same-site", "origin": "http://adapter.test"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "http://adapter.test"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "https://shop.example"}, 201),
    ],
)
async def test_what_a_cookie_vouches_for_has_to_come_from_our_own_pages(
    database_url: str, headers: dict[str, str], status: int
) -> None:
    settings = Settings(database_url=SecretStr(database_url), cors_origins=("https://shop.example",))
    adapter = Adapter(settings)

    @adapter.task("echo")
    async def echo(payload: object) -> None:
        del payload

    del echo
    async with adapter, talking_to(adapter, cookie="session=ann", **headers) as client:
        made = await client.post("/api/jobs", json={"task": "echo"})
        assert made.status_code == status, made.text
        # Reading changes nothing, and the answer cannot be read from elsewhere.
        assert (await client.get("/api/jobs")).status_code == 200
        # Without a root key nobody can sign tokens, so the API that hands them out stays shut.
        assert (await client.post("/api/v1/tasks/echo/trigger", json={})).status_code in {401, 403}


def test_a_bucket_empties_refills_and_tells_when() -> None:
    clock = ManualClock(datetime(2026, 11, 27, 12, 0, tzinfo=UTC))
    limit = RateLimit(60, clock)
    left = [int(limit.take("a")["x-ratelimit-remaining"]) for _ in range(30)]
    assert left == list(range(29, -1, -1))
    with pytest.raises(ApiError) as caught:
        limit.take("a")
    error = caught.value
    reset = int((clock.now().timestamp() + 1) * 1000)
    assert (error.status, error.headers["x-ratelimit-reset"]) == (429, str(reset))
    assert error.headers["content-type"] == "application/problem+json"
    assert error.body == {
        "title": "Rate Limit Exceeded",
        "status": 429,
        "type": "https://developer.mozilla.org/en-US/docs/Web/HTTP/Status/429",
        "detail": error.body["error"],
        "error": "Rate limit exceeded 0/30 requests remaining. Retry in 1 seconds.",
        "reset": reset,
        "limit": 30,
        "remaining": 0,
        "secondsUntilReset": 1,
    }
    limit.take("b")
    clock.advance(1)
    limit.take("a")
    with pytest.raises(ApiError):
        limit.take("a")
    assert RateLimit(0, clock).take("a") == {}


async def test_a_key_that_calls_too_often_is_told_so_and_others_are_not(database_url: str) -> None:
    adapter = Adapter(
        Settings(database_url=SecretStr(database_url), api_keys=(SecretStr(KEY),), api_rate_per_minute=4)
    )
    transport = httpx.ASGITransport(app=create_app(adapter, owns_adapter=False))
    headers = {"authorization": f"Bearer {KEY}"}
    async with (
        adapter,
        httpx.AsyncClient(transport=transport, base_url="http://adapter.test", headers=headers) as client,
    ):
        replies = [await client.get("/api/v1/runs") for _ in range(3)]
        assert [each.status_code for each in replies] == [200, 200, 429]
        assert [each.headers["x-ratelimit-remaining"] for each in replies] == ["1", "0", "0"]
        assert replies[2].headers["content-type"] == "application/problem+json"
        # Not counted upstream either, and another key has a bucket of its own.
        assert (await client.post("/api/v1/auth/jwt/claims")).status_code == 200
        other = {"authorization": f"Bearer {(await adapter.create_key('other')).secret}"}
        assert (await client.get("/api/v1/runs", headers=other)).status_code == 200


async def test_every_answer_is_strict_and_only_the_api_is_shared(client: httpx.AsyncClient) -> None:
    for path in ("/livez", "/api/v1/runs", "/nowhere", "/api/jobs", "/metrics"):
        answer = await client.get(path, headers={"origin": "https://shop.example"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        shared = path.startswith(("/api/v1", "/api/jobs"))
        assert (answer.headers.get("access-control-allow-origin") == "*") is shared
        assert "access-control-allow-credentials" not in answer.headers
    asked = {
        "origin": "https://shop.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, x-trigger-client",
        "authorization": "",
    }
    for path in (
        "/api/v1/tasks/a%2Fb/trigger",
        "/api/v3/runs/run_1",
        "/realtime/v1/runs/run_1",
        "/api/jobs/1",
    ):
        preflight = await client.options(path, headers=asked)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-headers"] == "authorization, x-trigger-client"
        assert "POST" in preflight.headers["access-control-allow-methods"]
    assert (await client.options("/api/admin/keys", headers=asked)).status_code == 405
    odd = asked | {"access-control-request-headers": "a\tb;c"}
    assert "access-control-allow-headers" not in (await client.options("/api/v1/runs", headers=odd)).headers


#: What no client of good will sends.
HOSTILE = [
    b"",
    b"\xff\xfe",
    b"Bearer \xff.\xff.\xff",
    b"Bearer a.b.c",
    b"Bearer " + b"x" * 9000,
    b"http://[::1",
    b"-1",
    b"9" * 400,
    b"NaN",
    b"\x00",
    b'"*"',
    b"00-" + b"g" * 32 + b"-0-00",
    "ä;q=0.0.0,*".encode(),
]
NAMES = [
    "authorization",
    "content-length",
    "content-type",
    "host",
    "origin",
    "cookie",
    "if-match",
    "last-event-id",
    "traceparent",
    "x-trigger-api-version",
    "x-trigger-request-idempotency-key",
    "idempotency-key",
    "idempotency-key-ttl",
    "sec-fetch-site",
]


@pytest.mark.once("about headers")
async def test_no_header_brings_a_server_error(adapter: Adapter) -> None:
    app = create_app(adapter, owns_adapter=False, authenticate=signed_in)
    paths = {
        (route.path.replace(":path", ""), method)
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        # A stream of nothing is an answer that does not end.
        if method != "HEAD" and "stream" not in route.path
    }
    assert len(paths) > 60
    transport = httpx.ASGITransport(app=app)
    failed: list[tuple[str, str, str, bytes, int]] = []
    async with httpx.AsyncClient(transport=transport, base_url="http://adapter.test") as client:
        for n, (path, method) in enumerate(sorted(paths)):
            # Every route meets every header, and every header every value, if not all three at once.
            for name in NAMES:
                value = HOSTILE[(n + NAMES.index(name)) % len(HOSTILE)]
                headers = [(b"authorization", f"Bearer {KEY}".encode()), (name.encode(), value)]
                if name == "authorization":
                    headers = [(name.encode(), value)]
                url = path.replace("{", "").replace("}", "")
                answer = await client.request(method, url, headers=headers, content=b"{}")
                if answer.status_code >= 500:
                    failed.append((method, path, name, value, answer.status_code))
    assert failed == []
