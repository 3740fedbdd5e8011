"""Passing requests on to the Trigger.dev that an application used before: bytes in, bytes out.

Only to the one base URL; no redirect is followed, nothing is retried (the caller's SDK does that, under
the same keys), nothing is decoded. What belongs to one hop or to us alone stays here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

import httpx

from adapter.domain.errors import ConfigurationError, InvalidArgumentError, NotSentError, UnknownOutcomeError
from adapter.executors.http import Transport
from adapter.executors.own_client import OwnClient

#: As ASGI servers hand them over: names in lower case.
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

#: A long poll is answered after 20 s; a stream may be silent for longer.
_READ_S = 120.0
_TIMEOUT = httpx.Timeout(connect=5.0, pool=5.0, write=30.0, read=_READ_S)
#: Every open subscription of a caller is a connection here.
_LIMITS = httpx.Limits(max_connections=10_000, max_keepalive_connections=100)

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"expect",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
#: Beside those: who our callers are and what they keep with us is not upstream's business.
_KEPT_HERE = _HOP_BY_HOP | {
    b"host",
    b"cookie",
    b"forwarded",
    b"via",
    b"x-real-ip",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-forwarded-prefix",
    b"x-forwarded-server",
}
_KEPT_THERE = _HOP_BY_HOP | {b"set-cookie", b"alt-svc", b"strict-transport-security"}
_NOTHING_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


@dataclass(frozen=True, slots=True)
class Passed:
    """An answer whose body has not been read. It must be closed."""

    status: int
    headers: list[tuple[bytes, bytes]]
    _response: httpx.Response

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, in upstream's own encoding.

        Raises:
            UnknownOutcomeError: it broke off.
        """
        try:
            async for chunk in self._response.aiter_raw():
                yield chunk
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise UnknownOutcomeError(f"The answer broke off ({type(error).__name__}).") from None

    async def read(self) -> bytes:
        """Return the whole body, decoded. Errors: see `chunks`."""
        try:
            return await self._response.aread()
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise UnknownOutcomeError(f"The answer broke off ({type(error).__name__}).") from None

    async def close(self) -> None:
        """Let the connection go; upstream sees that nobody listens any more."""
        with suppress(httpx.HTTPError):
            await self._response.aclose()


class Upstream:
    """The one place requests are passed on to.

    Raises:
        ConfigurationError: the URL is not http(s), or carries a query or credentials.
    """

    def __init__(self, base_url: str, transport: Transport | None = None) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or "@" in parts.netloc:
            raise ConfigurationError("TRIGGER_UPSTREAM_URL is not an http or https URL.")
        self._base = httpx.URL(f"{parts.scheme}://{parts.netloc}")
        self._prefix = parts.path.rstrip("/").encode()
        self._own = OwnClient(
            lambda: httpx.AsyncClient(
                transport=transport, follow_redirects=False, timeout=_TIMEOUT, limits=_LIMITS
            )
        )

    async def open(self) -> None:
        """Make the client; no request is sent. A second call does nothing."""
        self._own.made()

    async def close(self) -> None:
        """Close the connections."""
        await self._own.close()

    async def send(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
    ) -> Passed:
        """Pass one request on, once, and return the answer as soon as its head is there.

        Args:
            method: any.
            target: path and query as they came, percent-encoded.
            headers: as they came; see the module's docstring for what is left out.
            body: None sends none. One that is yielded keeps the length it was declared with.

        Raises:
            InvalidArgumentError: the target is no part of a URL.
            NotSentError: upstream cannot be reached; nothing has left.
            UnknownOutcomeError: there was no answer, or not in time.
        """
        client = self._own.client
        if client is None:
            raise NotSentError("Pass-through is not open.")
        if body is None:
            # The length of what is not sent: the other side would wait for it.
            headers = [each for each in headers if each[0].lower() != b"content-length"]
        try:
            url = self._base.copy_with(raw_path=self._prefix + target)
        except (UnicodeError, httpx.InvalidURL):
            raise InvalidArgumentError("The address cannot be passed on: percent-encode it.") from None
        request = httpx.Request(
            method,
            url,
            headers=self._outgoing(headers),
            content=body,
            extensions={"timeout": _TIMEOUT.as_dict()},
        )
        try:
            response = await client.send(request, stream=True)
        except _NOTHING_LEFT as error:
            raise NotSentError(f"Trigger.dev cannot be reached ({type(error).__name__}).") from None
        except httpx.HTTPError as error:
            raise UnknownOutcomeError(f"Trigger.dev did not answer ({type(error).__name__}).") from None
        return Passed(response.status_code, _kept(response.headers.raw, _KEPT_THERE), response)

    def _outgoing(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        kept = _kept(headers, _KEPT_HERE)
        names = {name for name, _ in kept}
        # What the client would say of its own accord is not what the caller said.
        if b"accept-encoding" not in names:
            kept.append((b"accept-encoding", b"identity"))
        return [(b"host", self._base.netloc), *kept]


def _kept(headers: Headers, without: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """Return the headers but those, and but those that ``connection`` names."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = {
        each.strip().lower() for name, value in lowered if name == b"connection" for each in value.split(b",")
    }
    return [(name, value) for name, value in lowered if name not in without and name not in named]
