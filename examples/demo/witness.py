"""What is known of the jobs, from two sides that know nothing of each other: the databases and the ledgers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow, dict_row

from examples.demo.stage import Place
from examples.demo.tasks import TASK

OPEN = ("PENDING", "DELAYED", "QUEUED", "WAITING", "EXECUTING")


class Records:
    """The job rows of one adapter, read as anybody may: plain SQL on the view ``worker_jobs``."""

    def __init__(self, conn: AsyncConnection[DictRow], schema: str) -> None:
        self._conn = conn
        self._schema = sql.Identifier(schema)

    async def rows(self, query: LiteralString, *values: Any) -> list[DictRow]:
        """Run a query with ``{s}`` for the schema."""
        cursor = await self._conn.execute(sql.SQL(query).format(s=self._schema), values)
        return await cursor.fetchall()

    async def by_status(self) -> Counter[tuple[str, str]]:
        """How many jobs there are by executor and status."""
        rows = await self.rows("SELECT executor, status, count(*) AS n FROM {s}.worker_jobs GROUP BY 1, 2")
        return Counter({(row["executor"], row["status"]): row["n"] for row in rows})

    async def jobs(self) -> list[DictRow]:
        """Every job, the oldest first."""
        return await self.rows(
            "SELECT id, data ->> 'name' AS package, executor, route_reason, status, epoch, attempt, result"
            " FROM {s}.worker_jobs WHERE type = %s ORDER BY created_at, id",
            TASK,
        )

    async def events(self) -> list[DictRow]:
        """Every line of the jobs' histories, with the package of its job."""
        return await self.rows(
            "SELECT j.data ->> 'name' AS package, e.kind, e.detail FROM {s}.job_events e"
            " JOIN {s}.worker_jobs j ON j.id = e.job_id ORDER BY e.id"
        )

    async def told(self) -> int:
        """Of how many runs a webhook has told the end."""
        rows = await self.rows(
            "SELECT count(DISTINCT job_id) AS n FROM {s}.webhook_inbox"
            " WHERE job_id IS NOT NULL AND body ->> 'type' <> 'RUN_STARTED'"
        )
        return rows[0]["n"]


@asynccontextmanager
async def records(place: Place) -> AsyncGenerator[Records]:
    """Lend a connection of our own to a side's rows."""
    conn = await AsyncConnection[DictRow].connect(place.url, autocommit=True, row_factory=dict_row)
    async with conn:
        yield Records(conn, place.schema)


def how_many(counts: Counter[tuple[str, str]], executor: str, *statuses: str) -> int:
    """Add up the jobs of an executor in any of these statuses."""
    return sum(n for (where, status), n in counts.items() if where == executor and status in statuses)


@dataclass(slots=True)
class Ledgers:
    """What the handlers themselves wrote down, by package."""

    starts: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    ends: Counter[str] = field(default_factory=Counter[str])

    @classmethod
    def read(cls, directory: Path) -> Ledgers:
        """Read every process's file."""
        ledgers = cls()
        for path in sorted(directory.glob("*.jsonl")):
            side = path.name.partition("-")[0]
            # A process that was killed may have left half a line.
            for line in path.read_text().splitlines(keepends=True):
                if not line.endswith("\n"):
                    continue
                entry = json.loads(line)
                if entry["event"] == "start":
                    ledgers.starts.setdefault(entry["package"], Counter())[side] += 1
                else:
                    ledgers.ends[entry["package"]] += 1
        return ledgers

    @property
    def on_two_executors(self) -> list[str]:
        """Packages that were started on both sides."""
        return sorted(name for name, sides in self.starts.items() if len(sides) > 1)

    @property
    def again(self) -> dict[str, int]:
        """Packages that were started more than once, and how often."""
        totals = {name: sides.total() for name, sides in self.starts.items()}
        return {name: n for name, n in sorted(totals.items()) if n > 1}
