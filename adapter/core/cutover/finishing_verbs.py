"""The verbs by which people leave an executor for good, and make sure that they still could go back."""

from __future__ import annotations

from datetime import timedelta

from adapter.core.cutover.draining import QUIET, Drains, DrainStatus
from adapter.core.cutover.steering import Steering
from adapter.core.cutover.way_back import WayBack, WaysBack
from adapter.domain.job import LOCAL


class FinishesCutovers:
    """Mixed into the adapter: what an executor still holds, and the way back."""

    drains: Drains
    steering: Steering
    ways_back: WaysBack

    async def drain_status(
        self, executor: str | None = None, *, task: str | None = None, quiet: timedelta = QUIET
    ) -> DrainStatus:
        """Return what executors still hold, per task: jobs, uncertain submits, runs, schedules, and their own count.

        An executor is drained when nothing is left, it got no new job for ``quiet``, and it says the same itself.
        Canaries do not count.

        Raises:
            UnknownExecutorError: it is not configured.
        """
        return await self.drains.status(executor, task=task, quiet=quiet)

    async def wait_drained(
        self, executor: str, *, task: str | None = None, timeout: timedelta, quiet: timedelta = QUIET
    ) -> DrainStatus:
        """Return once an executor is drained, or how it stands when ``timeout`` is over; ``drained`` says which.

        Raises:
            UnknownExecutorError: it is not configured.
        """
        return await self.drains.wait(executor, task=task, timeout=timeout, quiet=quiet)

    async def can_go_back(self, task: str | None = None, *, to: str = LOCAL) -> list[WayBack]:
        """Return whether an executor could take the jobs of a task, or of every enabled one, as things are now.

        Local: a living worker has a handler, it takes the payload this application sends, and the queue's limits
        bear what comes in. A remote: the registry has the task's name there, and its circuit is closed.

        Raises:
            UnknownTaskError, UnknownExecutorError: there is no such thing.
        """
        return await self.ways_back.check(task, to, await self.steering.current())
