"""`JobsKit`: an application's adapter in a test's hands."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Unpack, cast
from uuid import UUID
from weakref import WeakKeyDictionary

from pydantic import SecretStr
from pydantic_core import to_jsonable_python

from adapter.app import Adapter
from adapter.core.outcomes import Observers
from adapter.core.planning import ScheduleOptions
from adapter.core.tasks import Task
from adapter.domain.errors import InvalidArgumentError
from adapter.domain.job import LOCAL, Job, JobStatus
from adapter.executors.base import Executor, ExecutorSet
from adapter.store.insights import JobFilter
from adapter.testing.database import JobDatabase
from adapter.testing.remote import MemoryExecutor

#: Rounds of `run_pending` after which something schedules itself again and again.
_MOST_ROUNDS = 1000
_PAGE = 100
#: The queue of `run_job`, so that the worker takes nothing else.
_OWN_QUEUE = "adapter.testing"
#: Stands for "whatever it is" where None is a value.
ANYTHING: Any = object()

#: What has started, per adapter: observers are added once and never taken away.
_started: WeakKeyDictionary[Observers, list[UUID]] = WeakKeyDictionary()


class JobsKit:
    """What a test does with an open adapter: run what is ready, move time, look what was scheduled.

    Nothing runs by itself: no worker, no dispatcher, no timer. Made by `opened`.
    """

    def __init__(self, adapter: Adapter, database: JobDatabase) -> None:
        self.adapter = adapter
        self.database = database
        self._ran = _watched(adapter.observers)

    # ---- running ---------------------------------------------------------------------------------

    async def run_pending(self, *, retries_now: bool = False) -> list[Job]:
        """Run everything that is ready now, and what that schedules, until nothing is.

        Due jobs become ready, late ones expire, remote jobs are submitted and what their remotes say is
        applied. ``retries_now``: retries do not wait for their delay; else `advance` past it.
        Returns the jobs that ran here, each as it now is, in the order of their first start.

        Raises:
            AssertionError: there was no end of it.
        """
        self._ran.clear()
        for _ in range(_MOST_ROUNDS):
            if retries_now:
                await self._hurry()
            await self.adapter.maintenance.run_once()
            worked = await self.adapter.worker().run_until_idle()
            if not worked + await self._ask_remotes():
                return await self._jobs(list(dict.fromkeys(self._ran)))
        msg = f"jobs still run after {_MOST_ROUNDS} rounds: does one schedule itself, or retry for ever?"
        raise AssertionError(msg)

    async def _ask_remotes(self) -> int:
        if not self.adapter.executors.names:
            return 0
        sent = await self.adapter.dispatcher.run_once()
        await self.adapter.reconcile()
        return sent

    async def _hurry(self) -> None:
        await self.adapter.database.fetch(
            "UPDATE {s}.worker_jobs_open SET due = now() WHERE status = 'DELAYED' AND attempt > 0"
            " AND executor = 'local'"
        )

    async def fire_ticks(self) -> list[Job]:
        """Fire every tick of a schedule that is due, and return the jobs of these ticks; they do not run yet.

        A schedule's next tick comes nearer with `advance`, as everything that is stored.
        """
        before = set(await self._ticked())
        await self.adapter.firing.run_once()
        return await self._jobs([each for each in await self._ticked() if each not in before])

    async def _ticked(self) -> list[UUID]:
        rows = await self.adapter.database.fetch(
            "SELECT job_id FROM {s}.schedule_ticks ORDER BY fire_time, job_id"
        )
        return [row["job_id"] for row in rows]

    async def run_job(
        self, task: Task[Any, Any] | str, payload: Any = None, **options: Unpack[ScheduleOptions]
    ) -> Job:
        """Run one try of a task here and now, through validation and all that surrounds a handler.

        Returns the job as that try left it: ``result`` when COMPLETED, ``error`` when FAILED, or DELAYED
        before its next try. It is gone afterwards: no other call sees it. What it scheduled stays.

        Raises:
            UnknownTaskError, InvalidPayloadError, InvalidArgumentError: it cannot be run.
        """
        name = _id_of(task)
        definition = self.adapter.registry.get(name)
        if definition.handler is None:
            msg = f"Task {name!r} has no handler here that could be run."
            raise InvalidArgumentError(msg)
        given: ScheduleOptions = {**options, "queue": _OWN_QUEUE, "executor": LOCAL}
        handle = await self.adapter.schedule_job(name, payload, notify="no", **given)
        try:
            await self.adapter.worker(queues=(_OWN_QUEUE,)).run_until_idle()
            return await handle.refresh()
        finally:
            self.database.forget(handle.id)

    def advance(self, by: timedelta | None = None, **units: float) -> None:
        """Let time pass for jobs: ``advance(hours=1)``. All that is stored becomes older by so much.

        ``now`` stays what it is, so times read from rows move into the past.
        """
        self.database.advance(timedelta(**units) if by is None else by)

    # ---- looking ---------------------------------------------------------------------------------

    async def scheduled_jobs(self, task: Task[Any, Any] | str | None = None) -> list[Job]:
        """Return every job there is, open or finished, here or elsewhere, oldest first."""
        types = () if task is None else (_id_of(task),)
        found: list[Job] = []
        after: str | None = None
        while True:
            page = await self.adapter.list_jobs(JobFilter(types=types, limit=_PAGE, after=after))
            found += page.jobs
            after = page.next
            if after is None or not page.jobs:
                return found[::-1]

    async def assert_scheduled(
        self,
        task: Task[Any, Any] | str,
        payload: Any = ANYTHING,
        *,
        count: int | None = None,
        **fields: Any,
    ) -> list[Job]:
        """Return the jobs of a task that match; fail when there is none, or not exactly ``count``.

        ``payload``: of a mapping the keys given have to match, at any depth; anything else has to be equal.
        ``fields``: those of `Job`, as ``tag="dataset-1"``, ``executor="trigger"``, ``priority=5``.

        Raises:
            AssertionError: with what there is instead.
        """
        jobs = await self.scheduled_jobs(task)
        matching = [job for job in jobs if _matches(job, payload, fields)]
        if (count is None and matching) or len(matching) == count:
            return matching
        wanted = "at least one" if count is None else str(count)
        others = "\n".join(f"  {_described(job)}" for job in jobs) or "  none"
        msg = f"expected {wanted} matching of {_id_of(task)!r}, found {len(matching)}; all of that task:\n{others}"
        raise AssertionError(msg)

    async def assert_not_scheduled(
        self, task: Task[Any, Any] | str, payload: Any = ANYTHING, **fields: Any
    ) -> None:
        """Fail when a job of a task matches; as `assert_scheduled` matches."""
        await self.assert_scheduled(task, payload, count=0, **fields)

    async def _jobs(self, ids: Sequence[UUID]) -> list[Job]:
        found = [await self.adapter.get_job(each) for each in ids]
        return [each for each in found if each is not None]


@asynccontextmanager
async def opened(
    adapter: Adapter, database: JobDatabase, *, executors: Sequence[Executor] | None = None
) -> AsyncGenerator[JobsKit]:
    """Open an application's adapter on an empty test database; afterwards it is as it was.

    ``executors`` take the place of the adapter's own. Without them its own stay, without their network:
    every remote a task names is one in memory.
    """
    database.clean()
    settings, own = adapter.settings, adapter.executors
    adapter.settings = settings.model_copy(
        update={
            "database_url": SecretStr(database.url),
            "database_schema": database.schema,
            "dispatch_wait_seconds": 0.0,
            "worker_grace_seconds": 0.0,
        }
    )
    adapter.executors = ExecutorSet({each.name: each for each in executors or _in_memory(adapter)})
    try:
        async with adapter:
            yield JobsKit(adapter, database)
    finally:
        adapter.settings, adapter.executors = settings, own
        database.clean()


def _in_memory(adapter: Adapter) -> list[Executor]:
    named = {name for each in adapter.registry for name in each.policy.remote_ids}
    return [MemoryExecutor(name) for name in sorted(named)]


def _watched(observers: Observers) -> list[UUID]:
    if observers not in _started:
        ids: list[UUID] = []
        observers.on_started(lambda job: ids.append(job.id))
        _started[observers] = ids
    return _started[observers]


def _id_of(task: Task[Any, Any] | str) -> str:
    return task if isinstance(task, str) else task.id


def _matches(job: Job, payload: Any, fields: Mapping[str, Any]) -> bool:
    if payload is not ANYTHING and not _fits(to_jsonable_python(payload), job.data):
        return False
    return all(getattr(job, name) == value for name, value in fields.items())


def _fits(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, dict) and isinstance(found, dict):
        given, there = cast("dict[Any, Any]", wanted), cast("dict[Any, Any]", found)
        return all(key in there and _fits(value, there[key]) for key, value in given.items())
    return bool(wanted == found)


def _described(job: Job) -> str:
    tag = f" tag={job.tag}" if job.tag else ""
    due = f" due={job.due:%Y-%m-%d %H:%M:%S}" if job.status is JobStatus.DELAYED and job.due else ""
    return f"{job.status}{tag}{due} at {job.executor}: {job.data!r}"
