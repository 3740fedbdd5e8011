"""How long a handler may go on that was told to stop. One that swallows its cancellation is left behind."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from adapter.core.context import JobContext
from adapter.core.countdown import Countdown
from adapter.core.left_behind import leave_behind
from adapter.domain.job import Job
from adapter.domain.outcome import Returned, Stopped, TimedOut, TryOutcome
from adapter.store.claims import Claimed

logger = logging.getLogger("adapter.worker")

#: A thread is left behind after the grace; the task that waits for it must not be first.
_MORE_S = 0.5


class Interruptible(Protocol):
    """A try as far as this module is concerned."""

    @property
    def job(self) -> Job | Claimed:
        """What it is a try of."""
        ...

    @property
    def context(self) -> JobContext | None:
        """What its handler sees, if it is given any."""
        ...

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What runs it."""
        ...

    @property
    def end(self) -> TryOutcome | None:
        """What it came to, while hooks of its end run."""
        ...

    def stop(self, outcome: Stopped | Returned) -> None:
        """Tell it to end."""
        ...


T = TypeVar("T", bound=Interruptible)


class Patience(Generic[T]):
    """Waits ``grace`` for what was told to stop, then calls ``abandon(try, outcome)``."""

    def __init__(
        self, grace: timedelta, counts: Counter[str], abandon: Callable[[T, TryOutcome], bool]
    ) -> None:
        self._grace = grace.total_seconds() + _MORE_S
        self._counts = counts
        self._abandon = abandon

    def stop(self, current: T, outcome: Stopped | Returned) -> None:
        """Tell a try to end, and leave it behind if it does not."""
        current.stop(outcome)
        asyncio.get_running_loop().call_later(self._grace, self._leave, current, outcome)

    def limit(self, current: T, duration: timedelta) -> Countdown:
        """Leave a try behind that goes on when its ``max_duration`` is over, unless that is canceled."""
        message = f"It ran longer than its max_duration of {duration.total_seconds():g} s, and did not stop."
        outcome = TimedOut({"name": "TimedOut", "message": message})
        return Countdown(duration.total_seconds(), functools.partial(self._expire, current, outcome))

    def _expire(self, current: T, outcome: TimedOut) -> None:
        # The task is canceled by its own timeout; one that swallows that can still look.
        if current.context is not None:
            current.context.cancel()
        asyncio.get_running_loop().call_later(self._grace, self._leave, current, outcome)

    async def wait(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        """Wait until tries that were told to stop have ended or are left behind."""
        await asyncio.wait(tasks, timeout=self._grace + _MORE_S)

    def _leave(self, current: T, outcome: TryOutcome) -> None:
        if isinstance(outcome, TimedOut) and current.end is not None:
            # Its handler has ended; hooks have a limit of their own.
            return
        if not self._abandon(current, current.end or outcome):
            return
        self._counts["abandoned"] += 1
        logger.error(
            "a handler does not end although it was told to: left behind",
            extra={"job_id": str(current.job.id), "type": current.job.type},
        )
        if current.task is not None:
            leave_behind(current.task)
