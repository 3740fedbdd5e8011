"""What is measured while it runs: the processes from outside, the database from inside."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

import psutil
import psycopg

from soak.stage import Workers

_DATABASE = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()),
  pg_table_size('adapter.worker_jobs_open') / 1e6, pg_indexes_size('adapter.worker_jobs_open') / 1e6,
  (SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = 'adapter.worker_jobs_open'::regclass),
  (SELECT count(*) FROM adapter.worker_jobs_open),
  (SELECT reltuples::bigint FROM pg_class WHERE oid = 'adapter.worker_jobs_open'::regclass)
"""


@dataclass(frozen=True, slots=True)
class OfProcess:
    """One look at one process: seconds since the start, memory in MB."""

    at: float
    rss: float
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class OfDatabase:
    """One look at the database: sizes of the table of open jobs in MB."""

    at: float
    connections: int
    table: float
    indexes: float
    dead: int
    open: int


@dataclass
class Samples:
    """All that was seen. Processes by (name, pid): a restarted one is another."""

    processes: dict[tuple[str, int], list[OfProcess]] = field(
        default_factory=dict[tuple[str, int], list[OfProcess]]
    )
    database: list[OfDatabase] = field(default_factory=list[OfDatabase])

    async def take(self, workers: Workers, url: str, every: float) -> None:
        """Look again and again until canceled."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            at = loop.time() - began
            for name, process in workers.living().items():
                with contextlib.suppress(psutil.Error), process.oneshot():
                    look = OfProcess(
                        at, process.memory_info().rss / 1e6, process.num_fds(), process.num_threads()
                    )
                    self.processes.setdefault((name, process.pid), []).append(look)
            with contextlib.suppress(psycopg.OperationalError):
                async with await psycopg.AsyncConnection[Any].connect(url, autocommit=True) as conn:
                    row = await (await conn.execute(_DATABASE)).fetchone()
                assert row is not None
                connections, table, indexes, dead, waiting = row[:5]
                self.database.append(OfDatabase(at, connections, float(table), float(indexes), dead, waiting))
            await asyncio.sleep(every)
