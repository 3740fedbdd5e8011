import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from adapter.domain import errors
from adapter.domain.clock import SystemClock
from adapter.web.bodies import BadJsonError, is_text, load_json, load_object, read_body
from adapter.web.browsers import Sharing
from adapter.web.errors import HANDLERS, STATUS, ApiError, answer, status_of
from adapter.web.middleware import Outermost

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def tree(base: type[errors.AdapterError]) -> list[type[errors.AdapterError]]:
    return [base, *(found for child in base.__subclasses__() for found in tree(child))]


def test_no_error_of_ours_is_left_to_chance() -> None:
    for kind in tree(errors.AdapterError):
        if kind.__module__ == errors.__name__:
            assert 400 <= status_of(kind.__new__(kind)) <= 504


def test_what_the_caller_must_mend_is_never_retried_by_the_sdk() -> None:
    for kind in tree(errors.RequestError):
        if kind is not errors.FlagConflictError and kind.__module__ == errors.__name__:
            assert status_of(kind.__new__(kind)) in {400, 404, 422}


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (errors.InvalidArgumentError("no"), 400, {"error": "no", "code": "invalid_argument"}),
        (
            errors.UnknownTaskError("ehco", ["echo"]),
            422,
            {"error": "No task 'ehco' is registered. Did you mean 'echo'?", "code": "unknown_task"},
        ),
        (errors.JobNotFoundError("x"), 404, {"error": "There is no job x.", "code": "job_not_found"}),
        (
            errors.BodyTooLargeError(9),
            413,
            {"error": "The body is larger than 9 bytes.", "code": "body_too_large"},
        ),
        (errors.SignatureError("why"), 401, {"error": "Invalid signature", "code": "invalid_signature"}),
        (errors.StoreError("host=db password=x"), 503, {"error": "Service Unavailable", "code": "store"}),
        (
            errors.ConfigurationError("secret"),
            500,
            {"error": "Internal Server Error", "code": "configuration"},
        ),
        (
            errors.RejectedError("their words", 400),
            502,
            {"error": "The remote executor did not accept this.", "code": "rejected"},
        ),
        (KeyError("secret"), 500, {"error": "Internal Server Error"}),
        (ApiError(403, "no", code="c", param="p"), 403, {"error": "no", "code": "c", "param": "p"}),
    ],
)
def test_bodies(error: Exception, status: int, body: dict[str, Any]) -> None:
    response = answer(error)
    assert (response.status_code, json.loads(bytes(response.body))) == (status, body)


def test_a_throttled_remote_says_when_to_come_back_in_milliseconds() -> None:
    response = answer(errors.ThrottledError("slow down", NOW))
    assert response.status_code == 429
    assert response.headers["x-ratelimit-reset"] == str(int(NOW.timestamp()) * 1000)
    assert "x-ratelimit-reset" not in answer(errors.ThrottledError("slow down", None)).headers


def test_the_table_names_only_our_errors() -> None:
    assert set(STATUS) <= set(tree(errors.AdapterError))


async def boom(_request: Request) -> Response:
    raise KeyError("secret")


async def half(_request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"half"
        raise KeyError("secret")

    return StreamingResponse(parts())


async def size(request: Request) -> Response:
    return PlainTextResponse(str(len(await read_body(request, 10))))


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(
        routes=[Route("/boom", boom), Route("/half", half), Route("/size", size, methods=["POST", "PUT"])],
        middleware=[Middleware(Outermost, clock=SystemClock(), max_body_bytes=1000, sharing=Sharing())],
        exception_handlers=HANDLERS,
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://adapter.test") as made:
        yield made


async def test_what_nobody_foresaw_is_logged_and_says_nothing(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    reply = await client.get("/boom?token=s3cret")
    assert (reply.status_code, reply.json()) == (500, {"error": "Internal Server Error"})
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(failures) == 1
    assert failures[0].exc_info


async def test_a_fault_in_the_middle_of_an_answer_is_left_to_the_server(client: httpx.AsyncClient) -> None:
    with pytest.raises(KeyError):
        await client.get("/half")


async def test_one_line_per_request_without_the_query(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "adapter.web")
    await client.get("/no%0Awhere?token=s3cret", headers={"authorization": "Bearer s3cret"})
    (line,) = [record for record in caplog.records if record.name == "adapter.web"]
    assert line.getMessage() == "GET /no%0Awhere 404"
    assert "s3cret" not in str(vars(line))


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/nowhere", 404, {"error": "Not found"}),
        ("GET", "/size", 405, {"error": "Method Not Allowed"}),
    ],
)
async def test_unknown_paths_and_wrong_methods(
    client: httpx.AsyncClient, method: str, path: str, status: int, body: dict[str, Any]
) -> None:
    reply = await client.request(method, path)
    assert (reply.status_code, reply.json()) == (status, body)
    assert reply.headers.get("allow") == ("POST, PUT" if status == 405 else None)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_bodies_are_counted_whatever_they_declare(client: httpx.AsyncClient) -> None:
    assert (await client.post("/size", content=b"x" * 10)).text == "10"
    for content in (b"x" * 11, b"x" * 2000):
        reply = await client.post("/size", content=content)
        assert reply.status_code == 413
        assert "error" in reply.json()
    assert (await client.post("/size", content=pieces(b"x" * 6, b"x" * 5))).status_code == 413
    lying = {"content-length": "3"}
    assert (await client.post("/size", content=pieces(b"x" * 11), headers=lying)).status_code == 413
    for odd in ("-1", "abc", "²", "9" * 30):
        await client.post("/size", content=pieces(b"x"), headers={b"content-length": odd.encode()})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"NaN",
        b"[Infinity]",
        b"[1e400]",
        b'"\\u0000"',
        b'{"a\\u0000":1}',
        b'"\\ud800"',
        b"[" * 100_000,
        b"1" * 5000,
    ],
)
def test_what_postgresql_cannot_keep_is_no_json(body: bytes) -> None:
    with pytest.raises(BadJsonError):
        load_json(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'"\\\\u0000"', "\\u0000"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'{"a":[1,null]}', {"a": [1, None]}),
        (b'"\\u00e9"', "é"),
    ],
)
def test_what_it_can(body: bytes, value: Any) -> None:
    assert load_json(body) == value


def test_objects_and_texts() -> None:
    assert load_object(b'{"a":1}') == {"a": 1}
    with pytest.raises(BadJsonError):
        load_object(b"[]")
    assert is_text("größe \U0001f600")
    assert not is_text("a\x00b")
    assert not is_text("\udc00")
