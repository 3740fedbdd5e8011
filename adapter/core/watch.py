"""Waiting for a job to end: woken by notifications, looked up once, polled each second all the same."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

from adapter.domain.clock import Clock
from adapter.domain.errors import JobNotFoundError, ResultTimeoutError
from adapter.domain.job import Job
from adapter.store import jobs
from adapter.store.database import Database
from adapter.store.wakeup import FINISHED

_POLL_S = 1.0
#: While this process cannot listen, it looks more often.
_POLL_DEAF_S = 0.2


class Watch:
    """Wakes everybody in this process who waits for some job."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._ended = asyncio.Event()
        self.can_hear = False

    def heard(self, topics: set[str]) -> None:
        """Some job has ended."""
        if topics & {FINISHED, "*"}:
            self._ended.set()
            self._ended = asyncio.Event()

    async def wait(self, job_id: UUID, timeout: timedelta | None) -> Job:
        """Return the job once it has ended.

        Raises:
            ResultTimeoutError: it was still open after ``timeout``; it goes on.
            JobNotFoundError: there is no such job.
        """
        deadline = None if timeout is None else self._clock.monotonic() + timeout.total_seconds()
        while True:
            ended = self._ended
            async with self._database.connection() as conn:
                job = await jobs.get(conn, self._database.schema, job_id)
            if job is None:
                raise JobNotFoundError(job_id)
            if job.status.is_terminal:
                return job
            left = None if deadline is None else deadline - self._clock.monotonic()
            if timeout is not None and left is not None and left <= 0:
                raise ResultTimeoutError(job_id, job.status.value, timeout)
            poll = _POLL_S if self.can_hear else _POLL_DEAF_S
            try:
                async with asyncio.timeout(poll if left is None else min(left, poll)):
                    await ended.wait()
            except TimeoutError:
                pass
