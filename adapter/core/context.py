"""What a handler is given beside its payload."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, NoReturn

from adapter.core.progress import PROGRESS, JobMetadata, progress_value
from adapter.domain.errors import JobInterruptedError, SnoozeJobError
from adapter.domain.identity import run_id_of
from adapter.domain.job import LOCAL, Job

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from adapter.core.handle import JobHandle
    from adapter.store.job_metadata import MetadataPatch

    ScheduleChild = Callable[..., Awaitable[JobHandle[Any]]]


class JobLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose every line names the job, its task and its attempt."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Merge the job's fields into ``extra``; the caller's own win."""
        given: dict[str, Any] = kwargs.get("extra") or {}
        kwargs["extra"] = {**(self.extra or {}), **given}
        return msg, kwargs


class JobContext:
    """One try of one job, as its handler sees it. Valid until the handler returns.

    Everything but `canceled` and `schedule_job` is for handlers in threads as well.
    """

    def __init__(
        self,
        job: Job,
        schedule: ScheduleChild | None = None,
        make_metadata: Callable[[Job], JobMetadata] | None = None,
    ) -> None:
        #: The job as it was claimed; ``job.attempt`` is this try's number.
        self.job = job
        self._is_canceled = False
        self._canceled: asyncio.Event | None = None
        self._schedule = schedule
        self._make_metadata = make_metadata
        self._metadata: JobMetadata | None = None

    @functools.cached_property
    def logger(self) -> JobLogger:
        """A logger whose lines name the job, also by the id our HTTP API shows (``run_id``)."""
        job = self.job
        fields = {
            "job_id": str(job.id),
            "run_id": run_id_of(job.id),
            "type": job.type,
            "executor": LOCAL,
            "attempt": job.attempt,
        }
        return JobLogger(logging.getLogger(f"adapter.task.{job.type}"), fields)

    @property
    def attempt(self) -> int:
        """The number of this try, from 1."""
        return self.job.attempt

    @property
    def max_attempts(self) -> int:
        """How many tries there may be."""
        return self.job.max_attempts

    @property
    def deadline(self) -> datetime | None:
        """When ``max_duration`` is over for this try, by the database's clock."""
        duration = self.job.max_duration
        return None if duration is None else self.job.updated_at + duration

    # ---- progress --------------------------------------------------------------------------------

    @property
    def metadata(self) -> JobMetadata:
        """The job's ``metadata``, to read and to change; others see it within half a second."""
        if self._metadata is None:
            if self._make_metadata is None:
                msg = "This context has no worker to write metadata for it."
                raise RuntimeError(msg)
            self._metadata = self._make_metadata(self.job)
        return self._metadata

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Say how far the job is, from 0 to 1; kept as ``metadata["progress"]``.

        Raises:
            InvalidArgumentError: the fraction is not between 0 and 1.
        """
        self.metadata.set(PROGRESS, progress_value(fraction, message))

    def close(self) -> MetadataPatch | None:
        """Return the metadata to be written before the outcome. Called by the worker."""
        return None if self._metadata is None else self._metadata.close()

    # ---- being canceled --------------------------------------------------------------------------

    @property
    def is_canceled(self) -> bool:
        """Whether the job should stop: canceled, out of time, or its worker is stopping.

        Handlers that run in a thread must look; async ones are canceled at their next await.
        """
        return self._is_canceled

    def raise_if_canceled(self) -> None:
        """Do nothing while the job may go on.

        Raises:
            JobInterruptedError: it should stop. Let it out of the handler: the job ends as what it was
                stopped for, whatever the handler raises or returns.
        """
        if self._is_canceled:
            raise JobInterruptedError(self.job.id)

    async def canceled(self) -> None:
        """Wait until the job should stop; for what a handler has started beside itself."""
        if self._canceled is None:
            self._canceled = asyncio.Event()
        if not self._is_canceled:
            await self._canceled.wait()

    def cancel(self) -> None:
        """Tell the handler to stop. Called by the worker, on its event loop."""
        self._is_canceled = True
        if self._canceled is not None:
            self._canceled.set()

    # ---- what a handler may do with its job ------------------------------------------------------

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
