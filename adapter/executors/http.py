"""HTTP to others: the only importer of the client, and the place where foreign errors become ours.

How a call with effects ends, by its worst try:

- connect error or timeout, DNS, TLS, no free connection: `NotSentError`
- 429: `ThrottledError`
- another 4xx, but 408, 409 and 425: `RejectedError`
- whatever else is no readable 2xx (3xx, 5xx, a lost or cut reply, no JSON): `UnknownOutcomeError`

A read ends as its last try did. Messages carry neither URLs nor bodies we sent.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, wait_random_exponential

from adapter.domain.clock import Clock, SystemClock
from adapter.domain.errors import (
    ExecutorError,
    NotSentError,
    RejectedError,
    ThrottledError,
    UnknownOutcomeError,
)
from adapter.domain.json import encode_json
from adapter.executors.own_client import OwnClient
from adapter.executors.replies import (
    BadJsonError,
    Reply,
    parse_json,
    retry_at,
    retry_in,
    server_says,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["Blob", "HttpClient", "Reply", "Timeouts", "Transport"]

#: What a test puts in place of the network.
Transport = httpx.AsyncBaseTransport

_log = logging.getLogger("adapter.executors")
_NOTHING_LEFT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
_UNCERTAIN_4XX = frozenset({408, 409, 425})
_RANK = (NotSentError, ThrottledError, RejectedError, UnknownOutcomeError)
_LONGEST_REPLY = 64 * 1024 * 1024
#: A throttled call is repeated at once only when the remote asks for no longer wait than this.
_SHORT_RESET_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a call may take.

    ``read_s`` is per read, which a dripping reply never exceeds; ``total_s`` bounds a call with all its
    tries and waits, ``transfer_s`` one upload or download. ``tries`` is the most per call.
    """

    connect_s: float = 5.0
    read_s: float = 8.0
    pool_s: float = 2.0
    total_s: float = 10.0
    transfer_s: float = 30.0
    tries: int = 3

    def within(self, limit_s: float) -> dict[str, float]:
        """Return the client's timeouts for a try that ends after ``limit_s``.

        TCP and TLS may take one connect timeout each, and must end by it: the client leaves the socket
        of a handshake open that is cut off from outside.
        """
        half = limit_s / 2
        return {
            "connect": min(self.connect_s, half * 0.9),
            "pool": min(self.pool_s, half),
            "read": self.read_s,
            "write": self.read_s,
        }


@dataclass(frozen=True, slots=True)
class Blob:
    """A file from another host."""

    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class _Failure:
    error: ExecutorError
    again: bool = False
    after_s: float = 0.0
    #: What the caller gets in place of the error when no try is left.
    reply: Reply | None = None


@dataclass(slots=True)
class _Trace:
    """Whether the request began to leave. A transport without trace events leaves it open."""

    seen: bool = False
    sending: bool = False

    async def __call__(self, event: str, _info: Mapping[str, Any]) -> None:
        self.seen = True
        self.sending = self.sending or event.endswith("send_request_headers.started")

    @property
    def nothing_left(self) -> bool:
        return self.seen and not self.sending


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    params: Mapping[str, str] | None = None
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back. ``body`` is None when it could not be read to its end."""

    status: int
    headers: httpx.Headers
    body: bytes | None


class HttpClient:
    """Calls to one API, whose ``headers`` (with our key) go to ``base_url`` and nowhere else."""

    def __init__(
        self,
        *,
        base_url: str,
        headers: Mapping[str, str],
        clock: Clock | None = None,
        timeouts: Timeouts | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._headers = dict(headers)
        self._clock = clock or SystemClock()
        self._timeouts = timeouts or Timeouts()
        self._own = OwnClient(lambda: httpx.AsyncClient(transport=transport, follow_redirects=False))

    async def open(self) -> None:
        """Make the client; no request is sent. A second call does nothing."""
        self._own.made()

    async def close(self) -> None:
        """Close the connections. Calls that come later end in `NotSentError`."""
        await self._own.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        retry: bool,
        needs_json: bool = True,
        missing_ok: bool = False,
    ) -> Reply:
        """Return the 2xx reply of the API, or the API's own 404 with ``missing_ok``.

        Args:
            method: GET, POST, PUT.
            path: percent-encoded, from the root.
            json: the body; None sends none.
            headers: beside our own.
            params: the query, not encoded.
            retry: whether the call may be repeated, which its sender must know to be safe.
            needs_json: whether a 2xx without readable JSON is no answer.
            missing_ok: whether a 404 is an answer. One that is not the API's (a proxy's page, say)
                never is.

        Raises:
            ExecutorError: one of the four of the module's docstring.
        """
        try:
            content = None if json is None else encode_json(json)
        except (ValueError, TypeError, RecursionError) as error:
            raise RejectedError(f"The body cannot be written as JSON: {error}", status=0) from None
        own = self._headers | ({} if content is None else {"content-type": "application/json"})
        call = _Call(
            method=method,
            url=self._base_url + path,
            headers=own | dict(headers or {}),
            params=params,
            content=content,
        )
        failures: list[_Failure] = []
        began = self._clock.monotonic()

        async def once() -> Reply | _Failure:
            left = self._timeouts.total_s - (self._clock.monotonic() - began)
            answer = await self._send(call, max(left, 0.01))
            ended = answer if isinstance(answer, _Failure) else self._judge(answer, needs_json, missing_ok)
            if isinstance(ended, _Failure):
                failures.append(ended)
                _log.debug("%s call: try %d ended %s", method, len(failures), ended.error.code)
            return ended

        def no_more(state: RetryCallState) -> bool:
            spent = self._clock.monotonic() - began + state.upcoming_sleep
            return state.attempt_number >= self._timeouts.tries or spent >= self._timeouts.total_s

        retrying = AsyncRetrying(
            sleep=self._clock.sleep,
            stop=no_more,
            wait=_wait,
            retry=retry_if_result(lambda ended: retry and isinstance(ended, _Failure) and ended.again),
            retry_error_callback=_last,
        )
        ended = cast("Reply | _Failure", await retrying(once))
        if isinstance(ended, Reply):
            return ended
        if ended.reply is not None:
            return ended.reply
        raise ended.error if method == "GET" else _worst(failures)

    async def transfer(
        self, method: str, url: str, *, content: bytes | None = None, content_type: str | None = None
    ) -> Blob:
        """Move a file to or from a presigned URL on another host: once, without our headers.

        Raises:
            ExecutorError: as `request`.
        """
        if not url.startswith(("https://", "http://")):
            raise NotSentError("The presigned URL is no http URL.")
        headers = {} if content_type is None else {"content-type": content_type}
        call = _Call(method=method, url=url, headers=headers, content=content)
        answer = await self._send(call, self._timeouts.transfer_s)
        if isinstance(answer, _Failure):
            raise answer.error
        judged = self._judge(answer, needs_json=False, missing_ok=False)
        if isinstance(judged, _Failure):
            raise judged.error
        if answer.body is None:
            raise UnknownOutcomeError("The file was cut short.")
        return Blob(answer.body, answer.headers.get("content-type", ""))

    async def _send(self, call: _Call, limit_s: float) -> _Answer | _Failure:
        client = self._own.client
        if client is None:
            return _Failure(NotSentError("The executor is not open."))
        trace = _Trace()
        head: tuple[int, httpx.Headers] | None = None
        body: bytes | None = None
        problem: ExecutorError | None = None
        try:
            async with (
                asyncio.timeout(limit_s),
                client.stream(
                    call.method,
                    call.url,
                    headers=call.headers,
                    params=call.params,
                    content=call.content,
                    extensions={"trace": trace, "timeout": self._timeouts.within(limit_s)},
                ) as response,
            ):
                head = response.status_code, response.headers
                body = await _read(response)
        except TimeoutError:
            text = f"There was no complete reply within {limit_s:.3g} s."
            problem = NotSentError(text) if trace.nothing_left else UnknownOutcomeError(text)
        except _NOTHING_LEFT as error:
            problem = NotSentError(_text_of(error))
        except (httpx.HTTPError, httpx.StreamError) as error:
            problem = UnknownOutcomeError(_text_of(error))
        if head is not None:
            return _Answer(*head, body)
        assert problem is not None
        return _Failure(problem, again=isinstance(problem, NotSentError))

    def _judge(self, answer: _Answer, needs_json: bool, missing_ok: bool) -> Reply | _Failure:  # noqa: FBT001 - called here only
        status, headers, body = answer.status, answer.headers, answer.body or b""
        value: Any = None
        readable = answer.body is not None
        try:
            value = parse_json(body)
        except BadJsonError:
            readable = False
        if 200 <= status < 300:
            if readable or not needs_json:
                return Reply(status, value)
            return _Failure(UnknownOutcomeError(f"HTTP {status} came without readable JSON."))
        words = words_of(status, value, body, headers.get("content-type", ""))
        if status == 404 and missing_ok:
            return self._missing(value, headers, words)
        now = self._clock.now()
        if status == 429:
            return self._throttled(words, retry_at(headers, now), now)
        if 400 <= status < 500 and status not in _UNCERTAIN_4XX:
            return _Failure(RejectedError(words, status), again=server_says(headers) is True)
        again = (status >= 500 or status in _UNCERTAIN_4XX) and server_says(headers) is not False
        return _Failure(UnknownOutcomeError(words), again, retry_in(headers, now) or 0.0)

    def _missing(self, value: Any, headers: httpx.Headers, words: str) -> Reply | _Failure:
        if not (isinstance(value, dict) and "error" in value):
            return _Failure(UnknownOutcomeError(f"A 404 that is not the API's: {words}"))
        if server_says(headers) is True:
            return _Failure(RejectedError(words, 404), again=True, reply=Reply(404, value))
        return Reply(404, cast("Any", value))

    def _throttled(self, words: str, at: datetime | None, now: datetime) -> _Failure:
        wait = _SHORT_RESET_S + 1 if at is None else max((at - now).total_seconds(), 0.0)
        return _Failure(ThrottledError(words, at), again=wait <= _SHORT_RESET_S, after_s=wait)


async def _read(response: httpx.Response) -> bytes:
    parts = bytearray()
    async for part in response.aiter_bytes():
        parts += part
        if len(parts) > _LONGEST_REPLY:
            raise httpx.RemoteProtocolError("the reply is too large")
    return bytes(parts)


def _text_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


_jitter = wait_random_exponential(multiplier=0.25, max=2.0)


def _wait(state: RetryCallState) -> float:
    jitter = _jitter(state)
    ended = None if state.outcome is None else cast("object", state.outcome.result())
    return ended.after_s + jitter if isinstance(ended, _Failure) else jitter


def _last(state: RetryCallState) -> object:
    assert state.outcome is not None
    return cast("object", state.outcome.result())


def _worst(failures: list[_Failure]) -> ExecutorError:
    last = failures[-1].error
    worst = max(reversed(failures), key=lambda each: _RANK.index(type(each.error))).error
    if type(worst) is UnknownOutcomeError and type(last) is not UnknownOutcomeError:
        return UnknownOutcomeError(f"{worst} The last try said: {last}")
    return worst
