"""A load balancer as everybody runs one: in turn, and the next one when one refuses."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

_CHUNK = 65536


class Balancer:
    """Forwards connections to ``ports``, which may change at any time."""

    def __init__(self, *ports: int) -> None:
        self.ports = list(ports)
        self.port = 0
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            await self._forward(reader, writer)
        finally:
            writer.transport.abort()
            self._links.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._turn += 1
        ports = list(self.ports)
        for step in range(len(ports)):
            try:
                there, back = await asyncio.open_connection(
                    "127.0.0.1", ports[(self._turn + step) % len(ports)]
                )
            except OSError:
                continue
            try:
                await asyncio.gather(_copy(reader, back), _copy(there, writer))
            finally:
                back.transport.abort()
            return


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        writer.write_eof()
