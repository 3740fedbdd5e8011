"""What wakes a loop that sleeps when it has nothing to do."""

from __future__ import annotations

import asyncio


class Bell:
    """Wakes one sleeper. An idle worker's next job waits for this, so it is less than an event with a timeout."""

    def __init__(self) -> None:
        #: Whether it was rung since it was stilled.
        self.is_rung = False
        self._sleeper: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake the sleeper, or whoever would sleep next."""
        self.is_rung = True
        if self._sleeper is not None:
            _wake(self._sleeper)

    def still(self) -> None:
        """Forget that it was rung."""
        self.is_rung = False

    async def heard(self, seconds: float) -> None:
        """Return as soon as it is rung, at once if it was and not stilled, and after so many seconds anyway."""
        if self.is_rung:
            return
        loop = asyncio.get_running_loop()
        sleeper = self._sleeper = loop.create_future()
        timer = loop.call_later(seconds, _wake, sleeper)
        try:
            await sleeper
        finally:
            timer.cancel()
            self._sleeper = None


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
