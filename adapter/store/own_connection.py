"""A connection of one's own, beside the pool: for whoever runs one statement after another all day.

Checking a connection out of the pool takes as long as a claim.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType

from psycopg.pq import TransactionStatus

from adapter.store.database import Database, set_up
from adapter.store.direct import Direct
from adapter.store.lent import LOST, unavailable

_KEEP_PLANS = """
-- The plan of a hot statement does not depend on its values, and making it anew costs more than running it.
SET plan_cache_mode = force_generic_plan;
-- Such a plan outlives the small table it was made for: it must not read a large one from end to end.
SET enable_seqscan = off
"""


class OwnConnection:
    """Lends the pool's connections until `hold`, then always the same one, made anew when it was lost.

    One borrower at a time. Behind a transaction pooler it stays with the pool: a session is not ours there.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._held = False
        self._conn: Direct | None = None

    def hold(self) -> None:
        """From now on keep one connection; `close` ends that."""
        self._held = not self._database.config.transaction_pooler

    async def close(self) -> None:
        """Give the connection up."""
        self._held = False
        await self._drop()

    def lend(self) -> AbstractAsyncContextManager[Direct]:
        """Lend the connection, in autocommit mode.

        Raises:
            DatabaseUnavailableError: none is to be had, or it was lost in the block.
        """
        return self if self._held else self._database.connection()

    async def __aenter__(self) -> Direct:
        """See `lend`."""
        try:
            if self._conn is None:
                self._conn = await self._connect()
        except LOST as error:
            raise unavailable(error) from error
        return self._conn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `lend`."""
        if isinstance(error, LOST):
            await self._drop()
            raise unavailable(error) from error
        if error is None or self._conn is None:
            return
        if self._conn.pgconn.transaction_status != TransactionStatus.IDLE:
            # Whatever it was interrupted in, it must not go on there.
            await self._drop()

    async def _connect(self) -> Direct:
        conn = await self._database.connect(f"{self._database.config.application} {self._name}")
        await set_up(conn)
        await conn.execute(_KEEP_PLANS, prepare=False)
        return conn

    async def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()
