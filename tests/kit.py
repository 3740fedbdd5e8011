"""What tests share and pytest does not have to know of: servers, peers, the clean table list."""

import asyncio
import inspect
import os
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import LiteralString, NoReturn, Protocol, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql
from psycopg.pq import PGnotify

from adapter.store import migrate
from adapter.store.direct import Direct
from adapter.store.retention import partition_name
from adapter.testing import broom

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = "adapter"
#: Users' tests are cleaned by the same broom.
Broom = broom.Broom
children_first = broom.children_first
SEEDED_TABLES = broom.SEEDED_TABLES

T = TypeVar("T")

_OURS = ("ADAPTER_", "TRIGGER_", "PG", "DATABASE_")
_KEPT = "ADAPTER_TEST_"

#: Where Linux keeps files in memory, and what has to be free there.
_MEMORY = "/dev/shm"
_ROOM = 4 << 30

#: Days that follow upon one another, and months that no day of these weeks comes close to.
_GATHERED: dict[str, LiteralString] = {
    "near": "day <= current_date + 10",
    "far": "day > current_date + 40 AND day < '9999-12-31'",
}


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


def browser() -> Path:
    """A Chromium that needs no screen."""
    names = ("chromium-headless-shell", "chromium", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    require(found, "there is no Chromium: run `make setup-browser`")
    return Path(str(found))


async def eventually(check: Callable[[], T | Awaitable[T]], *, within: float = 5.0) -> T:
    """Return what ``check()`` returns as soon as that is true; fail when it is not in time."""
    pause = 0.01
    try:
        async with asyncio.timeout(within):
            while True:
                found = check()
                value = cast("T", await found if inspect.isawaitable(found) else found)
                if value:
                    return value
                await asyncio.sleep(pause)
                # What takes seconds is not looked for a hundred times in each: it would slow down what it waits for.
                pause = min(pause * 1.3, 0.1)
    except TimeoutError:
        raise AssertionError(f"it did not become true within {within:g} s") from None


class Server(Protocol):
    """A PostgreSQL server on which databases can be made."""

    def url(self, database: str | None = None) -> str: ...
    def create_database(self, name: str, *, template: str | None = None) -> None: ...
    def drop_database(self, name: str) -> None: ...


@contextmanager
def server_directory() -> Generator[Path]:
    """Lend a directory for a server, in memory where there is room: each database is hundreds of files, dear to make on a disk."""
    directory = Path(tempfile.mkdtemp(prefix="adapter-test-", dir=_MEMORY if _is_roomy(_MEMORY) else None))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _is_roomy(directory: str) -> bool:
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    # The server's programs may have to be copied to it, and run there.
    return found.f_bavail * found.f_frsize > _ROOM and not found.f_flag & os.ST_NOEXEC


def make_logins_cheap(server: Server) -> None:
    """Hash the server's password once instead of 4096 times: both sides do it anew for each of many thousand connections."""
    with psycopg.connect(server.url(), autocommit=True) as conn:
        if conn.info.server_version >= 160000:
            conn.execute("SET scram_iterations = 1")
            user, password = sql.Identifier(conn.info.user), sql.Literal(conn.info.password)
            conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(user, password))


def set_up(url: str) -> None:
    """Make what the product needs in an empty database, for many tests or a long one."""
    migrate.upgrade(url, schema=SCHEMA)
    _gather_partitions(url)


def _gather_partitions(url: str) -> None:
    """Put the days of finished jobs into few partitions: each new connection reads the catalog of them all, with 16 indexes.

    What is listed stays listed, and a day that is listed later finds its place between them.
    """
    with psycopg.connect(url, options=f"-c search_path={SCHEMA} -c timezone=UTC") as conn:
        for name, days in _GATHERED.items():
            found = conn.execute(
                sql.SQL("SELECT day FROM finished_partitions WHERE {} ORDER BY day").format(sql.SQL(days))
            ).fetchall()
            for (day,) in found:
                conn.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(partition_name(day))))
            whole = sql.SQL(
                "CREATE TABLE {} PARTITION OF worker_jobs_finished FOR VALUES FROM ({}) TO ({})"
            ).format(
                sql.Identifier(f"worker_jobs_finished_{name}"), found[0][0], found[-1][0] + timedelta(days=1)
            )
            conn.execute(whole)


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


async def heard_next(conn: Direct, within: float = 5.0) -> list[PGnotify]:
    """Return what a listening connection hears next."""
    heard: asyncio.Future[list[PGnotify]] = asyncio.get_running_loop().create_future()
    hearing = asyncio.create_task(conn.hear(heard.set_result, within))
    done, _ = await asyncio.wait([hearing, heard], return_when=asyncio.FIRST_COMPLETED)
    assert heard in done, f"nothing was heard in {within:g} s"
    hearing.cancel()
    await asyncio.wait([hearing])
    return heard.result()
