"""Handlers that wait for other jobs and for tokens: the row waits too, and the worker's slot is somebody else's meanwhile.

The coroutine stays in the worker's memory under its lease. What it needs to be done again elsewhere is in
the database: which children each call has made, by ids that follow from the parent's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from adapter.core.family import Family
from adapter.core.parts import Parts
from adapter.core.planning import JobSpec, Planned
from adapter.core.scheduling import Scheduler, topics_of
from adapter.core.waits import Wait
from adapter.domain.errors import (
    DatabaseUnavailableError,
    JobInterruptedError,
    ReplayMismatchError,
    TokenNotFoundError,
)
from adapter.domain.identity import child_id, public_id
from adapter.domain.job import Job, JobStatus
from adapter.domain.outcome import Lease, Returned, Stopped
from adapter.domain.wait_token import WAITPOINT, WaitToken
from adapter.store import families, wait_tokens
from adapter.store.jobs import by_ids
from adapter.store.steps import run
from adapter.store.wakeup import CANCEL, FINISHED

if TYPE_CHECKING:
    from adapter.core.context import JobContext

T = TypeVar("T")

_POLL_S = 1.0
#: How often a parent looks for a place in its queue, and how seldom jobs are looked at after one another.
_PLACE_S = 0.2
_QUIET_S = 0.005


class Families:
    """The tries of one worker that wait for other jobs.

    ``tries`` are all the worker has in hand; ``stop(try, outcome)`` is called for those that are to end,
    ``on_change()`` when one has begun or ceased to wait.
    """

    def __init__(
        self,
        parts: Parts,
        scheduler: Scheduler,
        tries: Mapping[str, Any],
        stop: Callable[[Any, Stopped | Returned], object],
        on_change: Callable[[], object],
    ) -> None:
        self.database = parts.database
        self.clock = parts.clock
        self.registry = parts.registry
        #: The jobs of this worker that wait; they take no slot.
        self.suspended: set[UUID] = set()
        #: One parent of a queue at a time tries to get a place there.
        self.turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._scheduler = scheduler
        self._notifier = parts.notifier
        self._tries = tries
        self._stop = stop
        self._on_change = on_change
        self._is_letting_go = False
        self._moved = asyncio.Event()
        self._told: set[UUID] = set()
        self._waits: set[Wait] = set()
        self._looker: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        parts.notifier.subscribe(self.heard)

    def of(self, lease: Lease, context: JobContext) -> Family:
        """Return the family of a try."""
        return Family(self, lease, context)

    def heard(self, topics: set[str]) -> None:
        """Look again: some job has ended, or somebody wants one canceled."""
        if (self.suspended or self._waits) and topics & {FINISHED, CANCEL, "*"}:
            self._news.set()

    def add(self, wait: Wait) -> None:
        """Look for the end of these jobs from now on."""
        self._waits.add(wait)
        self._news.set()
        if self._looker is None or self._looker.done():
            self._looker = asyncio.get_running_loop().create_task(self._look_on(), name="adapter-families")

    def remove(self, wait: Wait) -> None:
        """Look for them no more."""
        self._waits.discard(wait)

    def enter(self, job_id: UUID) -> None:
        """Take note that a try waits."""
        self.suspended.add(job_id)
        self._changed()

    def leave(self, job_id: UUID) -> None:
        """Take note that it goes on, or ends."""
        self.suspended.discard(job_id)
        self._told.discard(job_id)
        self._changed()

    def _changed(self) -> None:
        self._notifier.changed()
        self._moved.set()
        self._on_change()
        if self._is_letting_go:
            self.let_go()

    def let_go(self) -> None:
        """Give back who waits, now and from now on: whoever is there when their children are done will go on."""
        self._is_letting_go = True
        for job_id in list(self.suspended):
            self.end(job_id, Returned("the worker was stopped"))

    def end(self, job_id: UUID, outcome: Stopped | Returned) -> None:
        """Let a try end that waits; told once."""
        current = self._tries.get(str(job_id))
        if current is not None and job_id not in self._told:
            self._told.add(job_id)
            self._stop(current, outcome)

    def task_of(self, job_id: UUID) -> asyncio.Task[Any] | None:
        """Return the task that runs the handler of a try in hand."""
        current = self._tries.get(str(job_id))
        return None if current is None else current.task

    def begin(self) -> None:
        """Let tries wait: the worker works."""
        self._is_letting_go = False

    def ended(self) -> None:
        """Take note that a try has ended."""
        if len(self._tries) <= len(self.suspended):
            self._moved.set()

    async def settled(self) -> None:
        """Wait until every try has ended or waits."""
        while len(self._tries) > len(self.suspended):
            await self.moves()

    async def moves(self, seconds: float | None = None) -> None:
        """Wait until the last try has ended, or one has begun or ceased to wait."""
        self._moved.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._moved.wait()

    async def stirs(self, seconds: float) -> bool:
        """Whether a try that is in hand goes on, begins to wait or ends within that time."""
        if not self._tries:
            return False
        await self.moves(seconds)
        return self._moved.is_set()

    async def _look_on(self) -> None:
        while self.suspended or self._waits:
            self._news.clear()
            # Waited out: the jobs end whether we see it or not.
            with contextlib.suppress(DatabaseUnavailableError):
                while await self._look():
                    pass
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._news.wait()
            await self.clock.sleep(_QUIET_S)

    async def _look(self) -> bool:
        looks = [(wait, wait.next()) for wait in self._waits]
        children = [each for _, looked_at in looks for each in looked_at]
        async with self.database.connection() as conn:
            is_open, canceled = await families.look(
                conn, self.database.schema, children, list(self.suspended)
            )
        again = [wait.saw(looked_at, is_open) for wait, looked_at in looks if wait in self._waits]
        for job_id in canceled:
            self.end(job_id, Stopped("canceled"))
        return any(again)

    async def make(
        self, parent: Job, lease: Lease, call: str, specs: Sequence[JobSpec], *, keyed: bool
    ) -> list[UUID]:
        """Make the children of a call, or find those that an earlier try has made; their ids, in order.

        Raises:
            JobInterruptedError: the parent is not ours any more, or canceled.
            ReplayMismatchError: the call that made them made other ones.
        """
        planned = [self._scheduler.plan(_awaited(spec, parent)) for spec in specs]
        schema = self.database.schema
        async with self.database.transaction() as conn:
            held = await families.hold(conn, schema, parent, lease)
            if held is None:
                raise JobInterruptedError(parent.id)
            scope = call if keyed else f"{call}/{held.snoozes}"
            ids = [
                [child_id(parent.id, f"{scope}/{place}/{each}") for each in range(held.retries + 1)]
                for place in range(len(planned))
            ]
            known = await run(conn, schema, by_ids([each for candidates in ids for each in candidates]))
            found = [_found(candidates, known) for candidates in ids]
            for job, plan in zip(found, planned, strict=True):
                if job is not None and job.type != plan.job.terms.type:
                    raise ReplayMismatchError(parent.id, call, job.type, plan.job.terms.type)
            missing = [
                _named(plan, candidates[-1])
                for plan, candidates, job in zip(planned, ids, found, strict=True)
                if job is None
            ]
            made = await run(conn, schema, self._scheduler.schedule(missing)) if missing else []
        self._notifier.poke(*topics_of(missing, made))
        fresh = iter(made)
        return [(job or next(fresh)).id for job in found]

    async def token(self, token_id: UUID) -> WaitToken:
        """Return a token.

        Raises:
            TokenNotFoundError: there is none of that id.
        """
        async with self.database.connection() as conn:
            found = await wait_tokens.settled(conn, self.database.schema, token_id)
        if found is None:
            raise TokenNotFoundError(public_id(WAITPOINT, token_id))
        return found

    async def get(self, ids: Sequence[UUID]) -> dict[UUID, Job]:
        """Return jobs by id."""
        async with self.database.connection() as conn:
            return await run(conn, self.database.schema, by_ids(list(dict.fromkeys(ids))))

    async def next_news(self) -> None:
        """Wait until something has changed, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PLACE_S):
                await self._news.wait()

    async def reach(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what can be done twice until the database has done it."""
        wait = 0.05
        while True:
            try:
                return await work()
            except DatabaseUnavailableError:
                await self.clock.sleep(wait)
                wait = min(wait * 2, 1.0)


def _awaited(spec: JobSpec, parent: Job) -> JobSpec:
    """Return the spec of a child that its parent waits for."""
    options = spec.options.copy()
    options["extra"] = {**(options.get("extra") or {}), "resumes_parent": True}
    return replace(spec, parent=parent, options=options)


def _found(candidates: Sequence[UUID], known: dict[UUID, Job]) -> Job | None:
    """Return the child to go on with: one that is done, one still at it, or what this very try has made.

    What ended otherwise before the parent was retried is made anew.
    """
    jobs = [known[each] for each in candidates if each in known]
    for job in jobs:
        if job.status is JobStatus.COMPLETED:
            return job
    for job in jobs:
        if not job.status.is_terminal:
            return job
    return known.get(candidates[-1])


def _named(plan: Planned, job_id: UUID) -> Planned:
    return replace(plan, job=replace(plan.job, id=job_id))
