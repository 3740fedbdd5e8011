"""What a handler is given beside its payload."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, NoReturn

from adapter.domain.errors import SnoozeJobError
from adapter.domain.job import LOCAL, Job

if TYPE_CHECKING:
    from datetime import timedelta

    from adapter.core.handle import JobHandle

    ScheduleChild = Callable[..., Awaitable[JobHandle[Any]]]


class JobLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose every line names the job, its task and its attempt."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Merge the job's fields into ``extra``; the caller's own win."""
        given: dict[str, Any] = kwargs.get("extra") or {}
        kwargs["extra"] = {**(self.extra or {}), **given}
        return msg, kwargs


class JobContext:
    """One try of one job, as its handler sees it. Valid until the handler returns."""

    def __init__(self, job: Job, schedule: ScheduleChild | None = None) -> None:
        #: The job as it was claimed; ``job.attempt`` is this try's number.
        self.job = job
        self._canceled = threading.Event()
        self._schedule = schedule

    @functools.cached_property
    def logger(self) -> JobLogger:
        """A logger whose lines name the job."""
        job = self.job
        fields = {"job_id": str(job.id), "type": job.type, "executor": LOCAL, "attempt": job.attempt}
        return JobLogger(logging.getLogger(f"adapter.task.{job.type}"), fields)

    @property
    def attempt(self) -> int:
        """The number of this try, from 1."""
        return self.job.attempt

    @property
    def is_canceled(self) -> bool:
        """Whether the job should stop: canceled, out of time, or its worker is stopping.

        Handlers that run in a thread must look; async ones are canceled at their next await.
        """
        return self._canceled.is_set()

    def cancel(self) -> None:
        """Tell the handler to stop. Called by the worker."""
        self._canceled.set()

    def snooze(self, delay: timedelta, reason: str = "") -> NoReturn:
        """Give the job back until ``delay`` is over; no attempt is spent. Nothing after it runs.

        Raises:
            SnoozeJobError: always; it is what gives the job back.
            InvalidArgumentError: ``delay`` is negative.
        """
        raise SnoozeJobError(reason, delay=delay)

    async def schedule_job(self, task: str, data: Any = None, **options: Any) -> JobHandle[Any]:
        """Schedule another job from inside this one; it keeps this one as its origin.

        The arguments are those of `Adapter.schedule_job`.
        """
        if self._schedule is None:
            msg = "This context has no adapter to schedule with."
            raise RuntimeError(msg)
        given: dict[str, Any] = options.pop("extra", None) or {}
        extra = {**given, "origin": str(self.job.id)}
        return await self._schedule(task, data, extra=extra, **options)
