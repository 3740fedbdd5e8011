"""What a doctor asks the database: its settings, and what has been waiting for too long."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString

from psycopg import AsyncConnection, sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row

from adapter.domain.clock import Clock
from adapter.store.database import Connection, DatabaseConfig, Schema, fetch

_SERVER: LiteralString = """
SELECT current_setting('server_version_num')::int AS version_num, current_setting('server_version') AS version,
  current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync,
  clock_timestamp() AS now
"""

_LONG_TRANSACTIONS: LiteralString = """
SELECT pid, COALESCE(application_name, '') AS application, state, clock_timestamp() - xact_start AS age
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - %(age)s::interval
  AND backend_type = 'client backend'
ORDER BY xact_start LIMIT 5
"""

_BACKLOG: LiteralString = """
SELECT
  (SELECT count(*) FROM {s}.webhook_inbox WHERE state = 'dead') AS dead_letters,
  (SELECT count(*) FROM {s}.finished_partitions
    WHERE day > (now() AT TIME ZONE 'UTC')::date AND day <= (now() AT TIME ZONE 'UTC')::date + 10) AS days_ahead,
  (SELECT count(*) FROM {s}.worker_jobs_open WHERE submit_state = 'unknown'
    AND first_try_at < now() - interval '20 hours') AS stuck,
  (SELECT now() - min(updated_at) FROM {s}.worker_jobs_open
    WHERE status = 'QUEUED' AND executor = 'local') AS oldest_ready,
  (SELECT now() - min(updated_at) FROM {s}.worker_jobs_open
    WHERE status = 'PENDING' AND submit_state = 'never') AS oldest_pending,
  (SELECT count(*) FROM {s}.workers WHERE seen_at > now() - lease) AS workers
"""

_ENVIRONMENTS: LiteralString = """
SELECT executor, remote_environment AS environment, count(*) AS jobs FROM {s}.worker_jobs_open
WHERE executor <> 'local' GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Server:
    """The server. ``skew``: how far its clock is ahead of ours, give or take half of ``round_trip``."""

    version_num: int
    version: str
    synchronous_commit: str
    fsync: str
    skew: timedelta
    round_trip: timedelta


@dataclass(frozen=True, slots=True)
class LongTransaction:
    """A transaction that has been open for long: it keeps vacuum from its work."""

    pid: int
    application: str
    state: str | None
    age: timedelta


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits. ``days_ahead``: partitions made for the coming 10 days. ``stuck``: uncertain for 20 h."""

    dead_letters: int
    days_ahead: int
    stuck: int
    oldest_ready: timedelta | None
    oldest_pending: timedelta | None
    workers: int


@dataclass(frozen=True, slots=True)
class Held:
    """How many open jobs an executor holds in which of its environments; None: submitted nowhere yet."""

    executor: str
    environment: str | None
    jobs: int


async def connect(config: DatabaseConfig) -> Connection:
    """Open a connection outside of any pool: a pool would try again where this says what is wrong."""
    return await AsyncConnection[DictRow].connect(
        make_conninfo(config.conninfo, application_name="adapter doctor"),
        autocommit=True,
        row_factory=dict_row,
        prepare_threshold=None,
    )


async def server(conn: Connection, schema: Schema, clock: Clock) -> Server:
    """Return what the server is and how its clock goes."""
    began = clock.now()
    row = (await fetch(conn, schema, _SERVER))[0]
    ended = clock.now()
    middle = began + (ended - began) / 2
    return Server(skew=row.pop("now") - middle, round_trip=ended - began, **row)


async def hears(config: DatabaseConfig, within_s: float = 2.0) -> bool:
    """Whether a notification gets from one connection to another: it does not through every pooler."""
    channel = f"adapter_doctor_{secrets.token_hex(6)}"
    async with await connect(config) as listener, await connect(config) as other:
        await listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        await other.execute("SELECT pg_notify(%s, '')", [channel])
        async for _ in listener.notifies(timeout=within_s, stop_after=1):
            return True
    return False


async def long_transactions(conn: Connection, schema: Schema, older_than: timedelta) -> list[LongTransaction]:
    """Return the oldest transactions of this database."""
    rows = await fetch(conn, schema, _LONG_TRANSACTIONS, {"age": older_than})
    return [LongTransaction(**row) for row in rows]


async def backlog(conn: Connection, schema: Schema) -> Backlog:
    """Return what waits."""
    return Backlog(**(await fetch(conn, schema, _BACKLOG))[0])


async def held(conn: Connection, schema: Schema) -> list[Held]:
    """Return which executors hold open jobs, by environment."""
    return [Held(**row) for row in await fetch(conn, schema, _ENVIRONMENTS)]
