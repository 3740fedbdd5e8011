"""Statements straight through libpq: what runs for every job pays for no cursor.

psycopg's cursors plan, adapt and prepare for every case there is; for one row that takes the client longer
than PostgreSQL takes to write it (bench/README.md). Here parameters travel as text and every statement is
prepared with its first use.
"""

from __future__ import annotations

import asyncio
import functools
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, LiteralString, TypeAlias
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, PGnotify, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import DictRow

from adapter.store.watched_socket import WatchedSocket

#: What a parameter may be; PostgreSQL takes its type from where it stands, so a cast says it where that is unclear.
#: Bytes are in PostgreSQL's binary format, everything else travels as text.
Value: TypeAlias = "str | int | UUID | bytes | Sequence[str | int | None] | None"

_PARAMETER = re.compile(r"%(?:%|\((\w+)\)s)")
#: Of the binary format: dimensions, flags, the element's type, how many, the first one's number; an element's length.
_ARRAY_HEAD, _LENGTH = struct.Struct(">iiIii"), struct.Struct(">i")
#: A session keeps this many statements; they are few, unless callers vary what they say about their jobs.
_MOST_PREPARED = 100
_GOOD = {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}


def array(texts: Sequence[str | None]) -> str:
    """Return an array of texts as PostgreSQL reads it."""
    quoted = [
        "NULL" if each is None else '"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for each in texts
    ]
    return "{" + ",".join(quoted) + "}"


def binary_array(element: int, items: Sequence[bytes]) -> bytes:
    """Return an array of values in the binary format, whose type has this oid, in that format."""
    head = _ARRAY_HEAD.pack(1, 0, element, len(items), 1)
    return head + b"".join([part for item in items for part in (_LENGTH.pack(len(item)), item)])


def _encoded(value: Value) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, (str, int, UUID)):
        text = str(value)
    else:
        text = array([None if each is None else str(each) for each in value])
    if "\x00" in text:
        # libpq would take it for the end of the text, and keep what is before.
        msg = "PostgreSQL text fields cannot contain NUL (0x00) bytes"
        raise psycopg.DataError(msg)
    return text.encode()


@functools.lru_cache(maxsize=1024)
def _numbered(statement: LiteralString) -> tuple[bytes, tuple[str, ...]]:
    """Return the statement with ``$1`` for the first name, and the names in that order."""
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        name = found[1]
        return f"${names.setdefault(name, len(names) + 1)}" if name else "%"

    return _PARAMETER.sub(number, statement).encode(), tuple(names)


class Direct(AsyncConnection[DictRow]):
    """A connection that can also run a statement directly; one at a time, and not while a cursor runs one."""

    _names: dict[LiteralString, bytes] | None = None
    _named = 0
    _watched: WatchedSocket | None = None

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
        text, names = _numbered(statement)
        given = [parameters[name] for name in names]
        values, formats = [_encoded(each) for each in given], [int(isinstance(each, bytes)) for each in given]
        if prepared and self.prepare_threshold is not None:
            self.pgconn.send_query_prepared(await self._name(statement, text), values, formats)
        else:
            self.pgconn.send_query_params(text, values, None, formats)
        return await self._result(meanwhile)

    async def rows(self, statement: LiteralString, parameters: Mapping[str, Value]) -> list[tuple[Any, ...]]:
        """Do what `run` does and return the rows."""
        return self._loaded(await self.run(statement, parameters))

    async def mappings(self, statement: LiteralString, parameters: Mapping[str, Value]) -> list[DictRow]:
        """Do what `run` does and return the rows by the names of their columns."""
        return self.mapped(await self.run(statement, parameters))

    def mapped(self, result: PGresult) -> list[DictRow]:
        """Return the rows of a result by the names of their columns."""
        names = [(result.fname(number) or b"").decode() for number in range(result.nfields)]
        return [dict(zip(names, row, strict=True)) for row in self._loaded(result)]

    def _loaded(self, result: PGresult) -> list[tuple[Any, ...]]:
        transformer = Transformer(self)
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, tuple)

    async def notified(self, seconds: float) -> list[PGnotify]:
        """Return what was notified as soon as that is anything; nothing after so many seconds.

        Raises:
            psycopg.OperationalError: the connection is lost.
        """
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heard = self._notifications()

        def read() -> None:
            try:
                self.pgconn.consume_input()
            except psycopg.OperationalError as error:
                if not arrived.done():
                    arrived.set_exception(error)
                return
            heard.extend(self._notifications())
            if heard and not arrived.done():
                arrived.set_result(None)

        if not heard:
            watched = self._expecting(read)
            try:
                async with asyncio.timeout(seconds):
                    await arrived
            except TimeoutError:
                return []
            finally:
                watched.ignore()
        return heard

    async def close(self) -> None:
        """Close the connection."""
        self._unwatch()
        await super().close()

    def abandon(self) -> None:
        """Close at once, whatever the connection is in the middle of."""
        self._unwatch()
        self.pgconn.finish()

    def _notifications(self) -> list[PGnotify]:
        return list(iter(self.pgconn.notifies, None))

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
        reply = _Reply(self.pgconn)
        watched = self._expecting(reply.read)
        try:
            if self.pgconn.flush():
                watched.push(reply.write)
            if meanwhile is not None:
                meanwhile()
            await reply.complete
        finally:
            watched.ignore()
        for result in reply.results:
            if result.status not in _GOOD:
                raise psycopg.errors.error_from_result(result)
        return reply.results[0]

    def _expecting(self, read: Callable[[], object]) -> WatchedSocket:
        if self._watched is None:
            self._watched = WatchedSocket(self.pgconn.socket)
        self._watched.expect(read)
        return self._watched

    def _unwatch(self) -> None:
        watched, self._watched = self._watched, None
        if watched is not None:
            watched.close()


class _Reply:
    """All that PostgreSQL has to say to a statement: a commit may still fail after the rows have come."""

    def __init__(self, pgconn: PGconn) -> None:
        self._pgconn = pgconn
        self.results: list[PGresult] = []
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def read(self) -> None:
        try:
            self._pgconn.consume_input()
            while not (self.complete.done() or self._pgconn.is_busy()):
                result = self._pgconn.get_result()
                if result is None:
                    self.complete.set_result(None)
                else:
                    self.results.append(result)
        except psycopg.Error as error:
            self._fail(error)

    def write(self) -> bool:
        """Send on; whether there is more to send."""
        try:
            return bool(self._pgconn.flush())
        except psycopg.Error as error:
            self._fail(error)
            return False

    def _fail(self, error: psycopg.Error) -> None:
        if not self.complete.done():
            self.complete.set_exception(error)
