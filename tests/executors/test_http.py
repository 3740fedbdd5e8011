"""Every way a remote can misbehave ends in the class that says what is known."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from email.utils import format_datetime
from typing import Any, TypeAlias

import httpx
import pytest

from adapter.domain.errors import (
    ExecutorError,
    NotSentError,
    RejectedError,
    ThrottledError,
    UnknownOutcomeError,
)
from adapter.executors.http import HttpClient, Reply, Timeouts
from tests.fakes.clock import START, ManualClock

Step: TypeAlias = httpx.Response | Exception
HTML = "<html><title>Bad gateway</title></html>"


def reply(status: int, body: Any = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={} if body is None else body, headers=named)


class Peer:
    """Answers by a script; its last step is repeated."""

    def __init__(self, *steps: Step) -> None:
        self.steps, self.seen = list(steps), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return httpx.Response(step.status_code, headers=step.headers, content=step.content)


@asynccontextmanager
async def client_of(peer: Peer, clock: ManualClock, **times: Any) -> AsyncGenerator[HttpClient, None]:
    client = HttpClient(
        base_url="https://api.test",
        headers={"authorization": "Bearer tr_prod_secret"},
        clock=clock,
        timeouts=Timeouts(**times),
        transport=httpx.MockTransport(peer),
    )
    await client.open()
    yield client
    await client.close()


async def post(peer: Peer, clock: ManualClock, **over: Any) -> Reply:
    given: dict[str, Any] = {"json": {"a": 1}, "retry": False, **over}
    async with client_of(peer, clock) as client:
        return await client.request("POST", "/x", **given)


async def get(peer: Peer, clock: ManualClock, **over: Any) -> Reply:
    given: dict[str, Any] = {"retry": True, **over}
    async with client_of(peer, clock) as client:
        return await client.request("GET", "/x", **given)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        pytest.param(httpx.ConnectError("refused"), NotSentError, id="refused"),
        pytest.param(httpx.ConnectError("Name or service not known"), NotSentError, id="dns"),
        pytest.param(httpx.ConnectTimeout("slow"), NotSentError, id="connect timeout"),
        pytest.param(httpx.PoolTimeout("full"), NotSentError, id="no connection free"),
        pytest.param(httpx.ProxyError("502 from the proxy"), NotSentError, id="proxy refuses"),
        pytest.param(httpx.ReadTimeout("slow"), UnknownOutcomeError, id="read timeout"),
        pytest.param(httpx.WriteTimeout("slow"), UnknownOutcomeError, id="write timeout"),
        pytest.param(httpx.WriteError("pipe"), UnknownOutcomeError, id="write error"),
        pytest.param(httpx.ReadError("reset"), UnknownOutcomeError, id="reset"),
        pytest.param(httpx.RemoteProtocolError("what"), UnknownOutcomeError, id="no http"),
        pytest.param(httpx.DecodingError("gzip"), UnknownOutcomeError, id="bad gzip"),
        pytest.param(reply(500), UnknownOutcomeError, id="500"),
        pytest.param(reply(502), UnknownOutcomeError, id="502"),
        pytest.param(reply(503, retry_after="120"), UnknownOutcomeError, id="503"),
        pytest.param(reply(408), UnknownOutcomeError, id="408"),
        pytest.param(reply(409), UnknownOutcomeError, id="409"),
        pytest.param(reply(425), UnknownOutcomeError, id="425"),
        pytest.param(reply(302, location="https://elsewhere.test/"), UnknownOutcomeError, id="redirect"),
        pytest.param(httpx.Response(200, text=HTML), UnknownOutcomeError, id="html"),
        pytest.param(httpx.Response(200, content=b'{"id":"run_'), UnknownOutcomeError, id="cut json"),
        pytest.param(httpx.Response(200, content=b'{"a":NaN}'), UnknownOutcomeError, id="no json"),
        pytest.param(httpx.Response(200, content=b"\xff{}"), UnknownOutcomeError, id="no utf-8"),
        pytest.param(httpx.Response(200, content=b"[" * 100_000), UnknownOutcomeError, id="too deep"),
        pytest.param(httpx.Response(204), UnknownOutcomeError, id="204"),
        pytest.param(reply(429), ThrottledError, id="429"),
        pytest.param(reply(400), RejectedError, id="400"),
        pytest.param(reply(401), RejectedError, id="401"),
        pytest.param(reply(403), RejectedError, id="403"),
        pytest.param(reply(404), RejectedError, id="404"),
        pytest.param(reply(405), RejectedError, id="405"),
        pytest.param(reply(413), RejectedError, id="413"),
        pytest.param(reply(422), RejectedError, id="422"),
        pytest.param(httpx.Response(413, text=HTML), RejectedError, id="413 in html"),
    ],
)
@pytest.mark.parametrize("retry", [True, False])
async def test_a_call_with_effects_ends_in_its_class(
    step: Step, expected: type[ExecutorError], retry: bool, clock: ManualClock
) -> None:
    with pytest.raises(ExecutorError) as raised:
        await post(Peer(step), clock, retry=retry)
    assert type(raised.value) is expected
    assert "tr_prod_secret" not in str(raised.value)
    assert "api.test" not in str(raised.value)


@pytest.mark.parametrize("status", [401, 403, 422])
async def test_a_refusal_keeps_status_and_words(status: int, clock: ManualClock) -> None:
    with pytest.raises(RejectedError, match=f"HTTP {status}: Not like this") as raised:
        await post(Peer(reply(status, {"error": "Not like this"})), clock)
    assert raised.value.status == status


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "inner"}}, "HTTP 400: inner"),
        ({"title": "Rate Limit Exceeded"}, "HTTP 400: Rate Limit Exceeded"),
        ({"error": ["odd"]}, "HTTP 400"),
        (["odd"], "HTTP 400"),
        ({"error": "x" * 900}, "HTTP 400: " + "x" * 500),
    ],
)
async def test_words_are_found_where_they_are(body: Any, words: str, clock: ManualClock) -> None:
    with pytest.raises(RejectedError) as raised:
        await post(Peer(reply(400, body)), clock)
    assert str(raised.value) == words


SOON = START + timedelta(seconds=4)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"x-ratelimit-reset": str(int(SOON.timestamp() * 1000))}, 4),
        ({"x-ratelimit-reset": str(int(SOON.timestamp()))}, 4),
        ({"x-ratelimit-reset": str(int(SOON.timestamp() * 1000)), "retry-after": "99"}, 4),
        ({"x-ratelimit-reset": "soon", "retry-after": "7"}, 7),
        ({"retry-after": "7"}, 7),
        ({"retry-after": format_datetime(SOON, usegmt=True)}, 4),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "whenever"}, None),
        ({"x-ratelimit-reset": "nan"}, None),
        ({"x-ratelimit-reset": "9" * 300}, 3600),
        ({"x-ratelimit-reset": "1"}, 0),
        ({}, None),
    ],
)
async def test_a_throttle_says_when_to_come_back(
    headers: dict[str, str], wait: float | None, clock: ManualClock
) -> None:
    with pytest.raises(ThrottledError) as raised:
        await post(Peer(httpx.Response(429, headers=headers)), clock)
    expected = None if wait is None else START + timedelta(seconds=wait)
    assert raised.value.retry_at == expected


@pytest.mark.parametrize(
    "step", [httpx.ConnectError("x"), reply(500), reply(408), reply(409), reply(425), reply(503)]
)
async def test_what_may_pass_is_tried_three_times(step: Step, clock: ManualClock) -> None:
    peer = Peer(step)
    with pytest.raises(ExecutorError):
        await post(peer, clock, retry=True)
    assert len(peer.seen) == 3
    assert len(clock.waits) == 2
    assert clock.waits[0] <= 0.25
    assert clock.waits[1] <= 0.5


@pytest.mark.parametrize(
    "step",
    [
        httpx.ReadTimeout("x"),
        httpx.ReadError("x"),
        httpx.Response(200, text=HTML),
        reply(422),
        reply(302),
        reply(429),
        reply(429, retry_after="3"),
        reply(500, x_should_retry="false"),
        reply(503, retry_after="60"),
    ],
)
async def test_what_will_not_pass_is_tried_once(step: Step, clock: ManualClock) -> None:
    peer = Peer(step)
    with pytest.raises(ExecutorError):
        await post(peer, clock, retry=True)
    assert len(peer.seen) == 1
    assert clock.waits == []


@pytest.mark.parametrize("step", [httpx.ConnectError("x"), reply(500), reply(429, retry_after="1")])
async def test_a_call_that_is_not_safe_to_repeat_is_tried_once(step: Step, clock: ManualClock) -> None:
    peer = Peer(step)
    with pytest.raises(ExecutorError):
        await post(peer, clock, retry=False)
    assert len(peer.seen) == 1


async def test_a_short_throttle_is_waited_for(clock: ManualClock) -> None:
    answered = await post(Peer(reply(429, retry_after="1.5"), reply(200, {"id": 1})), clock, retry=True)
    assert answered == Reply(200, {"id": 1})
    assert 1.5 <= clock.waits[0] <= 1.75


async def test_no_try_begins_after_the_total_time(clock: ManualClock) -> None:
    peer = Peer(reply(503, retry_after="4"))
    async with client_of(peer, clock, total_s=10.0, tries=9) as client:
        with pytest.raises(UnknownOutcomeError):
            await client.request("POST", "/x", retry=True)
    assert len(peer.seen) == 3
    assert clock.monotonic() < 10


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((reply(500), httpx.ConnectError("x")), UnknownOutcomeError),
        ((reply(500), reply(422, {"error": "no"})), UnknownOutcomeError),
        ((reply(500), reply(429)), UnknownOutcomeError),
        ((httpx.ConnectError("x"), reply(500), httpx.ConnectError("x")), UnknownOutcomeError),
        ((httpx.ConnectError("x"), httpx.ReadTimeout("x")), UnknownOutcomeError),
        ((httpx.ConnectError("x"), reply(422)), RejectedError),
        ((reply(429, retry_after="1"), httpx.ConnectError("x")), ThrottledError),
        ((httpx.ConnectError("x"), reply(429)), ThrottledError),
    ],
)
async def test_the_worst_try_decides(
    steps: tuple[Step, ...], expected: type[ExecutorError], clock: ManualClock
) -> None:
    with pytest.raises(ExecutorError) as raised:
        await post(Peer(*steps), clock, retry=True)
    assert type(raised.value) is expected


async def test_the_last_try_of_a_read_decides(clock: ManualClock) -> None:
    with pytest.raises(RejectedError) as raised:
        await get(Peer(reply(500), reply(401)), clock)
    assert raised.value.status == 401


async def test_a_later_success_wins(clock: ManualClock) -> None:
    assert (await post(Peer(reply(500), reply(200, {"id": 1})), clock, retry=True)).value == {"id": 1}


MISSING = {"error": "Not found"}


async def test_a_404_that_may_pass_is_asked_again(clock: ManualClock) -> None:
    peer = Peer(reply(404, MISSING, x_should_retry="true"), reply(200, {"id": 1}))
    assert (await get(peer, clock, missing_ok=True)).status == 200
    peer = Peer(reply(404, MISSING, x_should_retry="true"))
    assert (await get(peer, clock, missing_ok=True)).status == 404
    assert len(peer.seen) == 3


async def test_a_plain_404_is_an_answer_at_once(clock: ManualClock) -> None:
    peer = Peer(reply(404, MISSING))
    assert (await get(peer, clock, missing_ok=True)).status == 404
    assert len(peer.seen) == 1


@pytest.mark.parametrize("step", [httpx.Response(404, text=HTML), httpx.Response(404), reply(404, [])])
async def test_a_404_of_something_in_between_is_none(step: Step, clock: ManualClock) -> None:
    with pytest.raises(UnknownOutcomeError, match="not the API's"):
        await get(Peer(step), clock, missing_ok=True)


async def test_a_body_that_does_not_matter_may_be_anything(clock: ManualClock) -> None:
    answered = await post(Peer(httpx.Response(200, text=HTML)), clock, needs_json=False)
    assert answered == Reply(200, None)


@pytest.mark.parametrize("body", [{"a": float("nan")}, {"a": object()}, {"a": "\ud800"}])
async def test_what_is_no_json_is_refused_before_it_leaves(body: Any, clock: ManualClock) -> None:
    peer = Peer(reply(200))
    with pytest.raises(RejectedError) as raised:
        await post(peer, clock, json=body)
    assert raised.value.status == 0
    assert peer.seen == []


async def test_length_is_told_and_redirects_are_not_followed(clock: ManualClock) -> None:
    peer = Peer(reply(200), reply(302, location="https://elsewhere.test/"))
    await post(peer, clock, json={"ä": 1})
    assert peer.seen[0].headers["content-length"] == str(len(peer.seen[0].content)) == "8"
    with pytest.raises(UnknownOutcomeError):
        await get(peer, clock)
    assert [request.url.host for request in peer.seen] == ["api.test", "api.test"]


async def test_a_closed_client_sends_nothing(clock: ManualClock) -> None:
    peer = Peer(reply(200))
    async with client_of(peer, clock) as client:
        await client.close()
        with pytest.raises(NotSentError):
            await client.request("GET", "/x", retry=False)
        await client.open()
        assert (await client.request("GET", "/x", retry=False)).status == 200


async def test_a_transfer_carries_none_of_our_headers(clock: ManualClock) -> None:
    peer = Peer(httpx.Response(200, content=b"text", headers={"content-type": "text/plain"}))
    async with client_of(peer, clock) as client:
        blob = await client.transfer("GET", "https://store.test/x?signature=1")
        await client.transfer("PUT", "https://store.test/x", content=b"abc", content_type="application/json")
        with pytest.raises(NotSentError):
            await client.transfer("GET", "file:///etc/passwd")
    assert (blob.content, blob.content_type) == (b"text", "text/plain")
    assert all("authorization" not in request.headers for request in peer.seen)
    assert peer.seen[1].headers["content-length"] == "3"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG, logger="adapter.executors"):
        yield caplog


async def test_the_log_tells_neither_key_nor_address_nor_body(
    clock: ManualClock, log: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UnknownOutcomeError):
        await post(Peer(reply(500)), clock, json={"password": "hunter2"}, retry=True)
    ours = [each.getMessage() for each in log.records if each.name == "adapter.executors"]
    assert len(ours) == 3
    assert not any(word in line for line in ours for word in ("tr_prod", "api.test", "hunter2"))


# From here on with a real socket.

Handler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_server(handler: Handler) -> AsyncGenerator[str, None]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def ask(base_url: str, **times: Any) -> Reply:
    client = HttpClient(
        base_url=base_url, headers={}, clock=ManualClock(), timeouts=Timeouts(tries=1, **times)
    )
    await client.open()
    try:
        return await client.request("POST", "/x", json={}, retry=True)
    finally:
        await client.close()


async def test_a_dripping_reply_ends_at_the_total_time() -> None:
    release = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        await release.wait()

    async with raw_server(drip) as address:
        with pytest.raises(UnknownOutcomeError, match="readable JSON"):
            await ask(f"http://{address}", total_s=0.1)
        release.set()


async def test_a_silent_peer_ends_at_the_total_time() -> None:
    release = asyncio.Event()

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()

    async with raw_server(silence) as address:
        with pytest.raises(UnknownOutcomeError, match="no complete reply"):
            await ask(f"http://{address}", total_s=0.1)
        with pytest.raises(NotSentError):  # the same peer, while the TLS handshake waits
            await ask(f"https://{address}", total_s=0.1)
        release.set()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"id"',
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\n{",
    ],
)
async def test_a_cut_or_broken_reply_is_unknown(answer: bytes) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with raw_server(cut) as address:
        with pytest.raises(UnknownOutcomeError):
            await ask(f"http://{address}")


async def test_a_refusal_counts_though_its_words_were_cut() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 422 No\r\ncontent-length: 100\r\n\r\n{")

    async with raw_server(cut) as address:
        with pytest.raises(RejectedError, match="HTTP 422"):
            await ask(f"http://{address}")


async def test_nobody_listens_or_nobody_speaks_tls() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test ESMTP\r\n")

    async with raw_server(plain) as address:
        with pytest.raises(NotSentError):
            await ask(f"https://{address}")
    with pytest.raises(NotSentError):
        await ask(f"http://{address}")


async def test_json_goes_over_a_real_socket() -> None:
    got: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"\r\n\r\n"))
        body = json.dumps({"id": "run_1"}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    async with raw_server(echo) as address:
        assert (await ask(f"http://{address}")).value == {"id": "run_1"}
    assert b"content-length: 2\r\n" in got[0].lower()
