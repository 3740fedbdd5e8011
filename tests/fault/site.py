"""Processes on one database, and what there is to see from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Self
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row

from adapter import Adapter
from adapter.settings import Settings
from tests import kit, pooling
from tests.fault import ledger
from tests.fault.processes import declare
from tests.kit import eventually

Role = Literal["worker", "isolated", "dispatcher", "producer", "server", "drill"]
_BOOT_S = 40.0


class Process:
    """One of our processes."""

    def __init__(self, popen: subprocess.Popen[bytes], directory: Path, log: Path) -> None:
        self._popen, self._log = popen, log
        self._ready = directory / f"ready-{popen.pid}"

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def has_ended(self) -> bool:
        return self._popen.poll() is not None

    async def ready(self) -> Self:
        def look() -> bool:
            assert self._popen.poll() is None, self.said()
            return self._ready.exists()

        await eventually(look, within=_BOOT_S)
        return self

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()

    def terminate(self) -> None:
        self._popen.send_signal(signal.SIGTERM)

    async def ended(self, within: float = 30.0) -> int:
        await eventually(lambda: self._popen.poll() is not None, within=within)
        return self._popen.returncode

    def end(self) -> None:
        if self._popen.poll() is None:
            self.kill()

    def said(self) -> str:
        return self._log.read_text()[-4000:]


class Site:
    """``env`` is what every process gets beside the database."""

    def __init__(self, url: str, directory: Path, **env: str) -> None:
        self.url, self.directory = url, directory
        self.env: dict[str, str] = {"ADAPTER_DATABASE_URL": url, "ADAPTER_DB_SCHEMA": kit.SCHEMA, **env}
        self._processes: list[Process] = []
        self._eyes: psycopg.Connection[DictRow] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.end()
        if self._eyes is not None:
            self._eyes.close()

    def start(self, role: Role, *arguments: str, **env: str) -> Process:
        log = self.directory / f"{role}-{len(self._processes)}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", "tests.fault.processes", role, str(self.directory), *arguments],
                cwd=kit.ROOT,
                env=pooling.environment({"PATH": os.environ["PATH"], **self.env, **env}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        process = Process(popen, self.directory, log)
        self._processes.append(process)
        return process

    @asynccontextmanager
    async def adapter(self, **env: str) -> AsyncGenerator[Adapter]:
        """An adapter in the test's own process that runs nothing by itself."""
        given = {"ADAPTER_DISPATCH_WAIT_SECONDS": "0", **self.env, **env}
        made = Adapter(Settings.from_env(given))
        declare(made)
        async with made:
            yield made

    async def schedule(
        self, count: int, seconds: float, task: str = "short", *, children: int = 0, **options: Any
    ) -> list[UUID]:
        data = {"seconds": seconds, "children": children}
        async with self.adapter() as adapter:
            handles = [await adapter.schedule_job(task, data, **options) for _ in range(count)]
        return [handle.id for handle in handles]

    def rows(self, query: str, parameters: Mapping[str, Any] | Sequence[Any] = ()) -> list[DictRow]:
        """Look at the database, on a connection that is made anew once it is broken."""
        if self._eyes is None or self._eyes.closed:
            self._eyes = psycopg.Connection[DictRow].connect(
                self.url, autocommit=True, row_factory=dict_row, prepare_threshold=None
            )
            self._eyes.execute(f'SET search_path TO "{kit.SCHEMA}"'.encode())
        cursor = self._eyes.execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description is not None else []

    def count(self, table: str, where: str = "true") -> int:
        return self.rows(f"SELECT count(*) AS n FROM {table} WHERE {where}")[0]["n"]

    async def all_done(self, within: float = 60.0) -> None:
        def look() -> bool:
            try:
                return self.count("worker_jobs_open") == 0
            except psycopg.OperationalError:
                return False

        await eventually(look, within=within)

    def check(self, scheduled: Sequence[UUID]) -> list[ledger.Entry]:
        """Compare what the processes wrote down with what the database says."""
        entries = ledger.read(self.directory)
        ledger.check(
            scheduled,
            entries,
            self.rows("SELECT id, status FROM worker_jobs_finished"),
            self.rows("SELECT job_id, kind FROM job_events"),
            still_open=self.count("worker_jobs_open"),
        )
        return entries
