"""A connection of one's own, beside the pool: for whoever runs one statement after another all day.

Checking a connection out of the pool takes as long as a claim.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg

from adapter.domain.errors import DatabaseUnavailableError
from adapter.store.database import Database, set_up
from adapter.store.direct import Direct

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

    @asynccontextmanager
    async def lend(self) -> AsyncGenerator[Direct]:
        """Lend the connection, in autocommit mode.

        Raises:
            DatabaseUnavailableError: none is to be had, or it was lost in the block.
        """
        if not self._held:
            async with self._database.connection() as conn:
                yield conn
            return
        try:
            if self._conn is None:
                self._conn = await self._connect()
            yield self._conn
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            await self._drop()
            msg = f"PostgreSQL cannot be used right now ({type(error).__name__})."
            raise DatabaseUnavailableError(msg) from error
        except BaseException:
            # Whatever it was interrupted in, it must not go on there.
            if (
                self._conn is not None
                and self._conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
            ):
                await self._drop()
            raise

    async def _connect(self) -> Direct:
        conn = await self._database.connect(f"{self._database.config.application} {self._name}")
        await set_up(conn)
        await conn.execute(_KEEP_PLANS, prepare=False)
        return conn

    async def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()
