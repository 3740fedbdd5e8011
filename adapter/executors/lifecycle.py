"""Posting events of ours to one receiver, signed by Standard Webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from adapter.domain.errors import ConfigurationError
from adapter.domain.signing import sign_standard, signing_key
from adapter.executors.http import HttpClient, Transport, encode_json

if TYPE_CHECKING:
    from adapter.domain.clock import Clock


class EventPoster:
    """The receiver's URL and the secret shared with it.

    Raises:
        ConfigurationError: the URL is not http(s), or the secret cannot be used.
    """

    def __init__(self, url: str, secret: str, clock: Clock, transport: Transport | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError("The URL for lifecycle events is not an http or https URL.")
        signing_key(secret)
        self._secret = secret
        self._clock = clock
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._client = HttpClient(
            base_url=f"{parts.scheme}://{parts.netloc}", headers={}, clock=clock, transport=transport
        )

    async def open(self) -> None:
        """Make ready; no request is sent."""
        await self._client.open()

    async def close(self) -> None:
        """Release connections."""
        await self._client.close()

    async def post(self, message_id: str, event: dict[str, Any]) -> None:
        """Send one event, once. ``message_id`` stays the same over its retries.

        Raises:
            ExecutorError: it was not taken; `RejectedError` when asking again is of no use.
        """
        signature = sign_standard(self._secret, message_id, self._clock.now(), encode_json(event))
        await self._client.request(
            "POST", self._path, json=event, headers=signature, retry=False, needs_json=False
        )
