"""Stopping: the first signal asks, the second insists."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

logger = logging.getLogger("adapter.cli")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LAST_WAIT_S = 1.0


class Stop:
    """Listens for SIGTERM and SIGINT on the running event loop.

    ``owned``: another process of ours started this one. It also stops when its standard input closes, as that
    does however the owner ends, and only a word of the owner there (`NOW`) insists: who signals a whole
    process group reaches it twice, once directly and once through the owner.
    """

    #: What the owner writes to a child that is to end at once.
    NOW = b"!"

    def __init__(self, *, owned: bool = False) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()
        self._on_asked: list[Callable[[], object]] = []
        self._on_insisted: list[Callable[[], object]] = []
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signaled)
        self._owned = owned
        if owned:
            # Ctrl+C, and the end of a terminal, reach everybody in its group; they are the owner's to hear.
            loop.remove_signal_handler(signal.SIGINT)
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            loop.add_reader(sys.stdin.fileno(), self._owner_spoke)

    def calls(self, asked: Callable[[], object], insisted: Callable[[], object] | None = None) -> None:
        """Call these at the first and at the second signal; at once for a signal that was before."""
        self._on_asked.append(asked)
        if self.asked.is_set():
            asked()
        if insisted is not None:
            self._on_insisted.append(insisted)
            if self.insisted.is_set():
                insisted()

    async def wait(self) -> None:
        """Return when it is time to stop."""
        await self.asked.wait()

    def ask(self) -> None:
        """Do as the first signal does."""
        if not self.asked.is_set():
            logger.info("stopping")
            self.asked.set()
            for call in self._on_asked:
                call()

    def _signaled(self) -> None:
        if not self.asked.is_set():
            self.ask()
        elif not self._owned:
            self.insist()

    def insist(self) -> None:
        """Do as the second signal does."""
        self.ask()
        if not self.insisted.is_set():
            logger.warning("stopping at once")
            self.insisted.set()
            for call in self._on_insisted:
                call()

    def _owner_spoke(self) -> None:
        if os.read(sys.stdin.fileno(), 4096):
            self.insist()
        else:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self.ask()


def leave_behind_threads() -> None:
    """End the process now if a handler that cannot be stopped would keep it alive."""
    handlers = [each for each in threading.enumerate() if each.name.startswith("adapter-job")]
    for each in handlers:
        each.join(_LAST_WAIT_S / len(handlers))
    if any(each.is_alive() for each in handlers):
        logger.error("a handler does not end: the process leaves without it")
        sys.stdout.flush()
        os._exit(1)
