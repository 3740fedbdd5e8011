"""Posting to receivers of webhooks: once, no redirect, and only to addresses of the open internet.

A name is resolved first, every address it has is looked at, and the connection goes to the one that was
looked at: a name that answers otherwise the second time leads nowhere else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapter.domain.clock import Clock
from adapter.domain.errors import NotOpenError
from adapter.domain.webhooks import is_public
from adapter.executors.own_client import OwnClient
from adapter.executors.replies import retry_in

if TYPE_CHECKING:
    import httpx

    from adapter.executors.http import Transport

_TOTAL_S = 15.0
#: What is read of an answer; the rest is of no use to anybody here.
_MOST_ANSWER_BYTES = 2048
PRIVATE = "its address is not of the open internet"


@dataclass(frozen=True, slots=True)
class Posted:
    """What a receiver said. ``status`` None: it said nothing, and ``error`` says why."""

    status: int | None
    error: str | None = None
    retry_after_s: float | None = None
    answer: str = ""

    @property
    def is_taken(self) -> bool:
        """Whether it has the event."""
        return self.status is not None and 200 <= self.status < 300


class WebhookPoster:
    """Any receiver's one client."""

    def __init__(self, clock: Clock, transport: Transport | None = None) -> None:
        self._clock = clock
        self._transport = transport
        self._own = OwnClient(self._make)
        self._is_open = False

    async def open(self) -> None:
        """Let posts be made; the client comes with the first of them."""
        self._is_open = True

    def _make(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415 - most processes never post

        timeout = httpx.Timeout(connect=5.0, pool=5.0, write=10.0, read=10.0)
        # No proxy of the environment: it would be asked for the address that was looked at.
        return httpx.AsyncClient(
            transport=self._transport, follow_redirects=False, timeout=timeout, trust_env=False
        )

    async def close(self) -> None:
        """Close the connections."""
        self._is_open = False
        await self._own.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, allow_private: bool) -> Posted:
        """Post once; never raises for what a receiver or the network does."""
        if not self._is_open:
            raise NotOpenError
        client = self._own.made()
        import httpx  # noqa: PLC0415 - loaded by now

        try:
            async with asyncio.timeout(_TOTAL_S):
                return await self._post(client, httpx.URL(url), body, dict(headers), allow_private)
        except TimeoutError:
            return Posted(None, f"it did not answer within {_TOTAL_S:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            return Posted(None, f"it could not be reached: {type(error).__name__}")
        except OSError:
            return Posted(None, "its name could not be resolved")

    async def _post(
        self,
        client: httpx.AsyncClient,
        url: httpx.URL,
        body: bytes,
        headers: dict[str, str],
        allow_private: bool,  # noqa: FBT001 - called above only
    ) -> Posted:
        extensions: dict[str, Any] = {}
        if not allow_private:
            address = await _public_address(url)
            if address is None:
                return Posted(None, PRIVATE)
            headers["host"] = url.netloc.decode("ascii")
            extensions["sni_hostname"] = url.raw_host.decode("ascii")
            url = url.copy_with(host=address)
        headers["content-type"] = "application/json"
        # A few packed bytes could be any number of others.
        headers["accept-encoding"] = "identity"
        async with client.stream("POST", url, content=body, headers=headers, extensions=extensions) as answer:
            said = bytearray()
            if "content-encoding" not in answer.headers:
                async for chunk in answer.aiter_bytes():
                    said += chunk
                    if len(said) >= _MOST_ANSWER_BYTES:
                        break
            return Posted(
                answer.status_code,
                None if answer.is_success else f"it answered {answer.status_code}",
                retry_in(answer.headers, self._clock.now()),
                bytes(said[:_MOST_ANSWER_BYTES]).decode("utf-8", "replace"),
            )


async def _public_address(url: httpx.URL) -> str | None:
    """Return an address of the host, None when one of them is not public.

    Raises:
        OSError: the name has none.
    """
    port = url.port or (443 if url.scheme == "https" else 80)
    found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    addresses = [str(each[4][0]) for each in found]
    return addresses[0] if addresses and all(map(is_public, addresses)) else None
