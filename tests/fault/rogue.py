"""A remote on a real port that does what it is asked to, and answers triggers as a test wants."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import httpx

from tests.fakes.trigger_dev import FakeTriggerDev


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes over the wire in place of the true reply.

    ``done``: the remote has done what it was asked to all the same. ``drips``: one byte at a time, without an end.
    """

    content: bytes
    done: bool = False
    drips: bool = False


def http(
    status: int,
    body: bytes = b'{"error":"injected"}',
    *,
    done: bool = False,
    length: int | None = None,
    **headers: str,
) -> Answer:
    """Write a reply; ``length`` is what it says of itself, its own by default."""
    named = {
        "content-type": "application/json",
        "content-length": str(len(body) if length is None else length),
    }
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return Answer(f"HTTP/1.1 {status} Injected\r\n{head}connection: close\r\n\r\n".encode() + body, done)


class Rogue:
    """``answer`` is given to every trigger while it is set."""

    def __init__(self, fake: FakeTriggerDev) -> None:
        self.fake = fake
        self.answer: Answer | None = None
        self.port = 0
        self._ended = asyncio.Event()
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._ended.set()
        await asyncio.gather(*self._links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await _read(reader, self.port)
            if request is not None:
                await self._reply(request, writer)
        writer.transport.abort()
        self._links.discard(task)

    async def _reply(self, request: httpx.Request, writer: asyncio.StreamWriter) -> None:
        answer = self.answer if request.url.path.endswith("/trigger") else None
        true = self.fake.handle(request) if answer is None or answer.done else None
        if answer is None:
            assert true is not None
            answer = http(true.status_code, true.content)
        if not answer.drips:
            writer.write(answer.content)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            return
        for byte in answer.content:
            writer.write(bytes([byte]))
            await writer.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), 0.05)


async def _read(reader: asyncio.StreamReader, port: int) -> httpx.Request | None:
    """Return the request, or None for something that is no HTTP."""
    first = await reader.read(1)
    if not first.isalpha():
        return None
    head = first + await reader.readuntil(b"\r\n\r\n")
    line, *rest = head.decode().split("\r\n")
    method, target, _ = line.split(" ")
    headers = httpx.Headers(
        [(name, value) for name, _, value in (each.partition(": ") for each in rest) if name]
    )
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    return httpx.Request(method, f"http://127.0.0.1:{port}{target}", headers=headers, content=content)
