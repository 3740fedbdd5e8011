"""What tests share and pytest does not have to know of: servers, peers, the clean table list."""

import asyncio
import graphlib
import inspect
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = "adapter"
#: Tables whose rows come from a migration, and so outlive a test.
SEEDED_TABLES = frozenset({"alembic_version", "finished_partitions", "flags_state"})

#: Tables that refuse a DELETE; they are emptied only when a test has written to them.
APPEND_ONLY_TABLES = frozenset({"flag_changes"})

T = TypeVar("T")

_OURS = ("ADAPTER_", "TRIGGER_", "PG", "DATABASE_")
_KEPT = "ADAPTER_TEST_"


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def require(condition: object, reason: str) -> None:
    """Go on only with what the test needs: without it a laptop skips, and CI fails."""
    if not condition:
        _give_up(reason)


def _give_up(reason: str) -> NoReturn:
    if in_ci():
        pytest.fail(f"missing in CI: {reason}", pytrace=False)
    pytest.skip(reason)


def own_setting(name: str) -> str | None:
    """A setting of the tests themselves, `ADAPTER_TEST_…`; an empty one counts as absent."""
    return os.environ.get(f"{_KEPT}{name}") or None


def simulation_examples(default: int) -> int:
    """How many stories the simulation tells, `SIMULATION_EXAMPLES`."""
    return int(os.environ.get("SIMULATION_EXAMPLES") or default)


def scrub_environment() -> None:
    """Forget what the surroundings say about any database or service: tests say it themselves."""
    for name in [name for name in os.environ if name.startswith(_OURS) and not name.startswith(_KEPT)]:
        del os.environ[name]


def node_bin() -> Path:
    """Directory of the `node` and `npm` that `make setup-node` has put into the virtual environment."""
    directory = Path(sys.prefix) / "node" / "bin"
    require((directory / "node").exists(), "Node is not set up: run `make setup-node`")
    return directory


def pgbouncer() -> Path:
    """The program, which Debian keeps where only root's PATH looks."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    require(found, "PgBouncer is not installed: run `make setup-pgbouncer`")
    return Path(str(found))


async def eventually(check: Callable[[], T | Awaitable[T]], *, within: float = 5.0) -> T:
    """Return what ``check()`` returns as soon as that is true; fail when it is not in time."""
    try:
        async with asyncio.timeout(within):
            while True:
                found = check()
                value = cast("T", await found if inspect.isawaitable(found) else found)
                if value:
                    return value
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"it did not become true within {within:g} s") from None


class Server(Protocol):
    """A PostgreSQL server on which databases can be made."""

    def url(self, database: str | None = None) -> str: ...
    def create_database(self, name: str, *, template: str | None = None) -> None: ...
    def drop_database(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class GivenServer:
    """A server that somebody else runs; its URL may create databases."""

    base: str

    def url(self, database: str | None = None) -> str:
        return (
            self.base if database is None else urlunsplit(urlsplit(self.base)._replace(path=f"/{database}"))
        )

    def create_database(self, name: str, *, template: str | None = None) -> None:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with psycopg.connect(self.base, autocommit=True) as conn:
            conn.execute(statement.format(sql.Identifier(name), sql.Identifier(template or "template1")))

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.base, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


class Broom:
    """Empties every table of the schema, children first: about 1 ms, where TRUNCATE takes 18."""

    def __init__(self, url: str, schema: str = SCHEMA) -> None:
        self._url, self._schema = url, schema
        self._conn: psycopg.Connection | None = None
        self._statement: sql.Composed | None = None

    def sweep(self) -> None:
        try:
            self._sweep(self._connected())
        except psycopg.errors.LockNotAvailable as error:
            raise AssertionError("a test left a transaction open that locks a table") from error
        except psycopg.OperationalError:
            self.close()  # a test may have restarted the server, or cut every connection
            self._sweep(self._connected())

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _sweep(self, conn: psycopg.Connection) -> None:
        if self._statement is None:
            deletes = [
                sql.SQL("DELETE FROM {}").format(sql.Identifier(self._schema, table))
                for table in children_first(conn, self._schema)
                if table not in APPEND_ONLY_TABLES
            ]
            self._statement = sql.SQL("; ").join(deletes)
        for table in APPEND_ONLY_TABLES:
            name = sql.Identifier(self._schema, table)
            if conn.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(name)).fetchone() is not None:
                conn.execute(sql.SQL("TRUNCATE {}").format(name))
        conn.execute(self._statement)

    def _connected(self) -> psycopg.Connection:
        if self._conn is None:
            self._conn = psycopg.connect(self._url, autocommit=True, options="-c lock_timeout=5s")
        return self._conn


def children_first(conn: psycopg.Connection, schema: str) -> Iterable[str]:
    """Tables of a schema, referring before referred; of a partitioned table only the parent."""
    tables = conn.execute(
        "SELECT c.relname FROM pg_class c"
        " WHERE c.relnamespace = %s::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " ORDER BY 1",
        [schema],
    ).fetchall()
    references = conn.execute(
        "SELECT child.relname, parent.relname FROM pg_constraint f"
        " JOIN pg_class child ON child.oid = f.conrelid JOIN pg_class parent ON parent.oid = f.confrelid"
        " WHERE f.contype = 'f' AND f.connamespace = %s::regnamespace AND child.oid <> parent.oid"
        " AND NOT child.relispartition AND NOT parent.relispartition",
        [schema],
    ).fetchall()
    graph: dict[str, set[str]] = {str(name): set() for (name,) in tables}
    for child, parent in references:
        graph[str(parent)].add(str(child))
    return [table for table in graphlib.TopologicalSorter(graph).static_order() if table not in SEEDED_TABLES]
