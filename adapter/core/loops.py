"""Background loops of one process: started together, restarted when they fall, stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from adapter.core.bell import Bell
from adapter.domain.clock import Clock
from adapter.domain.errors import DatabaseUnavailableError

logger = logging.getLogger("adapter")

_LONGEST_PAUSE_S = 10.0
_SHORTEST_PAUSE_S = 0.1
_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Loop:
    """Something that runs until told to stop; ``stop`` None: it is canceled."""

    name: str
    run: Callable[[], Awaitable[None]]
    stop: Callable[[], None] | None = None


class Poller:
    """Works as long as there is work, then sleeps until it is woken, but never longer than a second.

    ``work`` returns how much it found to do. Errors of the database are waited out. ``patience`` says
    before each sleep how many seconds it may take.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[int]],
        clock: Clock,
        topic: str,
        patience: Callable[[], float] = lambda: _POLL_S,
    ) -> None:
        self._name = name
        self._patience = patience
        self._work = work
        self._clock = clock
        self._topics = {topic, "*"}
        self._wake = Bell()
        self._stopping = asyncio.Event()
        #: Whether `run` is at it in this process.
        self.is_running = False

    def heard(self, topics: set[str]) -> None:
        """Look again, if this is about our topic."""
        if topics & self._topics:
            self._wake.ring()

    def stop(self) -> None:
        """Finish what is in hand and return from `run`."""
        self._stopping.set()
        self._wake.ring()

    def resume(self) -> None:
        """Let `run` run again after a `stop`."""
        self._stopping.clear()

    async def run(self) -> None:
        """Work until `stop`."""
        self.is_running = True
        try:
            await self._run()
        finally:
            self.is_running = False

    async def _run(self) -> None:
        pause = _SHORTEST_PAUSE_S
        while not self._stopping.is_set():
            self._wake.still()
            try:
                found = await self._work()
                pause = _SHORTEST_PAUSE_S
            except DatabaseUnavailableError as error:
                logger.warning("%s has to wait: %s", self._name, error)
                await self._clock.sleep(pause)
                found, pause = 0, min(pause * 2, _LONGEST_PAUSE_S / 2)
            if not found and not self._stopping.is_set():
                await self._wake.heard(self._patience())


class Loops:
    """Runs loops as tasks. A fault in one is logged and that one starts again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: list[tuple[Loop, asyncio.Task[None]]] = []
        self._stopping = False

    def start(self, loop: Loop) -> None:
        """Start a loop."""
        task = asyncio.get_running_loop().create_task(self._keep(loop), name=f"adapter-{loop.name}")
        self._running.append((loop, task))

    async def _keep(self, loop: Loop) -> None:
        pause = 0.5
        while not self._stopping:
            try:
                await loop.run()
                return
            except Exception:
                logger.exception("the %s loop fell and starts again", loop.name)
            await self._clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    @property
    def names(self) -> list[str]:
        """The loops that are running."""
        return [loop.name for loop, task in self._running if not task.done()]

    async def stop(self) -> None:
        """Stop all: politely where a loop knows how, the listener and timers last."""
        self._stopping = True
        polite = [task for loop, task in self._running if loop.stop is not None]
        for loop, _ in self._running:
            if loop.stop is not None:
                loop.stop()
        if polite:
            await asyncio.wait(polite)
        for loop, task in self._running:
            if loop.stop is None:
                task.cancel()
        for _, task in self._running:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._running.clear()
