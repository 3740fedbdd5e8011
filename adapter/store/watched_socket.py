"""A connection's socket, watched by the event loop from the first statement on.

To begin that and to end it for every statement costs more than a short statement does (bench/README.md).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable


class WatchedSocket:
    """Calls whoever expects something to read; close it with the connection.

    It has a descriptor of its own: psycopg's cursors watch the connection's, and libpq closes that one as soon as
    the connection is lost, after which no loop could let go of it.
    """

    def __init__(self, socket: int) -> None:
        self._socket: int | None = os.dup(socket)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._read: Callable[[], object] | None = None
        self._writes = False

    def expect(self, read: Callable[[], object]) -> None:
        """Call ``read()`` whenever there is something to read, until `ignore`."""
        loop = asyncio.get_running_loop()
        self._read = read
        if self._loop is not loop:
            self._rest()
            assert self._socket is not None
            loop.add_reader(self._socket, self._on_readable)
            self._loop = loop

    def push(self, write: Callable[[], bool]) -> None:
        """Call ``write()`` whenever there is room to write, until it returns False or `ignore`."""

        def on_writable() -> None:
            if not write():
                self._stop_writing()

        assert self._loop is not None
        assert self._socket is not None
        self._loop.add_writer(self._socket, on_writable)
        self._writes = True

    def ignore(self) -> None:
        """Call nobody any more."""
        self._read = None
        if self._writes:
            self._stop_writing()

    def close(self) -> None:
        """Let the loop forget it."""
        self._rest()
        self.__del__()

    def __del__(self) -> None:
        """Give the descriptor back. While a loop watches it, that loop keeps us."""
        socket, self._socket = self._socket, None
        if socket is not None:
            os.close(socket)

    def _on_readable(self) -> None:
        if self._read is None:
            # A cursor's reply, or the server's last word: left unread for whoever asks.
            self._rest()
        else:
            self._read()

    def _rest(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._socket is not None and not loop.is_closed():
            loop.remove_reader(self._socket)

    def _stop_writing(self) -> None:
        self._writes = False
        if self._loop is not None and self._socket is not None:
            self._loop.remove_writer(self._socket)
