"""A client and its connections, which belong to the process that made them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx


class OwnClient:
    """Holds what ``make`` returns. A forked child makes its own: it must not share the connections of its parent."""

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._owner = 0
        #: The client; None before it was made, and after it was closed.
        self.client: httpx.AsyncClient | None = None

    def made(self) -> httpx.AsyncClient:
        """Return the client, which is made unless this process has one; no request is sent."""
        if self.client is None or self._owner != os.getpid():
            self._owner = os.getpid()
            self.client = self._make()
        return self.client

    async def close(self) -> None:
        """Close the connections."""
        client, self.client = self.client, None
        if client is not None:
            await client.aclose()
