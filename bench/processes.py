"""The processes that are measured: workers with their ledgers, programs that schedule, servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import LiteralString

import psutil
from psycopg import Connection

from bench.contenders import ROOT
from bench.ledger import STEP, Record, progress
from bench.meter import cpu_s

_PATIENCE_S = 120.0
_STOP_S = 15.0
_LOOK_S = 0.002


class StuckError(Exception):
    """A process that is measured has ended, or does not get on."""


class Workers:
    """Worker processes with one folder of ledgers."""

    def __init__(self, commands: list[list[str]], folder: Path, environ: Mapping[str, str]) -> None:
        self._folder, self._log = folder, folder / "log"
        environ = {"PATH": os.defpath, "BENCH_LEDGER": str(folder), **environ}
        with self._log.open("ab") as output:
            self._popens = [
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
                for command in commands
            ]
        self.processes = [psutil.Process(popen.pid) for popen in self._popens]

    def cpu_s(self) -> float:
        return cpu_s(self.processes)

    def resident_mb(self) -> float:
        """The resident memory of all of them now."""
        return sum(process.memory_info().rss for process in self.processes) / 2**20

    def peak_mb(self) -> float:
        return sum(peak_mb(process) for process in self.processes)

    def until_held_up(self, conn: Connection, queue: LiteralString) -> None:
        """Wait until each of them waits for a lock on the table."""

        def all_wait() -> bool:
            rows = conn.execute(
                "SELECT a.client_port FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                " WHERE NOT l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND l.relation IN (SELECT relid FROM pg_partition_tree(%s) UNION SELECT %s::regclass)",
                [queue, queue],
            ).fetchall()
            waiting = {port for (port,) in rows}
            return all(waiting & _ports(process) for process in self.processes)

        self._until(all_wait, "not every worker came to the queue")

    def until_begun(self) -> None:
        """Wait for the first handler of any."""
        self._until(lambda: progress(self._folder)[0] > 0, "no handler was reached")

    def until_nearly(self, jobs: int) -> None:
        """Wait until ``jobs`` handlers were reached, but for what the steps of the ledgers do not show."""

        def reached() -> bool:
            begun, least = progress(self._folder)
            return begun > 0 and least + STEP * begun >= jobs

        self._until(reached, f"{jobs} jobs were not reached")

    def until_surely(self, jobs: int) -> int:
        """Wait until at least ``jobs`` handlers were reached; returns how many surely were."""
        self._until(lambda: progress(self._folder)[1] >= jobs, f"{jobs} jobs were not reached")
        return progress(self._folder)[1]

    def until_none(self, conn: Connection, open_jobs: LiteralString) -> None:
        """Wait until the database says that no job is open."""

        def none() -> bool:
            row = conn.execute(open_jobs).fetchone()
            return row is not None and not row[0]

        self._until(none, "jobs stayed open")

    def _until(self, done: Callable[[], bool], otherwise: str) -> None:
        deadline, seen = time.monotonic() + _PATIENCE_S, (0, 0)
        while not done():
            if (now := progress(self._folder)) != seen:
                deadline, seen = time.monotonic() + _PATIENCE_S, now
            if time.monotonic() > deadline or any(popen.poll() is not None for popen in self._popens):
                raise StuckError(otherwise)
            time.sleep(_LOOK_S)

    def stop(self) -> Record:
        """Let them end in order; returns what their ledgers say."""
        for popen in self._popens:
            popen.terminate()
        for popen in self._popens:
            try:
                popen.wait(_STOP_S)
            except subprocess.TimeoutExpired as error:
                raise StuckError("a worker did not stop") from error
        record = Record()
        for path in self._folder.glob("*.json"):
            record.add(json.loads(path.read_text()))
        return record

    def kill(self) -> None:
        for popen in self._popens:
            popen.kill()
            popen.wait()

    def said(self) -> str:
        """The end of what they logged."""
        return self._log.read_text()[-3000:]


class Scheduling:
    """A program that schedules when told to."""

    def __init__(self, command: list[str]) -> None:
        self._popen = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._line()

    def go(self) -> dict[str, float]:
        """Let it schedule; returns its own times: ``seconds``, ``cpu_s``, ``p50_ms``."""
        assert self._popen.stdin is not None
        self._popen.stdin.write("go\n")
        self._popen.stdin.flush()
        said: dict[str, float] = json.loads(self._line())
        return said

    def _line(self) -> str:
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            raise StuckError(f"what schedules ended with {self._popen.wait()}")
        return line

    def end(self) -> None:
        with suppress(OSError, subprocess.TimeoutExpired):
            self._popen.communicate(timeout=_STOP_S)
        self._popen.kill()
        self._popen.wait()


@contextmanager
def scheduling(command: list[str]) -> Generator[Scheduling]:
    """Start a program that schedules; it is warm and waits when the block begins."""
    program = Scheduling(command)
    try:
        yield program
    finally:
        program.end()


@contextmanager
def server(url: str, folder: Path, *command: str, **environ: str) -> Generator[psutil.Process]:
    """Run one of the adapter's commands while the block runs."""
    log = folder / f"{command[0]}.log"
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
            popen.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def _ports(process: psutil.Process) -> set[int]:
    """The ports its connections come from."""
    return {each.laddr.port for each in process.net_connections("tcp") if each.laddr}


def peak_mb(process: psutil.Process) -> float:
    """The most resident memory the process ever had, in MB; now, where the system does not keep that."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except OSError:
        return process.memory_info().rss / 2**20
