"""What the demo runs on: databases and processes of its own, of which nothing is left when it ends."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import psycopg
from psycopg import sql

from adapter.store import migrate
from adapter.store.embedded import EmbeddedPostgres

_CHECKOUT = Path(__file__).resolve().parents[2]
_OURS = ("ADAPTER_", "TRIGGER_", "DATABASE_", "DEMO_", "NEWS_", "PG")
_BOOT_S = 30.0
#: Waits until its standard input closes, as it does however the demo ends, then kills its whole group.
_GUARD = "read -r _; kill -9 0"


class StageError(Exception):
    """Something the demo stands on is missing."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one adapter keeps its jobs."""

    url: str
    schema: str


@contextmanager
def databases(environ: Mapping[str, str]) -> Generator[tuple[str, Place, Place]]:
    """Lend two migrated databases and say where they are: of a server of our own, or schemas in the given one."""
    given = environ.get("ADAPTER_DATABASE_URL") or environ.get("DATABASE_URL")
    with ExitStack() as stack:
        if given:
            mark = secrets.token_hex(4)
            places = [Place(given, f"demo_{side}_{mark}") for side in ("app", "remote")]
            stack.callback(_drop_schemas, given, [place.schema for place in places])
            where = "two schemas in the given database"
        else:
            directory = tempfile.mkdtemp(prefix="adapter-demo-pg-")
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            bin_dir = environ.get("ADAPTER_PG_BIN") or None
            server = stack.enter_context(
                EmbeddedPostgres(directory, database="app", bin_dir=bin_dir, environ=environ)
            )
            server.create_database("remote")
            places = [Place(server.url(name), "adapter") for name in ("app", "remote")]
            where = f"an embedded PostgreSQL {server.version} with two databases"
        for place in places:
            migrate.upgrade(place.url, place.schema)
        yield where, places[0], places[1]


def _drop_schemas(url: str, names: list[str]) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        for name in names:
            conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


class Processes:
    """The processes of both sides, by name, all of one ``--app``. They share one group, which dies with us."""

    def __init__(self, logs: Path, app: str) -> None:
        self._logs, self._app = logs, app
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._guard = subprocess.Popen(["/bin/sh", "-c", _GUARD], stdin=subprocess.PIPE, process_group=0)
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.kill(name)
        if self._guard is not None:
            # With its group: an interruption may have come between a process and its name.
            os.killpg(self._guard.pid, signal.SIGKILL)
            self._guard.communicate()

    def start(self, name: str, command: list[str], environ: Mapping[str, str]) -> None:
        """Start one of the adapter's commands under a name."""
        assert self._guard is not None
        outside = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "adapter.cli", "--app", self._app, *command],
                cwd=_CHECKOUT,
                env=outside | dict(environ) | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is for the demo alone.
                process_group=self._guard.pid,
            )

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def kill(self, name: str) -> None:
        """kill -9: it gets to do nothing more."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    async def stop(self, *names: str) -> None:
        """Ask processes to end, and wait until they have."""
        processes = [self._running.pop(name) for name in names]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                await asyncio.to_thread(process.wait, 15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def check(self) -> None:
        """Raise when a process has ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise StageError(f"{name} ended with {process.returncode}:\n{self.said(name)[-3000:]}")

    def said(self, name: str) -> str:
        """What a process has logged."""
        path = self._logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def ready(self, *ports: int) -> None:
        """Wait until the servers on these ports say that they are ready."""
        deadline = asyncio.get_running_loop().time() + _BOOT_S
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            for port in ports:
                while not await _answers(client, port):
                    self.check()
                    if asyncio.get_running_loop().time() > deadline:
                        raise StageError(f"no server was ready on port {port} within {_BOOT_S:.0f} s")
                    await asyncio.sleep(0.05)


async def _answers(client: httpx.AsyncClient, port: int) -> bool:
    try:
        return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def scratch() -> Generator[Path]:
    """Lend a directory for logs and ledgers."""
    directory = tempfile.mkdtemp(prefix="adapter-demo-")
    try:
        yield Path(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
