"""Bare HTTP clients that follow jobs, a thousand in one process: they keep nothing but when something came."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from adapter.domain.identity import job_id_of

_PATIENCE_S = 60.0
_AT_ONCE = 100


class Subscriber:
    """One connection to the server. ``came`` is the monotonic time of each state it was told."""

    def __init__(self, port: int, key: str, run_id: str) -> None:
        self.run_id, self.job_id = run_id, job_id_of(run_id)
        self.came: list[float] = []
        self._port, self._key = port, key
        self._told = asyncio.Event()

    async def until(self, count: int) -> None:
        """Wait until so many states have come."""
        async with asyncio.timeout(_PATIENCE_S):
            while len(self.came) < count:
                self._told.clear()
                await self._told.wait()

    async def follow(self) -> None:
        """Follow until canceled or the job has ended."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await self._follow(reader, writer)
        finally:
            writer.close()

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str
    ) -> dict[str, str]:
        writer.write(
            f"GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {self._key}\r\n\r\n".encode()
        )
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        if " 200 " not in head[0]:
            raise ConnectionError(head[0])
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}

    def _note(self) -> None:
        self.came.append(time.monotonic())
        self._told.set()


class Stream(Subscriber):
    """Server-sent events."""

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._ask(reader, writer, f"/api/jobs/{self.run_id}/stream")
        while line := await reader.readline():
            if line.startswith(b"data: "):
                self._note()


class Feed(Subscriber):
    """The realtime protocol: a snapshot, then one held request after another."""

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = f"/realtime/v1/runs/{self.run_id}"
        given = await self._ask(reader, writer, f"{path}?offset=-1")
        while True:
            body = await reader.readexactly(int(given["content-length"]))
            if b'"value"' in body:
                self._note()
            where = f"handle={given['electric-handle']}&offset={given['electric-offset']}"
            given = await self._ask(reader, writer, f"{path}?live=true&{where}")


@asynccontextmanager
async def following(
    kind: type[Subscriber], port: int, key: str, run_ids: Sequence[str]
) -> AsyncGenerator[list[Subscriber]]:
    """Subscribers, each of which has been told the first state."""
    subscribers = [kind(port, key, run_id) for run_id in run_ids]
    tasks: list[asyncio.Task[None]] = []
    try:
        for first in range(0, len(subscribers), _AT_ONCE):
            some = subscribers[first : first + _AT_ONCE]
            tasks += [asyncio.create_task(each.follow()) for each in some]
            await asyncio.gather(*(each.until(1) for each in some))
        yield subscribers
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
            await asyncio.gather(*tasks)
