"""A connection of the pool for the length of one block.

Classes, not generators: what `contextlib` makes of one costs a process that wakes up for a single job as much as the
rest of a checkout (bench/README.md).
"""

from __future__ import annotations

from types import TracebackType

import psycopg

from adapter.domain.errors import DatabaseUnavailableError
from adapter.store.direct import Direct
from adapter.store.pool import Pool, Pooled

LOST = (psycopg.OperationalError, psycopg.InterfaceError)


class OutdatedPlanError(psycopg.OperationalError):
    """The session has prepared a statement before a migration changed what it returns; nothing was done.

    It stays so for as long as the connection does, so that one goes the way of a connection that was lost.
    """


class Lent:
    """``async with Lent(pool) as conn``: a connection in autocommit mode, which goes back at the end.

    Raises:
        DatabaseUnavailableError: none is to be had, or it was lost in the block.
    """

    __slots__ = ("_conn", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._conn: Pooled | None = None

    async def __aenter__(self) -> Direct:
        """Get one."""
        try:
            conn = self._conn = await self._pool.get()
        except LOST as error:
            raise unavailable(error) from error
        return conn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
        assert self._conn is not None
        if isinstance(error, OutdatedPlanError):
            self._pool.renew()
        try:
            await self._pool.put(self._conn)
        except LOST as lost:
            raise unavailable(lost) from lost
        if isinstance(error, LOST):
            raise unavailable(error) from error


def unavailable(error: BaseException) -> DatabaseUnavailableError:
    """Return what callers are told: libpq's message may quote the address; the class of the error says enough."""
    return DatabaseUnavailableError(f"PostgreSQL cannot be used right now ({type(error).__name__}).")
