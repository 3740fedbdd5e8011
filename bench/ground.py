"""What the measures stand on: a durable PostgreSQL, and a fresh database for each of them."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow, dict_row

from adapter import Adapter, Settings
from adapter.store.embedded import EmbeddedPostgres
from bench.app import declare
from bench.contenders import ADAPTER, ROOT, Contender
from bench.processes import StuckError, Workers


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything one round does."""

    singles: int = 2000
    bulk: int = 30_000
    drain: int = 50_000
    finished: int = 1_000_000
    waiting: int = 500_000
    limited: int = 20_000
    memory: int = 1_000_000
    statements: int = 5000
    paced: int = 500
    webhooks: int = 2000
    runs: int = 10_000
    subscribers: int = 1000


QUICK = Sizes(
    singles=60, bulk=1000, drain=1000, finished=2000, waiting=3000, limited=600, memory=3000, statements=600,
    paced=50, webhooks=200, runs=300, subscribers=30,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stock:
    """What is in a database before the clock starts: jobs that wait, and jobs that finished long ago."""

    jobs: int = 0
    task: str = "noop"
    finished: int = 0


class Ground:
    """A server. Each (contender, stock) is made once, as a template that every measure gets a copy of."""

    def __init__(self, given: str | None, settings: Mapping[str, str] | None = None) -> None:
        self._url, self._settings = given or "", settings
        self._stack = ExitStack()
        self._templates: dict[tuple[str, Stock], str] = {}
        self.folder = Path()
        self.version = ""
        self._strategy = sql.SQL("")

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="adapter-bench-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        if not self._url:
            server = EmbeddedPostgres(self.folder / "pg", environ=os.environ, settings=self._settings)
            # The account that the server runs under has to reach its folder.
            self.folder.chmod(0o755)
            self._url = self._stack.enter_context(server).url("postgres")
        with psycopg.connect(self._url, autocommit=True) as conn:
            row = conn.execute(
                "SELECT current_setting('server_version'), current_setting('fsync'),"
                " current_setting('synchronous_commit'), current_setting('server_version_num')::int >= 150000"
            ).fetchone()
            assert row is not None
            self.version = f"PostgreSQL {row[0]}, fsync {row[1]}, synchronous_commit {row[2]}"
            if row[3]:
                # Otherwise the copy of a large template goes through the WAL.
                self._strategy = sql.SQL(" STRATEGY = FILE_COPY")
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._templates.values():
            self._drop(name)
        self._stack.close()

    @contextmanager
    def database(self, contender: Contender = ADAPTER, stock: Stock | None = None) -> Generator[str]:
        """Lend a fresh database with the contender's schema and the stock in it; returns its URL."""
        name = self._create(self._template(contender, stock or Stock()))
        try:
            yield self._at(name)
        finally:
            self._drop(name)

    @contextmanager
    def workers(
        self, contender: Contender, url: str, count: int = 1, *, task: str = "noop", **environ: str
    ) -> Generator[Workers]:
        """Run worker processes, which are stopped in order when the block ends."""
        folder = Path(tempfile.mkdtemp(prefix="workers-", dir=self.folder))
        environ = {"ADAPTER_DATABASE_URL": url, "ADAPTER_LOG_LEVEL": "WARNING", **environ}
        command = list(contender.worker or contender.command("work", url, task=task))
        workers = Workers([command] * count, folder, environ)
        try:
            yield workers
        except StuckError as error:
            raise StuckError(f"{contender.name}: {error}\n{workers.said()}") from error
        finally:
            workers.kill()

    @asynccontextmanager
    async def connection(self, url: str) -> AsyncGenerator[AsyncConnection[DictRow]]:
        conn = await AsyncConnection[DictRow].connect(url, autocommit=True, row_factory=dict_row)
        async with conn:
            yield conn

    @asynccontextmanager
    async def adapter(self, url: str, **given: Any) -> AsyncGenerator[Adapter]:
        """Lend an open adapter that only schedules."""
        settings: dict[str, Any] = {"database_url": url, "trigger_secret_key": "tr_dev_bench0123456789"}
        if "executors" in given:
            del settings["trigger_secret_key"]
        async with declare(Adapter(Settings(**settings), **given)) as adapter:
            yield adapter

    def _template(self, contender: Contender, stock: Stock) -> str:
        if (contender.name, stock) not in self._templates:
            empty = stock == Stock()
            name = self._create(None if empty else self._template(contender, Stock()))
            self._templates[contender.name, stock] = name
            url = self._at(name)
            if empty:
                _carry_out(contender.command("prepare", url))
            if stock.finished:
                self._finish_one(contender, url)
                _multiply(contender, url, stock.finished)
            if stock.jobs:
                _carry_out(contender.command("fill", url, count=stock.jobs, task=stock.task))
            with psycopg.connect(url, autocommit=True) as conn:
                # What autovacuum would give it within a minute.
                conn.execute("VACUUM ANALYZE")
        return self._templates[contender.name, stock]

    def _finish_one(self, contender: Contender, url: str) -> None:
        _carry_out(contender.command("fill", url, count=1))
        with (
            psycopg.connect(url, autocommit=True) as conn,
            self.workers(contender, url) as workers,
        ):
            workers.until_begun()
            workers.until_none(conn, contender.open_jobs)

    def _create(self, template: str | None) -> str:
        name = f"adapter_bench_{secrets.token_hex(6)}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}{}")
        with psycopg.connect(self._url, autocommit=True) as conn:
            identifiers = sql.Identifier(name), sql.Identifier(template or "template1")
            conn.execute(statement.format(*identifiers, self._strategy))
        return name

    def _drop(self, name: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            # What a round leaves to write must not slow the next one.
            conn.execute("CHECKPOINT")

    def _at(self, name: str) -> str:
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))


def _carry_out(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StuckError(f"{command[:5]} ended with {done.returncode}:\n{done.stderr[-3000:]}")


def _multiply(contender: Contender, url: str, count: int) -> None:
    """Make many finished jobs of the ones that there are."""
    with psycopg.connect(url, autocommit=True) as conn:
        for kept in contender.kept:
            rows = conn.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
                " AND NOT attisdropped AND attidentity = '' AND attgenerated = ''"
                " AND COALESCE((SELECT pg_get_expr(adbin, adrelid) NOT LIKE 'nextval%%' FROM pg_attrdef"
                "   WHERE adrelid = attrelid AND adnum = attnum), true)",
                [kept.table],
            ).fetchall()
            names = [name for (name,) in rows]
            conn.execute(
                sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}, generate_series(2, {}) n WHERE {}").format(
                    sql.SQL(kept.table),
                    sql.SQL(", ").join(map(sql.Identifier, names)),
                    sql.SQL(", ").join(
                        sql.SQL(kept.own[name]) if name in kept.own else sql.Identifier(name)
                        for name in names
                    ),
                    sql.SQL(kept.table),
                    sql.Literal(count),
                    sql.SQL(kept.of),
                )
            )
