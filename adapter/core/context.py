"""What a handler is given beside its payload."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, Unpack, overload
from uuid import UUID

from adapter.core.progress import PROGRESS, JobMetadata, progress_value
from adapter.domain.errors import JobInterruptedError, SnoozeJobError
from adapter.domain.identity import run_id_of
from adapter.domain.job import LOCAL, Job
from adapter.domain.wait_token import token_id_of

if TYPE_CHECKING:
    from adapter.core.countdown import Countdown
    from adapter.core.families import Family
    from adapter.core.handle import JobHandle
    from adapter.core.isolation.asking import FamilyThere
    from adapter.core.planning import JobSpec, ScheduleOptions
    from adapter.core.tasks import Task
    from adapter.domain.wait_token import WaitToken
    from adapter.store.job_metadata import MetadataPatch
    from adapter.store.steps import AsyncCaller

    Notify = Literal["after_commit", "in_tx", "no"]
    ScheduleChild = Callable[..., Awaitable[JobHandle[Any]]]

P = TypeVar("P")
R = TypeVar("R")


class JobLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose every line names the job, its task and its attempt."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Merge the job's fields into ``extra``; the caller's own win."""
        given: dict[str, Any] = kwargs.get("extra") or {}
        kwargs["extra"] = {**(self.extra or {}), **given}
        return msg, kwargs


class JobContext:
    """One try of one job, as its handler sees it. Valid until the handler returns.

    Handlers in threads call what is async here with ``adapter.sync.call(ctx.…)``.
    """

    def __init__(
        self,
        job: Job,
        schedule: ScheduleChild | None = None,
        make_metadata: Callable[[Job], JobMetadata] | None = None,
        make_family: Callable[[JobContext], Family | FamilyThere] | None = None,
    ) -> None:
        #: The job as it was claimed; ``job.attempt`` is this try's number.
        self.job = job
        self._is_canceled = False
        self._canceled: asyncio.Event | None = None
        self._schedule = schedule
        self._make_metadata = make_metadata
        self._metadata: JobMetadata | None = None
        self._make_family = make_family
        self._family: Family | FamilyThere | None = None
        #: What ends the try when ``max_duration`` is over. Set by the worker.
        self.limit: asyncio.Timeout | None = None
        self.countdown: Countdown | None = None
        self._left_s: float | None = None
        self._waited_s = 0.0

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
        """When ``max_duration`` is over for this try, by the database's clock; waits for children do not count."""
        duration = self.job.max_duration
        waited = timedelta(seconds=self._waited_s)
        return None if duration is None else self.job.updated_at + duration + waited

    @property
    def time_limit(self) -> timedelta | None:
        """How long the handler may run before this process ends it."""
        return self.job.max_duration

    @property
    def waited_s(self) -> float:
        """How long the try has waited so far, in seconds."""
        return self._waited_s

    @property
    def tick(self) -> datetime | None:
        """The time by the clock at which its schedule fired, in UTC; None for a job of no schedule."""
        tick = self.job.extra.get("tick")
        return None if tick is None else datetime.fromisoformat(tick)

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
        self.end_waits()
        if self.countdown is not None:
            self.countdown.cancel()
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
        self.end_waits()

    def end_waits(self) -> None:
        """End every wait: the try is to stop, or has ended. Called by the worker."""
        if self._family is not None:
            self._family.stop()

    # ---- what a handler may do with its job ------------------------------------------------------

    def snooze(self, delay: timedelta, reason: str = "") -> NoReturn:
        """Give the job back until ``delay`` is over; no attempt is spent. Nothing after it runs.

        Raises:
            SnoozeJobError: always; it is what gives the job back.
            InvalidArgumentError: ``delay`` is negative.
        """
        raise SnoozeJobError(reason, delay=delay)

    @overload
    async def schedule_job(
        self,
        task: str,
        data: Any = None,
        *,
        within: AsyncCaller | None = None,
        notify: Notify = "after_commit",
        **options: Unpack[ScheduleOptions],
    ) -> JobHandle[Any]: ...
    @overload
    async def schedule_job(
        self,
        task: Task[P, R],
        data: P,
        *,
        within: AsyncCaller | None = None,
        notify: Notify = "after_commit",
        **options: Unpack[ScheduleOptions],
    ) -> JobHandle[R]: ...
    async def schedule_job(
        self,
        task: Task[Any, Any] | str,
        data: Any = None,
        *,
        within: AsyncCaller | None = None,
        notify: Notify = "after_commit",
        **options: Unpack[ScheduleOptions],
    ) -> JobHandle[Any]:
        """Schedule a child of this job; it keeps this one as its parent, and is canceled with it.

        The arguments are those of `Adapter.schedule_job`, and ``detached=True``: a cancel of this job does
        not go down to it. A try that runs again schedules again: give an ``idempotency_key``, or wait.
        """
        if self._schedule is None:
            msg = "This context has no adapter to schedule with."
            raise RuntimeError(msg)
        return await self._schedule(self.job, _name(task), data, within=within, notify=notify, **options)

    # ---- waiting --------------------------------------------------------------------

    @overload
    async def trigger_and_wait(
        self, task: str, data: Any = None, *, key: str | None = None, **options: Unpack[ScheduleOptions]
    ) -> Any: ...
    @overload
    async def trigger_and_wait(
        self, task: Task[P, R], data: P, *, key: str | None = None, **options: Unpack[ScheduleOptions]
    ) -> R: ...
    async def trigger_and_wait(
        self,
        task: Task[Any, Any] | str,
        data: Any = None,
        *,
        key: str | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> Any:
        """Schedule a child, wait until it has ended, and return what its handler returned.

        While it waits this job is WAITING and takes no place of its worker or queue. A try that runs again
        finds the child that this call has made, by the call's number in the handler or its ``key``.
        Of several waits at once the first that ends lets the job run, until its handler awaits nothing but
        waits again (by `asyncio.gather`, `asyncio.wait`, a TaskGroup, or one by one).

        Raises:
            JobFailedError, JobCanceledError: it ended otherwise.
            ReplayMismatchError: this try calls in another order than the one before.
        """
        return (await self.batch_trigger_and_wait([self.family.spec(_name(task), data, options)], key=key))[0]

    async def batch_trigger_and_wait(self, specs: Iterable[JobSpec], *, key: str | None = None) -> list[Any]:
        """Schedule what `Task.job` describes, wait until all have ended, and return their results in order.

        Raises:
            JobFailedError, JobCanceledError: one ended otherwise; all have ended. `settle` does not raise.
        """
        return [self.family.result(job) for job in await self.settle(specs, key=key)]

    async def settle(self, specs: Iterable[JobSpec], *, key: str | None = None) -> list[Job]:
        """Do what `batch_trigger_and_wait` does, and return the jobs as they ended, however that was."""
        return await self.family.run(list(specs), key)

    async def wait_for_children(self, handles: Iterable[JobHandle[Any] | Job | UUID]) -> list[Job]:
        """Wait until jobs that were scheduled before have ended; returns them in order, however they ended."""
        return await self.family.wait([each if isinstance(each, UUID) else each.id for each in handles])

    async def wait_for_token(self, token: WaitToken | UUID | str) -> Any:
        """Wait until somebody completes a wait token, and return what they completed it with.

        ``token``: what `Adapter.create_token` made, its id, or ``waitpoint_…``. While it waits this job is WAITING
        and takes no place of its worker or queue. A try that runs again finds the token as it is then: make it
        with an ``idempotency_key``, or outside of the handler, so that every try waits for the same one.

        Raises:
            TokenNotFoundError: there is none of that id.
            TokenTimedOutError: nobody completed it in time; every other try finds it so, too.
        """
        return await self.family.wait_for_token(token_id_of(token))

    @property
    def family(self) -> Family | FamilyThere:
        """What this try has made and waits for."""
        if self._family is None:
            if self._make_family is None:
                msg = "This context has no worker to wait in."
                raise RuntimeError(msg)
            self._family = self._make_family(self)
        return self._family

    def pause(self) -> None:
        """Stop the clock of ``max_duration``. Called by the family when a wait begins."""
        if self.countdown is not None:
            self.countdown.pause()
        if self.limit is None or self.limit.expired():
            return
        if (when := self.limit.when()) is not None:
            self._left_s = when - asyncio.get_running_loop().time()
            self.limit.reschedule(None)

    def go_on(self, waited_s: float) -> None:
        """Let the clock of ``max_duration`` go on."""
        self._waited_s += waited_s
        if self.countdown is not None:
            self.countdown.go_on()
        if self._left_s is not None and self.limit is not None:
            self.limit.reschedule(asyncio.get_running_loop().time() + self._left_s)
            self._left_s = None


def _name(task: Task[Any, Any] | str) -> str:
    return task if isinstance(task, str) else task.id
