"""The connection to PostgreSQL: one pool, one schema, plain SQL.

Statements are written with ``{s}`` for the schema and named parameters, executed by psycopg itself: the
hot path pays neither an ORM nor a greenlet (docs/decisions/0001-plain-sql-on-psycopg.md).
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, TypeAlias, cast

import psycopg
from psycopg import AsyncConnection, IsolationLevel, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row

from adapter.domain.errors import NotOpenError, StoreError
from adapter.store.direct import Direct
from adapter.store.lent import Lent, OutdatedPlanError
from adapter.store.pool import Pool, Pooled

Connection: TypeAlias = AsyncConnection[DictRow]
Parameters: TypeAlias = Mapping[str, Any]

#: libpq settings that make a dead network be noticed (measured: keepalives alone do not suffice).
_CONNECTION = {
    "connect_timeout": "5",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}

#: How long a call waits for a connection.
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """Where PostgreSQL is and how to talk to it.

    ``transaction_pooler``: a pooler such as PgBouncer in transaction mode is in between, so nothing may
    outlive a transaction: no prepared statements, no LISTEN, no session locks.
    """

    url: str
    schema: str = "adapter"
    application: str = "adapter"
    transaction_pooler: bool = False
    pool_size: int = 10

    @property
    def conninfo(self) -> str:
        """The libpq connection string, with our settings where the user gave none."""
        url = self.url
        for dialect in ("postgresql+psycopg://", "postgres://"):
            if url.startswith(dialect):
                url = "postgresql://" + url.removeprefix(dialect)
        try:
            given: dict[str, Any] = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            # The message of libpq can quote the URL, password and all.
            msg = "The database URL cannot be read. It should look like postgresql://user:password@host/name."
            raise StoreError(msg) from error.with_traceback(None)
        return make_conninfo("", **({"application_name": self.application} | _CONNECTION | given))

    @property
    def prepare_threshold(self) -> int | None:
        """When psycopg prepares a statement: never behind a transaction pooler."""
        return None if self.transaction_pooler else 2


#: A condition that makes the commit of its statement a flushed one, behind a pooler too: no user code may
#: start, and no byte leave, before what allows it is on disk.
FLUSHED: LiteralString = "(SELECT set_config('synchronous_commit', 'on', true)) = 'on'"


#: Errors that psycopg counts among those of the server's state, and that are the row's own: it never gets in.
TOO_LARGE = (psycopg.errors.ProgramLimitExceeded, psycopg.errors.StatementTooComplex)


class Schema:
    """The schema's quoted name, and statements written for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.quoted = sql.Identifier(name).as_string()
        self._made: dict[str, LiteralString] = {}
        self._told: LiteralString = ""

    def sql(self, template: LiteralString) -> LiteralString:
        """Return ``template`` with ``{s}`` replaced by the quoted schema, ``{told}`` by what `tell` says; made once."""
        made = self._made.get(template)
        if made is None:
            # Literal but for one identifier, which psycopg has quoted.
            made = cast("LiteralString", template.replace("{told}", self._told).replace("{s}", self.quoted))
            self._made[template] = made
        return made

    def tell(self, told: LiteralString) -> None:
        """Let every statement that ends jobs carry this part from now on, an empty one to leave it out."""
        if told != self._told:
            self._told = told
            self._made = {}

    @property
    def channel(self) -> str:
        """The NOTIFY channel of this schema."""
        return f"{self.name}_wakeup"[:63]


async def set_up(conn: Connection) -> None:
    """Whatever the server's defaults are: our transactions are READ COMMITTED, and commits are flushed."""
    await conn.set_isolation_level(IsolationLevel.READ_COMMITTED)
    await conn.execute("SET synchronous_commit = on; SET default_transaction_isolation = 'read committed'")


async def _set_up_pooled(conn: Connection) -> None:
    """Behind a pooler a session is not ours to set: only what each transaction says of itself."""
    await conn.set_isolation_level(IsolationLevel.READ_COMMITTED)


class Database:
    """Owns the pool. Connections are in autocommit mode; `transaction` opens one explicitly."""

    def __init__(self, config: DatabaseConfig) -> None:
        self.config = config
        self.schema = Schema(config.schema)
        self._pool: Pool | None = None
        self._owner = 0

    async def open(self) -> None:
        """Open the pool. Connections are made as they are needed."""
        if self._pool is not None and self._owner == os.getpid():
            return
        pooled = self.config.transaction_pooler
        self._pool = Pool(self._pooled, size=self.config.pool_size, timeout=_PATIENCE_S, check=not pooled)
        self._owner = os.getpid()

    async def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close()

    async def _pooled(self) -> Pooled:
        conn = await Pooled.connect(
            self.config.conninfo,
            autocommit=True,
            row_factory=dict_row,
            prepare_threshold=self.config.prepare_threshold,
        )
        try:
            await (_set_up_pooled if self.config.transaction_pooler else set_up)(conn)
        except BaseException:
            await conn.close()
            raise
        return conn

    def connection(self) -> AbstractAsyncContextManager[Direct]:
        """Lend a connection in autocommit mode.

        Raises:
            NotOpenError: the pool is closed, or belongs to the process we were forked from.
            DatabaseUnavailableError: no connection is to be had, or this one was lost in the block.
        """
        if self._pool is None or self._owner != os.getpid():
            raise NotOpenError
        return Lent(self._pool)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Direct]:
        """Lend a connection inside a transaction at READ COMMITTED."""
        async with self.connection() as conn, conn.transaction():
            yield conn

    async def fetch(self, template: LiteralString, parameters: Parameters | None = None) -> list[DictRow]:
        """Run one statement in a transaction of its own and return its rows."""
        async with self.connection() as conn:
            return await fetch(conn, self.schema, template, parameters)

    async def connect(self, application: str) -> Direct:
        """Open a connection outside of the pool; the caller owns it."""
        return await Direct.connect(
            make_conninfo(self.config.conninfo, application_name=application),
            autocommit=True,
            row_factory=dict_row,
            prepare_threshold=self.config.prepare_threshold,
        )


async def fetch(
    conn: Connection, schema: Schema, template: LiteralString, parameters: Parameters | None = None
) -> list[DictRow]:
    """Run one statement on ``conn`` and return its rows, none for a statement that has none.

    Raises:
        OutdatedPlanError: a migration has come in between.
    """
    try:
        cursor = await conn.execute(schema.sql(template), parameters)
    except psycopg.errors.FeatureNotSupported as error:
        raise outdated(error) from error
    return await cursor.fetchall() if cursor.description is not None else []


def outdated(error: psycopg.Error) -> psycopg.Error:
    """Return the error as an `OutdatedPlanError` if it is one: PostgreSQL has no code for that."""
    if error.diag.source_function == "RevalidateCachedQuery":
        return OutdatedPlanError(str(error))
    return error
