"""What the measures stand on: a durable PostgreSQL, a fresh database for each, processes, statistics."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, Self
from urllib.parse import urlsplit, urlunsplit

import httpx
import psutil
import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow, dict_row

from adapter import Adapter, Settings
from adapter.store import migrate
from adapter.store.embedded import EmbeddedPostgres
from bench.app import declare

ROOT = Path(__file__).resolve().parents[1]
_BOOT_S = 30.0
_PATIENCE_S = 120.0
EMPTY: LiteralString = "SELECT NOT EXISTS (SELECT FROM adapter.worker_jobs_open)"


class StuckError(Exception):
    """A process that is measured has ended, or does not get on."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything one round does."""

    singles: int = 1000
    bulk: int = 20_000
    drain: int = 20_000
    paced: int = 500
    webhooks: int = 2000
    runs: int = 10_000


QUICK = Sizes(singles=100, bulk=1000, drain=1000, paced=50, webhooks=200, runs=300)


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of one round. ``raw`` names the limit it is compared with."""

    name: str
    value: float
    unit: str
    raw: str | None = None


class Ground:
    """A server and, on it, a migrated template that each measure gets a copy of."""

    def __init__(self, given: str | None) -> None:
        self._given = given
        self._stack = ExitStack()
        self.logs = Path()
        self.version = ""

    def __enter__(self) -> Self:
        directory = tempfile.mkdtemp(prefix="adapter-bench-")
        self._stack.callback(shutil.rmtree, directory, ignore_errors=True)
        self.logs = Path(directory)
        if self._given is None:
            data = tempfile.mkdtemp(prefix="adapter-bench-pg-")
            self._stack.callback(shutil.rmtree, data, ignore_errors=True)
            server = EmbeddedPostgres(data, environ=os.environ)
            self._given = self._stack.enter_context(server).url("postgres")
        with psycopg.connect(self._given, autocommit=True) as conn:
            shown = conn.execute(
                "SELECT current_setting('server_version'), current_setting('fsync')"
            ).fetchone()
            self.version = "PostgreSQL {}, fsync {}".format(*(shown or ("?", "?")))
        self._template = self._create(None)
        migrate.upgrade(self._url(self._template))
        return self

    def __exit__(self, *_: object) -> None:
        self._drop(self._template)
        self._stack.close()

    @contextmanager
    def database(self) -> Generator[str]:
        """Lend a fresh, migrated database; returns its URL."""
        name = self._create(self._template)
        try:
            yield self._url(name)
        finally:
            self._drop(name)

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

    @contextmanager
    def process(self, url: str, *command: str, **environ: str) -> Generator[psutil.Process]:
        """Run one of the adapter's commands while the block runs."""
        log = self.logs / f"{command[0]}.log"
        with log.open("ab") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", "adapter.cli", "--app", "bench.app:adapter", *command],
                cwd=ROOT,
                env={
                    "PATH": os.defpath,
                    "ADAPTER_DATABASE_URL": url,
                    "ADAPTER_LOG_LEVEL": "WARNING",
                    **environ,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield psutil.Process(popen.pid)
        except StuckError as error:
            raise StuckError(f"{command[0]} ({popen.poll()}):\n{log.read_text()[-3000:]}") from error
        finally:
            popen.terminate()
            try:
                popen.wait(15)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()

    def _create(self, template: str | None) -> str:
        name = f"adapter_bench_{secrets.token_hex(6)}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with psycopg.connect(str(self._given), autocommit=True) as conn:
            conn.execute(statement.format(sql.Identifier(name), sql.Identifier(template or "template1")))
        return name

    def _drop(self, name: str) -> None:
        with psycopg.connect(str(self._given), autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            # What a round leaves to write must not slow the next one.
            conn.execute("CHECKPOINT")

    def _url(self, name: str) -> str:
        return urlunsplit(urlsplit(str(self._given))._replace(path=f"/{name}"))


def cpu_s(process: psutil.Process) -> float:
    """The CPU time the process has used."""
    spent = process.cpu_times()
    return spent.user + spent.system


def peak_mb(process: psutil.Process) -> float:
    """The most resident memory the process ever had, in MB; now, where the system does not keep that."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except OSError:
        return process.memory_info().rss / 2**20


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def until(conn: AsyncConnection[DictRow], question: LiteralString, worker: psutil.Process) -> None:
    """Wait until a query's first column is true, while the process that makes it so lives."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        row = await (await conn.execute(question)).fetchone()
        if row is not None and next(iter(row.values())):
            return
        if time.monotonic() > deadline or worker.status() == psutil.STATUS_ZOMBIE:
            raise StuckError(question)
        await asyncio.sleep(0.05)


async def until_ready(port: int) -> None:
    deadline = time.monotonic() + _BOOT_S
    async with httpx.AsyncClient(trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
    raise StuckError(f"nothing was ready on port {port}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
