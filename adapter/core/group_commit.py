"""Single jobs that calls of one process want in at the same time: in one statement, with one commit.

A commit waits for the disk, and each costs both sides about as much as ten rows. So what comes in while one
statement is under way gathers and goes with the next; a call that comes alone goes at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from adapter.core.planning import Planned
from adapter.core.scheduling import Scheduler, workers_of
from adapter.domain.errors import StoreError
from adapter.store.database import TOO_LARGE, Database
from adapter.store.direct import Direct
from adapter.store.inserting import MOST_ROWS
from adapter.store.parameters import Given
from adapter.store.rows import Written
from adapter.store.steps import run_direct
from adapter.store.wakeup import Notifier

#: How many bytes of payload one statement carries, unless a single job has more.
_MOST_BYTES = 1_000_000


@dataclass(slots=True)
class _Wanted:
    """A call that waits for its job."""

    planned: Planned
    written: asyncio.Future[Written | None]


class GroupCommit:
    """Inserts jobs that have no name for others to hold and no time of their own.

    A call returns after the commit that its row is in, and an error is of those calls alone whose rows it
    comes from.
    """

    def __init__(self, database: Database, scheduler: Scheduler, notifier: Notifier) -> None:
        self._database = database
        self._scheduler = scheduler
        self._notifier = notifier
        self._waiting: deque[_Wanted] = deque()
        self._is_writing = False
        self._writer: asyncio.Task[None] | None = None

    async def insert(self, planned: Planned, *, tells: bool) -> Written | None:
        """Insert a job; None, and nothing is written, when that takes more than one plain statement.

        ``tells``: the workers, whom nobody else has to tell then.

        Raises:
            DatabaseUnavailableError: it is not known whether the job is in.
        """
        if not self._scheduler.is_plain(planned):
            return None
        if self._is_writing:
            wanted = _Wanted(planned, asyncio.get_running_loop().create_future())
            self._waiting.append(wanted)
            written = await wanted.written
            if tells and written is not None:
                self._notifier.poke(*workers_of(planned))
            return written
        # Nobody else is there: without a task, and without anybody whom a cancellation would harm.
        self._is_writing = True
        try:
            return await self._insert_alone(planned, tells=tells)
        finally:
            self._go_on()

    async def _insert_alone(self, planned: Planned, *, tells: bool) -> Written | None:
        telling: Given | None = None

        def behind() -> Given | None:
            nonlocal telling
            telling = self._notifier.take_turn(conn, workers_of(planned)) if tells else None
            return telling

        async with self._database.connection() as conn:
            written = await self._written(conn, [planned], behind)
        if not written:
            return None
        if telling is not None:
            self._notifier.tell_here(workers_of(planned))
        elif tells:
            self._notifier.poke(*workers_of(planned))
        return written[0]

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._writer is not None and not self._writer.done():
            await asyncio.wait([self._writer])

    def _go_on(self) -> None:
        self._is_writing = bool(self._waiting)
        if self._waiting:
            loop = asyncio.get_running_loop()
            self._writer = loop.create_task(self._write(), name="adapter-group-commit")

    async def _write(self) -> None:
        group: list[_Wanted] = []
        try:
            async with self._database.connection() as conn:
                while group := self._next():
                    await self._insert(conn, group)
        except BaseException as error:
            # With the connection is lost what was under way; with none to be had, nobody can be served.
            if not group:
                group = [*self._waiting]
                self._waiting.clear()
            _fail(group, error)
            if not isinstance(error, StoreError):
                raise
        finally:
            self._go_on()

    async def _written(
        self, conn: Direct, planned: list[Planned], behind: Callable[[], Given | None] = lambda: None
    ) -> list[Written]:
        if self._scheduler.fresh_flags is None:
            await run_direct(conn, self._database.schema, self._scheduler.read_flags())
        steps = self._scheduler.at_once(planned)
        return await run_direct(conn, self._database.schema, steps, behind=behind)

    def _next(self) -> list[_Wanted]:
        """Take what waits, as far as one statement should carry it, without those who have given up."""
        group: list[_Wanted] = []
        size = 0
        while self._waiting and len(group) < MOST_ROWS:
            size += len(self._waiting[0].planned.job.payload)
            if group and size > _MOST_BYTES:
                break
            wanted = self._waiting.popleft()
            if not wanted.written.done():
                group.append(wanted)
        return group

    async def _insert(self, conn: Direct, group: list[_Wanted]) -> None:
        """Insert a group; when it is refused, one by one: a bad row must not cost the others theirs."""
        try:
            written = await self._written(conn, [each.planned for each in group])
        except psycopg.Error as error:
            lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
            if lost and not isinstance(error, TOO_LARGE):
                raise
            if len(group) == 1:
                _fail(group, error)
                return
            for each in group:
                await self._insert(conn, [each])
            return
        for number, each in enumerate(group):
            if not each.written.done():
                each.written.set_result(written[number] if written else None)


def _fail(group: list[_Wanted], error: BaseException) -> None:
    for each in group:
        if each.written.done():
            continue
        if isinstance(error, Exception):
            each.written.set_exception(error)
        else:
            each.written.cancel()
