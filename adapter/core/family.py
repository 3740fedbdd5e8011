"""What one try of a handler waits for: children it makes or has made, and tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from adapter.core.awaiting import awaits_only
from adapter.core.planning import JobSpec, ScheduleOptions
from adapter.core.waits import Wait
from adapter.domain.errors import (
    JobCanceledError,
    JobFailedError,
    JobInterruptedError,
    JobNotFoundError,
    TokenTimedOutError,
)
from adapter.domain.identity import public_id
from adapter.domain.job import Job, JobStatus, WaitingFor
from adapter.domain.outcome import Lease
from adapter.domain.wait_token import WAITPOINT, TokenStatus
from adapter.store import families

if TYPE_CHECKING:
    from adapter.core.context import JobContext
    from adapter.core.families import Families
    from adapter.core.registry import Registry

#: Of several waits that end one after another, the first lets the job go on, and the row is not written for
#: each: only after so long it is looked whether the handler does nothing but wait again, then more seldom.
_AGAIN_S = 0.05
_SELDOM_S = 1.0


class Family:
    """What one try makes and waits for."""

    def __init__(self, worker: Families, lease: Lease, context: JobContext) -> None:
        self._families = worker
        self._job = context.job
        self._lease = lease
        self._context = context
        self._calls = 0
        self._turn = asyncio.Lock()
        self._waits: set[Wait] = set()
        self._suspended_at: float | None = None
        #: Nobody has taken back that the row is to wait.
        self._may_row_wait = False
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None
        self._again: asyncio.Task[None] | None = None

    def spec(self, task: str, data: Any, options: ScheduleOptions) -> JobSpec:
        """Return what `run` takes."""
        return JobSpec(task, data, options)

    async def run(self, specs: Sequence[JobSpec], key: str | None) -> list[Job]:
        """Make children and wait until they have ended; returns them, in order."""
        # Counted before anything is awaited: so calls have the order in which the handler made them.
        self._calls += 1
        call = f"{self._calls}" if key is None else f"key:{key}"
        make = self._families.make
        ids = await self._families.reach(
            lambda: make(self._job, self._lease, call, specs, keyed=key is not None)
        )
        return await self.wait(ids)

    async def wait(self, ids: Sequence[UUID]) -> list[Job]:
        """Wait until these jobs have ended; returns them, in order.

        Raises:
            JobNotFoundError: there is no such job (yet: its transaction may not be committed).
            JobInterruptedError: this try is to stop.
        """
        jobs = await self._families.reach(lambda: self._families.get(ids))
        _all_there(ids, jobs)
        left = [each for each in jobs if not jobs[each].status.is_terminal]
        if left:
            await self._wait(left, WaitingFor.CHILDREN)
            jobs |= await self._families.reach(lambda: self._families.get(left))
            _all_there(ids, jobs)
        return [jobs[each] for each in ids]

    async def wait_for_token(self, token_id: UUID) -> Any:
        """Wait until a token is completed; returns its output.

        Raises:
            TokenNotFoundError: there is none of that id.
            TokenTimedOutError: nobody completed it in time.
            JobInterruptedError: this try is to stop.
        """
        token = await self._families.reach(lambda: self._families.token(token_id))
        if token.status is TokenStatus.WAITING:
            await self._wait([token_id], WaitingFor.TOKEN)
            token = await self._families.reach(lambda: self._families.token(token_id))
        if token.status is TokenStatus.TIMED_OUT:
            raise TokenTimedOutError(public_id(WAITPOINT, token_id))
        return token.output

    def result(self, job: Job) -> Any:
        """Return what a child's handler returned.

        Raises:
            JobFailedError, JobCanceledError: it ended otherwise.
        """
        return result_of(job, self._families.registry)

    async def _wait(self, left: list[UUID], kind: WaitingFor) -> None:
        wait = Wait(left.copy(), kind)
        self._waits.add(wait)
        try:
            await self._suspend()
            self._families.add(wait)
            await wait.done
        finally:
            self._waits.discard(wait)
            self._families.remove(wait)
            if self._context.is_canceled or self._is_over:
                # The row stays as it is: with this try ends what holds it.
                self._go_on()
            else:
                await self._resume()

    def stop(self) -> None:
        """End every wait: the try is to stop."""
        self._is_over = True
        self._look_later(None)
        for wait in self._waits:
            if not wait.done.done():
                wait.done.set_exception(JobInterruptedError(self._job.id))

    async def _suspend(self) -> None:
        async with self._turn:
            if self._context.is_canceled or self._is_over or not await self._write():
                raise JobInterruptedError(self._job.id)
            self._enter()

    def _enter(self) -> None:
        self._look_later(None)
        if self._suspended_at is None:
            self._suspended_at = asyncio.get_running_loop().time()
            self._context.pause()
            self._families.enter(self._job.id)

    async def _write(self) -> bool:
        self._may_row_wait = True
        awaiting = list({each for wait in self._waits for each in wait.left})
        # Of a handler that waits for both, a token is what somebody has to be asked for.
        tokens = any(wait.kind is WaitingFor.TOKEN for wait in self._waits)
        kind = WaitingFor.TOKEN if tokens else WaitingFor.CHILDREN
        return await self._families.reach(lambda: self._write_once(awaiting, kind))

    async def _write_once(self, awaiting: list[UUID], kind: WaitingFor) -> bool:
        async with self._families.database.connection() as conn:
            schema = self._families.database.schema
            return await families.suspend(conn, schema, self._job, self._lease, awaiting, waiting_for=kind)

    async def _resume(self) -> None:
        async with self._turn:
            try:
                if self._may_row_wait:
                    await self._take_place()
                    self._may_row_wait = False
                elif self._context.is_canceled:
                    raise JobInterruptedError(self._job.id)
            finally:
                self._go_on()
        if self._waits:
            self._look_later(_AGAIN_S)

    async def _take_place(self) -> None:
        if not await self._families.reach(lambda: self._write_back(families.resume)):
            async with self._families.turns[self._job.queue]:
                while not await self._families.reach(lambda: self._write_back(families.resume_in)):
                    await self._families.next_news()

    async def _write_back(self, how: Callable[..., Awaitable[bool | None]]) -> bool:
        began = self._suspended_at
        waited = 0.0 if began is None else asyncio.get_running_loop().time() - began
        async with self._families.database.connection() as conn:
            schema = self._families.database.schema
            resumed = await how(conn, schema, self._job, self._lease, timedelta(seconds=waited))
        if resumed is None or self._context.is_canceled:
            raise JobInterruptedError(self._job.id)
        return resumed

    def _go_on(self) -> None:
        if self._suspended_at is not None:
            waited = asyncio.get_running_loop().time() - self._suspended_at
            self._suspended_at = None
            self._context.go_on(waited)
            self._families.leave(self._job.id)

    # ---- waiting again ---------------------------------------------------------------------------

    def _look_later(self, seconds: float | None) -> None:
        """Look after so many seconds whether the handler does nothing but wait again; None: not at all."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if seconds is not None and not self._is_over:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look_again, seconds)

    def _look_again(self, waited_s: float) -> None:
        if self._only_waits:
            work = self._suspend_again()
            self._again = asyncio.get_running_loop().create_task(work, name="adapter-waits-again")
        elif self._waits:
            self._look_later(min(waited_s * 2, _SELDOM_S))

    @property
    def _only_waits(self) -> bool:
        task = self._families.task_of(self._job.id)
        waiting = {wait.owner for wait in self._waits if wait.owner is not None and not wait.done.done()}
        return not self._is_over and bool(waiting) and task is not None and awaits_only(task, waiting)

    async def _suspend_again(self) -> None:
        async with self._turn:
            if self._suspended_at is None and self._only_waits and await self._write() and not self._is_over:
                self._enter()


def result_of(job: Job, registry: Registry) -> Any:
    """Return the result of a job that has ended, of the type its task declares.

    Raises:
        JobFailedError, JobCanceledError: it ended otherwise than by completing.
    """
    if job.status is JobStatus.COMPLETED:
        definition = registry.find(job.type)
        return job.result if definition is None else definition.load_result(job.result)
    kind = JobCanceledError if job.status is JobStatus.CANCELED else JobFailedError
    raise kind(job.id, job.status, job.error)


def _all_there(ids: Sequence[UUID], jobs: dict[UUID, Job]) -> None:
    for each in ids:
        if each not in jobs:
            raise JobNotFoundError(each)
