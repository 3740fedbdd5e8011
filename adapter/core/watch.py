"""Waiting for a job to end: one of those who watch it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

from adapter.core.watching.feed import Interest
from adapter.core.watching.hub import Hub
from adapter.domain.clock import Clock
from adapter.domain.errors import JobNotFoundError, NotOpenError, ResultTimeoutError
from adapter.domain.job import Job


class Watch:
    """Lets callers in this process wait for jobs."""

    def __init__(self, hub: Hub, clock: Clock) -> None:
        self._hub = hub
        self._clock = clock

    async def wait(self, job_id: UUID, timeout: timedelta | None) -> Job:
        """Return the job once it has ended.

        Raises:
            ResultTimeoutError: it was still open after ``timeout``; it goes on.
            JobNotFoundError: there is no such job.
            NotOpenError: the adapter is being closed.
        """
        deadline = None if timeout is None else self._clock.monotonic() + timeout.total_seconds()
        async with self._hub.watch(Interest(job_id=job_id)) as feed:
            while True:
                mark, jobs = await self._hub.read(feed, [job_id])
                job = jobs.get(job_id)
                if job is None:
                    raise JobNotFoundError(job_id)
                if job.status.is_terminal:
                    return job
                left = None if deadline is None else deadline - self._clock.monotonic()
                if timeout is not None and left is not None and left <= 0:
                    raise ResultTimeoutError(job_id, job.status.value, timeout)
                try:
                    async with asyncio.timeout(left):
                        await self._hub.until_moved(feed, mark)
                except TimeoutError:
                    continue
                if self._hub.is_closing:
                    raise NotOpenError
