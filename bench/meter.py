"""What a stretch of work cost: CPU on both sides, WAL, transactions, and who else was on the machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import psutil
from psycopg import Connection

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


class Costs(TypedDict, total=False):
    """Per job, but the cores: how many each side kept busy, and how many others did. What cannot be known is missing."""

    client_us: float
    server_us: float
    wal_bytes: float
    transactions: float
    client_cores: float
    server_cores: float
    foreign_cores: float


@dataclass(frozen=True, slots=True)
class _Moment:
    at: float
    client: float
    server: float
    busy: float
    wal: int
    transaction: int


class Meter:
    """Reads the gauges at `start` and at `stop`. ``client`` tells the CPU seconds of the client's processes.

    Transactions are those that wrote, by their ids. The server's CPU is that of all its processes, so
    vacuum and checkpoints are in it; of a server elsewhere it is not known.
    """

    def __init__(self, conn: Connection, client: Callable[[], float]) -> None:
        self._conn, self._client = conn, client
        row = conn.execute("SELECT pg_backend_pid()").fetchone()
        self._postmaster = _parent(row[0]) if row else None
        self._own = psutil.Process()
        self._began: _Moment | None = None

    def start(self) -> None:
        self._began = self._now()

    def stop(self, jobs: int) -> Costs:
        """The costs since `start`, per job."""
        began, ended = self._began, self._now()
        assert began is not None
        seconds = ended.at - began.at
        client, server = ended.client - began.client, ended.server - began.server
        costs = Costs(
            client_us=client / jobs * 1e6,
            wal_bytes=(ended.wal - began.wal) / jobs,
            transactions=(ended.transaction - began.transaction) / jobs,
            client_cores=client / seconds,
        )
        if self._postmaster is not None:
            costs["server_us"] = server / jobs * 1e6
            costs["server_cores"] = server / seconds
            costs["foreign_cores"] = max(0.0, ended.busy - began.busy - client - server) / seconds
        return costs

    def _now(self) -> _Moment:
        row = self._conn.execute(
            "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn,"
            " pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        ).fetchone()
        assert row is not None
        own = self._own.cpu_times()
        return _Moment(
            time.perf_counter(),
            self._client(),
            _family_s(self._postmaster) if self._postmaster else 0.0,
            # The benchmark's own watching is nobody else's.
            _busy_s() - own.user - own.system,
            int(row[0]),
            int(row[1]),
        )


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """The CPU time these processes and their children have used."""
    total = 0.0
    for process in processes:
        for each in (process, *process.children(recursive=True)):
            spent = each.cpu_times()
            total += spent.user + spent.system
    return total


def _stat(pid: int | str) -> list[str]:
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _parent(pid: int) -> int | None:
    """The server's first process, or None when the server is on another machine."""
    try:
        parent = int(_stat(pid)[1])
        return parent if (_PROC / str(parent) / "comm").read_text().startswith("postgres") else None
    except OSError:
        return None


def _family_s(parent: int) -> float:
    """The CPU time of a process, of its living children, and of those it has buried."""
    ticks = 0
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                stat = _stat(folder.name)
            except OSError:
                continue
            if parent in (int(folder.name), int(stat[1])):
                ticks += sum(int(each) for each in stat[11:15])
    return ticks / _TICKS


def _busy_s() -> float:
    """The CPU time of everybody on this machine."""
    try:
        ticks = [int(each) for each in (_PROC / "stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return 0.0
    return (sum(ticks) - ticks[3] - ticks[4]) / _TICKS
