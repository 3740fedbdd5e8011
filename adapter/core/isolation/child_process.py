"""One child process, as its worker sees it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Self

from adapter.core.isolation.address import Address
from adapter.core.isolation.wire import Message, encode, read
from adapter.domain.errors import ProcessDiedError

_STDERR = 2
#: What a dead child has written may still be on its way.
_LAST_WORDS_S = 0.5


class ChildProcess:
    """Runs one try at a time, until it dies or is closed. Its group is its own: what it starts dies with it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self._ended = asyncio.get_running_loop().create_task(process.wait(), name="adapter-child")
        #: How many tries it has run, and its memory in bytes: when it was ready and now (0: not known).
        self.tries = 0
        self.first_rss = self.rss = 0

    @classmethod
    async def start(cls) -> Self:
        """Start a child; it gets ready on its own. Starting takes this thread some milliseconds."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "adapter.core.isolation.child",
                str(theirs.fileno()),
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                # Ours is for data.
                stdout=_STDERR,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        child = cls(process, reader, writer)
        level = logging.getLogger("adapter.task").getEffectiveLevel()
        writer.write(encode({"path": [each or os.getcwd() for each in sys.path], "level": level}))  # noqa: PTH109 - as the interpreter means it
        return child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not self._ended.done()

    async def run(self, address: Address, request: Message, on_message: Callable[[Message], None]) -> Message:
        """Let it run a try and return what it answers; ``on_message`` gets what it says meanwhile.

        Raises:
            ProcessDiedError: it ended first, or said what cannot be understood.
        """
        self.tries += 1
        reading = asyncio.get_running_loop().create_task(self._answer(on_message))
        try:
            self._writer.write(encode({"run": request, "address": asdict(address)}))
            await asyncio.wait({reading, self._ended}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                await asyncio.wait({reading}, timeout=_LAST_WORDS_S)
            if reading.done() and reading.exception() is None:
                return reading.result()
            if self.is_alive:
                # It has closed its end, or talks nonsense: there is no use in it.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(self._ended), _LAST_WORDS_S)
        finally:
            reading.cancel()
        return await self._died()

    async def _died(self) -> Message:
        told = self.is_alive
        await self.kill()
        code = self._process.returncode or 0
        if told:
            raise ProcessDiedError("Its process said what cannot be understood, and was killed.")
        if code < 0:
            with contextlib.suppress(ValueError):
                raise ProcessDiedError(f"Its process was killed by {signal.Signals(-code).name}.")
            raise ProcessDiedError(f"Its process was killed by signal {-code}.")
        raise ProcessDiedError(f"Its process ended with exit code {code}.")

    async def _answer(self, on_message: Callable[[Message], None]) -> Message:
        while True:
            message = await read(self._reader)
            if "ready" in message:
                self.first_rss = int(message["ready"])
            elif "outcome" in message:
                self.rss = int(message["rss"])
                return message
            else:
                on_message(message)

    def send(self, message: Mapping[str, Any]) -> None:
        """Say something to the handler; nobody hears it when the child is gone."""
        with contextlib.suppress(OSError):
            self._writer.write(encode(message))

    async def kill(self) -> None:
        """End it and all it has started, now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._gone()

    async def close(self, patience_s: float) -> None:
        """Let it end by itself, kill it when it does not. It runs nothing."""
        self._writer.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._ended), patience_s)
        await self.kill()

    async def _gone(self) -> None:
        await self._ended
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
