"""A countdown that stands still while a handler waits for its children."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Countdown:
    """Calls ``then()`` on the event loop once so many seconds have passed, pauses left out; None: never."""

    def __init__(self, seconds: float | None, then: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._then = then
        self._left_s = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._run()

    def pause(self) -> None:
        """Stand still."""
        if self._timer is not None:
            self._left_s = self._timer.when() - self._loop.time()
            self.cancel()

    def go_on(self) -> None:
        """Count down again."""
        self._run()

    def _run(self) -> None:
        if self._timer is None and self._left_s is not None:
            self._timer = self._loop.call_later(self._left_s, self._then)

    def cancel(self) -> None:
        """Call nobody."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
