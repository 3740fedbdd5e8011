"""A clock that moves only when a test, or a wait in the code under test, moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


class ManualClock:
    """A `Clock` by hand. A wait takes no time; ``waits`` keeps how long each would have been."""

    def __init__(self, start: datetime = START) -> None:
        self._start = self._now = start
        self.waits: list[float] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._start).total_seconds()

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
