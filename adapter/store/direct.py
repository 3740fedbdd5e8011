"""Statements straight through libpq: what runs for every job pays for no cursor.

psycopg's cursors plan, adapt and prepare for every case there is; for one row that takes the client longer
than PostgreSQL takes to write it (bench/README.md). Here parameters travel as text and every statement is
prepared with its first use.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, PGnotify, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import DictRow

from adapter.store.parameters import Given, Value, ready
from adapter.store.replies import Reply, ReplyAhead
from adapter.store.watched_socket import WatchedSocket

#: A session keeps this many statements; they are few, unless callers vary what they say about their jobs.
_MOST_PREPARED = 100
_GOOD = {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}


class Direct(AsyncConnection[DictRow]):
    """A connection that can also run a statement directly; one at a time, and not while a cursor runs one."""

    _names: dict[LiteralString, bytes] | None = None
    _named = 0
    _watched: WatchedSocket | None = None
    #: Whom to tell once what was sent behind the last statement has ended; None: nothing was.
    _settling: list[Callable[[], object]] | None = None

    @property
    def is_settling(self) -> bool:
        """Whether what was sent behind the last statement has not come to its end yet."""
        return self._settling is not None

    def when_settled(self, then: Callable[[], object]) -> None:
        """Call ``then()`` once a connection that `is_settling` is as good as before, or lost."""
        assert self._settling is not None
        self._settling.append(then)

    async def run(
        self,
        statement: LiteralString,
        parameters: Mapping[str, Value],
        meanwhile: Callable[[], object] | None = None,
    ) -> PGresult:
        """Run a statement with named parameters, in a transaction of its own unless one is open.

        ``meanwhile`` is called once all is sent. Canceled, the connection is in the middle of it and of no more use.

        Raises:
            psycopg.Error: as from a cursor.
        """
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            # In a transaction a name that is lost would cost all that was done in it.
            return await self._run(statement, parameters, meanwhile, prepared=False)
        try:
            return await self.run_once(statement, parameters, meanwhile)
        except psycopg.errors.InvalidSqlStatementName:
            # After a rollback psycopg deallocates everything, and what it did not prepare as well. Nothing was run.
            return await self.run_once(statement, parameters)

    async def run_once(
        self,
        statement: LiteralString,
        parameters: Mapping[str, Value],
        meanwhile: Callable[[], object] | None = None,
    ) -> PGresult:
        """Do what `run` does, prepared also in a transaction, which the caller can begin again.

        Raises:
            psycopg.errors.InvalidSqlStatementName: the session has forgotten the statement; it will not the next time.
        """
        try:
            return await self._run(statement, parameters, meanwhile, prepared=True)
        except psycopg.errors.InvalidSqlStatementName:
            self._names = None
            raise

    async def _run(
        self,
        statement: LiteralString,
        parameters: Mapping[str, Value],
        meanwhile: Callable[[], object] | None,
        *,
        prepared: bool,
    ) -> PGresult:
        text, values, formats = ready(statement, parameters)
        if prepared and self.prepare_threshold is not None:
            self.pgconn.send_query_prepared(await self._name(statement, text), values, formats)
        else:
            self.pgconn.send_query_params(text, values, None, formats)
        return await self._result(meanwhile)

    async def run_before(
        self, statement: LiteralString, parameters: Mapping[str, Value], behind: Given
    ) -> PGresult:
        """Run a statement in a transaction of its own, and right behind it another one that nobody waits for.

        Only where no transaction is open and statements are prepared. Until that one has ended too, the connection
        `is_settling` and runs nothing else.

        Raises:
            psycopg.Error: as from `run`.
        """
        try:
            return await self._run_before(statement, parameters, behind)
        except psycopg.errors.InvalidSqlStatementName:
            self._names = None
            if self.is_settling:
                settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self.when_settled(functools.partial(settled.set_result, None))
                await settled
            return await self._run_before(statement, parameters, behind)

    async def _run_before(
        self, statement: LiteralString, parameters: Mapping[str, Value], behind: Given
    ) -> PGresult:
        both: list[tuple[bytes, list[bytes | None], list[int]]] = []
        pair: tuple[Given, Given] = (statement, parameters), behind
        for each, given in pair:
            text, values, formats = ready(each, given)
            both.append((await self._name(each, text), values, formats))
        self.pgconn.enter_pipeline_mode()
        for name, values, formats in both:
            self.pgconn.send_query_prepared(name, values, formats)
            self.pgconn.pipeline_sync()
        self._settling = []
        return await self._read(ReplyAhead(self.pgconn, self._on_settled))

    async def rows(self, statement: LiteralString, parameters: Mapping[str, Value]) -> list[tuple[Any, ...]]:
        """Do what `run` does and return the rows."""
        return self._loaded(await self.run(statement, parameters))

    async def mappings(
        self, statement: LiteralString, parameters: Mapping[str, Value], *, behind: Given | None = None
    ) -> list[DictRow]:
        """Do what `run` does and return the rows by the names of their columns."""
        if behind is None:
            return self.mapped(await self.run(statement, parameters))
        return self.mapped(await self.run_before(statement, parameters, behind))

    def mapped(self, result: PGresult) -> list[DictRow]:
        """Return the rows of a result by the names of their columns."""
        names = [(result.fname(number) or b"").decode() for number in range(result.nfields)]
        return [dict(zip(names, row, strict=True)) for row in self._loaded(result)]

    def _loaded(self, result: PGresult) -> list[tuple[Any, ...]]:
        transformer = Transformer(self)
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, tuple)

    async def hear(self, told: Callable[[list[PGnotify]], object], silence: float) -> None:
        """Call ``told(notifications)`` as they come, until none has for ``silence`` seconds.

        It is called from where the socket is read: a task that woke up for it first would make everybody wait longer.

        Raises:
            psycopg.OperationalError: the connection is lost.
            Exception: what ``told`` raises ends it.
        """
        loop = asyncio.get_running_loop()
        silent: asyncio.Future[None] = loop.create_future()
        heard_at = loop.time()

        def read() -> None:
            nonlocal heard_at
            try:
                self.pgconn.consume_input()
                if heard := list(iter(self.pgconn.notifies, None)):
                    heard_at = loop.time()
                    told(heard)
            except Exception as error:  # noqa: BLE001 - whoever awaits it learns of it
                if not silent.done():
                    silent.set_exception(error)

        def look() -> None:
            nonlocal timer
            rest = heard_at + silence - loop.time()
            if rest > 0:
                timer = loop.call_later(rest, look)
            elif not silent.done():
                silent.set_result(None)

        timer = loop.call_later(silence, look)
        watched = self._expecting(read)
        try:
            # What came behind a reply lies here already.
            read()
            await silent
        finally:
            timer.cancel()
            watched.ignore()

    async def close(self) -> None:
        """Close the connection."""
        self._unwatch()
        await super().close()

    def abandon(self) -> None:
        """Close at once, whatever the connection is in the middle of."""
        self._unwatch()
        self.pgconn.finish()

    async def _name(self, statement: LiteralString, text: bytes) -> bytes:
        if self._names is None:
            self._names = {}
        name = self._names.get(statement)
        if name is None:
            if len(self._names) >= _MOST_PREPARED:
                oldest = next(iter(self._names))
                await self._send(b"DEALLOCATE " + self._names.pop(oldest))
            self._named += 1
            name = b"direct_%d" % self._named
            self.pgconn.send_prepare(name, text)
            await self._result()
            self._names[statement] = name
        return name

    async def _send(self, text: bytes) -> None:
        self.pgconn.send_query_params(text, None)
        await self._result()

    async def _result(self, meanwhile: Callable[[], object] | None = None) -> PGresult:
        return await self._read(Reply(self.pgconn), meanwhile)

    async def _read(self, reply: Reply, meanwhile: Callable[[], object] | None = None) -> PGresult:
        watched = self._expecting(reply.read)
        try:
            if self.pgconn.flush():
                watched.push(reply.write)
            if meanwhile is not None:
                meanwhile()
            await reply.complete
        except BaseException:
            self._settling = None
            raise
        finally:
            if self._settling is None:
                watched.ignore()
        for result in reply.results:
            if result.status not in _GOOD:
                raise psycopg.errors.error_from_result(result)
        return reply.results[0]

    def _on_settled(self) -> None:
        waiting, self._settling = self._settling, None
        if self._watched is not None:
            self._watched.ignore()
        for then in waiting or ():
            then()

    def _expecting(self, read: Callable[[], object]) -> WatchedSocket:
        if self._watched is None:
            self._watched = WatchedSocket(self.pgconn.socket)
        self._watched.expect(read)
        return self._watched

    def _unwatch(self) -> None:
        watched, self._watched = self._watched, None
        if watched is not None:
            watched.close()
