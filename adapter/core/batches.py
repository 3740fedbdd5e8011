"""The verbs by which jobs are asked for together: a batch is opened, its items come, and once all are there it is sealed.

Nothing of a batch runs before it is sealed, and all of its jobs are made in the transaction that seals it.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.alike import are_alike
from adapter.core.outcomes import Observers
from adapter.core.planning import JobSpec, Planned, Planner, ScheduleOptions
from adapter.core.scheduling import Scheduler, topics_of
from adapter.domain.batch import MOST_ITEMS, Added, Batch, BatchStatus, ItemFailure
from adapter.domain.errors import (
    AdapterError,
    BatchAbortedError,
    BatchNotFoundError,
    FlagConflictError,
    InvalidArgumentError,
    StoreError,
)
from adapter.domain.job import Job
from adapter.store import batches as store
from adapter.store.database import Connection, Database
from adapter.store.jobs import by_ids
from adapter.store.packets import PacketStore
from adapter.store.steps import run
from adapter.store.wakeup import FINISHED, Notifier

_KEY_TTL = timedelta(days=30)
#: How many held items are read at once, and how long the payloads of one insert may be together.
_PAGE = 100
_MOST_CHARACTERS = 8 * 1024 * 1024

#: Returns (content type, body) of what was stored at a path, None when nothing was.
FindPacket: TypeAlias = Callable[[str], Awaitable[tuple[str, bytes] | None]]
#: Makes of an item, its place and text, what is to be scheduled, or says why that cannot be.
ReadItem: TypeAlias = Callable[[int, str, FindPacket], Awaitable[JobSpec | ItemFailure]]


class KeepsBatches:
    """Mixed into the adapter."""

    database: Database
    notifier: Notifier
    observers: Observers
    planner: Planner
    scheduler: Scheduler
    packets: PacketStore

    async def schedule_batch(
        self, specs: Sequence[JobSpec], *, key: str | None = None, key_ttl: timedelta = _KEY_TTL
    ) -> Batch:
        """Schedule what `Task.job` describes as one batch; a job that cannot be made is told in its ``errors``.

        ``key``: a second call returns the first one's batch, for ``key_ttl``.

        Raises:
            InvalidArgumentError: no specs, or more than `MOST_ITEMS`.
        """
        batch = await self.open_batch(len(specs), key=key, key_ttl=key_ttl)
        if batch.deduplicated:
            return batch

        async def read(place: int, _text: str, _find: FindPacket) -> JobSpec:
            return specs[place]

        return (await self.add_items(batch.id, dict.fromkeys(range(len(specs)), ""), read)).batch

    async def open_batch(
        self,
        run_count: int,
        *,
        key: str | None = None,
        key_ttl: timedelta = _KEY_TTL,
        request_key: str | None = None,
        parent_id: UUID | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Batch:
        """Open a batch of so many jobs, to be completed with `add_items` within an hour.

        ``key``: a second call returns the first one's batch. While that is not complete, it is as good as new: whoever
        repeats the call completes it. ``request_key``: the same for the repetition of one request, for 24 hours.

        Raises:
            InvalidArgumentError: the number cannot be.
        """
        if not 0 < run_count <= MOST_ITEMS:
            msg = f"A batch has 1 to {MOST_ITEMS} items, not {run_count}."
            raise InvalidArgumentError(msg)
        values: dict[str, Any] = {
            "id": UUID(str(uuid7())),
            "run_count": run_count,
            "key": key,
            "key_ttl": None if key is None else key_ttl,
            "request_key": request_key,
            "parent_id": parent_id,
            "detail": dict(detail or {}),
        }
        for _ in range(20):
            async with self.database.transaction() as conn:
                found = await store.put(conn, self.database.schema, values)
            if found is not None:
                return found
        msg = "The batch's key changed hands again and again. Nothing is lost: open it again."
        raise FlagConflictError(msg)

    async def add_items(
        self, batch_id: UUID, items: Mapping[int, str], read: ReadItem, *, strict: bool = False
    ) -> Added:
        """Add items, by place; seal the batch when none is missing any more. An item that is there stays as it is.

        ``read`` is asked at the sealing, of all items. ``strict``: an item that cannot be scheduled raises, and
        nothing is written.

        Raises:
            BatchNotFoundError, BatchAbortedError: there is nothing to add to.
            InvalidArgumentError: the batch has no such place.
        """
        schema = self.database.schema
        async with self.database.transaction() as conn:
            batch = await store.lock(conn, schema, batch_id)
            if batch is None:
                raise BatchNotFoundError(batch_id)
            if batch.sealed_at is not None:
                return Added(batch, 0, len(items), batch.run_count)
            if batch.status is BatchStatus.ABORTED:
                raise BatchAbortedError(batch_id)
            if strange := [place for place in items if not 0 <= place < batch.run_count]:
                msg = f"The batch has {batch.run_count} items: there is no place {strange[0]}."
                raise InvalidArgumentError(msg)
            before = await store.places(conn, schema, batch_id)
            new = {place: text for place, text in items.items() if place not in before}
            there = len(before) + len(new)
            if there < batch.run_count:
                if new:
                    await store.hold(conn, schema, batch_id, new)
                return Added(batch, len(new), len(items) - len(new), there)
            sealing = _Sealing(self, conn, batch, strict=strict)
            async for place, text in sealing.items(new, held=bool(before)):
                await sealing.add(place, text, read)
            batch = await sealing.end(had_held=bool(before))
        if sealing.failed:
            self.observers.finished(sealing.failed)
        self.notifier.poke(*sealing.topics)
        return Added(batch, len(new), len(items) - len(new), there)

    async def get_batch(self, batch_id: UUID) -> Batch | None:
        """Return a batch; None when there is none or its time to be kept (30 days) is over."""
        async with self.database.connection() as conn:
            return await store.get(conn, self.database.schema, batch_id)

    async def batch_jobs(self, batch_id: UUID) -> list[Job]:
        """Return the jobs of a batch that are still kept, in the order of their items.

        Raises:
            BatchNotFoundError: there is no such batch.
        """
        schema = self.database.schema
        async with self.database.connection() as conn:
            batch = await store.get(conn, schema, batch_id)
            if batch is None:
                raise BatchNotFoundError(batch_id)
            found = await run(conn, schema, by_ids(batch.job_ids))
        return [found[each] for each in batch.job_ids if each in found]


class _Sealing:
    """The transaction in which the items of a batch become jobs, a bounded part at a time."""

    def __init__(self, adapter: KeepsBatches, conn: Connection, batch: Batch, *, strict: bool) -> None:
        self._adapter = adapter
        self._conn = conn
        self._schema = adapter.database.schema
        self._batch = batch
        self._strict = strict
        self._find = functools.partial(adapter.packets.get, conn=conn)
        self._ids: list[UUID | None] = [None] * batch.run_count
        self._errors: list[dict[str, Any]] = []
        self._pending: dict[int, Planned] = {}
        self._size = 0
        self._before: tuple[JobSpec, Planned] | None = None
        #: What is to be told once this is committed.
        self.topics = set[str]()
        self.failed: list[Job] = []

    async def items(self, new: Mapping[int, str], *, held: bool) -> AsyncIterator[tuple[int, str]]:
        after = -1
        while held and (page := await store.held(self._conn, self._schema, self._batch.id, after, _PAGE)):
            for item in page.items():
                yield item
            after = max(page)
        for place in sorted(new):
            yield place, new[place]

    async def add(self, place: int, text: str, read: ReadItem) -> None:
        said = await read(place, text, self._find)
        if isinstance(said, JobSpec):
            try:
                self._plan(place, said)
            except StoreError:
                raise
            except AdapterError as error:
                if self._strict:
                    raise
                self._note(place, ItemFailure(said.task, str(error), error.code))
        elif said.too_large:
            await self._fail(place, said.task)
        else:
            self._note(place, said)
        if self._size > _MOST_CHARACTERS:
            await self._insert()

    async def end(self, *, had_held: bool) -> Batch:
        await self._insert()
        errors = sorted(self._errors, key=lambda each: each["index"])
        return await store.seal(
            self._conn, self._schema, self._batch.id, self._ids, errors, had_held=had_held
        )

    def _plan(self, place: int, spec: JobSpec) -> None:
        spec = replace(spec, options={**spec.options, "batch_id": self._batch.id})
        before, planner = self._before, self._adapter.planner
        alike = before is not None and are_alike(before[0], spec)
        planned = planner.plan_like(spec, before[1]) if before and alike else planner.plan(spec)
        self._before = spec, planned
        self._pending[place] = planned
        self._size += len(planned.job.payload)

    def _note(self, place: int, failure: ItemFailure) -> None:
        error = {"index": place, "taskIdentifier": failure.task, "error": failure.message}
        self._errors.append(error | ({"errorCode": failure.code} if failure.code else {}))

    async def _insert(self) -> None:
        planned, scheduler = list(self._pending.values()), self._adapter.scheduler
        if not planned:
            return
        jobs = await run(self._conn, self._schema, scheduler.schedule(planned))
        for place, job in zip(self._pending, jobs, strict=True):
            self._ids[place] = job.id
        self.topics |= topics_of(planned, jobs)
        self._pending, self._size = {}, 0

    async def _fail(self, place: int, task: str) -> None:
        """Make a job that has failed, so that whoever waits for this item hears of it."""
        options = ScheduleOptions(batch_id=self._batch.id)
        planned = self._adapter.planner.plan_unchecked(JobSpec(task, None, options, undeclared=True))
        (job,) = await run(self._conn, self._schema, self._adapter.scheduler.schedule([planned]))
        self._ids[place] = job.id
        self.failed += await store.fail(self._conn, self._schema, [job.id])
        self.topics.add(FINISHED)
