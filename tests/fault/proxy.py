"""A network between two programs that can be broken on purpose."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Self

Mode = Literal["pass", "latency", "blackhole", "refuse", "reset"]
_CHUNK = 65536


@dataclass(slots=True)
class Cut:
    """Once: after a request for which ``when`` is true, only so many bytes of the reply come through."""

    when: Callable[[bytes], bool]
    after_bytes: int = 0


class ChaosProxy:
    """Forwards to a port. ``mode`` holds for what is forwarded from now on, `cut` for one request."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._ending = asyncio.Event()
        self.mode: Mode = "pass"
        self.latency_s = 0.05
        self.cut: Cut | None = None
        #: How many cuts were made.
        self.cuts = 0
        #: How many connections were reset, cuts included.
        self.resets = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        self._ending.set()
        await asyncio.gather(*self._links)

    async def listen(self) -> None:
        """Take connections, on the same port as before."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            self._links.discard(task)
            return
        link = _Link(self, writer, back)
        ways = [
            asyncio.create_task(way)
            for way in (link.requests(reader), link.replies(there), self._ending.wait())
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        await link.close()
        self._links.discard(task)


class _Link:
    """One connection."""

    def __init__(self, proxy: ChaosProxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._left: int | None = None

    async def requests(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_CHUNK):
            if not await self._passes():
                return
            cut = self._proxy.cut
            if cut is not None and cut.when(data):
                self._proxy.cut, self._left = None, cut.after_bytes
            self._server.write(data)
            await self._server.drain()

    async def replies(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_CHUNK):
            if self._left is not None:
                # The server has done it; what it says is lost.
                self._client.write(data[: self._left])
                self._proxy.cuts += 1
                self._reset()
                return
            if not await self._passes():
                return
            self._client.write(data)
            with suppress(ConnectionError):
                await self._client.drain()

    async def _passes(self) -> bool:
        match self._proxy.mode:
            case "pass":
                return True
            case "latency":
                await asyncio.sleep(self._proxy.latency_s)
                return True
            case "blackhole":
                await asyncio.Event().wait()
                return False
            case "refuse" | "reset":
                self._reset()
                return False

    def _reset(self) -> None:
        """End the connection as a crash would: no farewell, a RST."""
        self._proxy.resets += 1
        sock: socket.socket | None = self._client.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._client.transport.abort()

    async def close(self) -> None:
        for end in (self._client, self._server):
            end.transport.abort()
            with suppress(OSError):
                await end.wait_closed()
