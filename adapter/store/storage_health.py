"""How the tables fare: dead rows, vacuum, and what holds vacuum back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString

from adapter.store.database import Connection, Schema, fetch

#: Tables whose rows are rewritten all the time.
HOT = (
    "worker_jobs_open",
    "workers",
    "job_queues",
    "concurrency_keys",
    "leases",
    "remote_budgets",
    "job_keys",
    "job_events",
)

_TABLES: LiteralString = """
SELECT t.relname AS name, t.n_live_tup AS live, t.n_dead_tup AS dead,
  pg_indexes_size(t.relid) AS index_bytes,
  now() - greatest(t.last_autovacuum, t.last_vacuum) AS vacuumed_ago
FROM pg_stat_user_tables t WHERE t.schemaname = %(schema)s AND t.relname = ANY(%(tables)s) ORDER BY t.relname
"""

_AUTOVACUUM: LiteralString = """
SELECT current_setting('autovacuum') = 'on' AND current_setting('track_counts') = 'on' AS is_on,
  ARRAY(SELECT c.relname::text FROM pg_class c
    WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.reloptions && ARRAY['autovacuum_enabled=false', 'autovacuum_enabled=off']
    ORDER BY 1) AS off_for
"""

_HOLDING: LiteralString = """
SELECT 'prepared transaction' AS kind, gid AS name, age(transaction) AS xids, now() - prepared AS since
FROM pg_prepared_xacts WHERE database = current_database() AND prepared < now() - %(age)s::interval
UNION ALL
SELECT 'replication slot', slot_name::text, age(xmin), NULL FROM pg_replication_slots
WHERE xmin IS NOT NULL AND (NOT active OR age(xmin) > %(xids)s)
UNION ALL
SELECT 'standby', COALESCE(NULLIF(application_name, ''), client_addr::text, 'unnamed'), age(backend_xmin), NULL
FROM pg_stat_replication WHERE age(backend_xmin) > %(xids)s
ORDER BY xids DESC LIMIT 5
"""

_SILENT: LiteralString = """
SELECT count(*) AS silent, COALESCE(sum(held.jobs), 0)::bigint AS jobs FROM {s}.workers w
CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM {s}.worker_jobs_open o
  WHERE o.worker_id = w.id AND o.status = 'EXECUTING' AND o.executor = 'local') AS held
WHERE w.seen_at < now() - 2 * w.lease
"""

_UNRUNNABLE: LiteralString = """
SELECT type AS task, count(*) AS jobs FROM {s}.worker_jobs_open
WHERE status = 'WAITING' AND waiting_for = 'executor' AND executor = 'local' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5
"""


@dataclass(frozen=True, slots=True)
class TableHealth:
    """A table by its statistics. ``vacuumed_ago``: None if never."""

    name: str
    live: int
    dead: int
    index_bytes: int
    vacuumed_ago: timedelta | None


@dataclass(frozen=True, slots=True)
class Autovacuum:
    """Whether autovacuum works, and the tables of ours for which it was turned off."""

    is_on: bool
    off_for: list[str]


@dataclass(frozen=True, slots=True)
class Holding:
    """What keeps dead rows alive: a prepared transaction, a replication slot, a standby."""

    kind: str
    name: str
    xids: int
    since: timedelta | None


@dataclass(frozen=True, slots=True)
class Silent:
    """Workers that were not heard of for two leases, and how many jobs they still hold."""

    silent: int
    jobs: int


async def tables(conn: Connection, schema: Schema) -> list[TableHealth]:
    """Return the hot tables."""
    rows = await fetch(conn, schema, _TABLES, {"schema": schema.name, "tables": list(HOT)})
    return [TableHealth(**row) for row in rows]


async def autovacuum(conn: Connection, schema: Schema) -> Autovacuum:
    """Return whether somebody cleans up."""
    return Autovacuum(**(await fetch(conn, schema, _AUTOVACUUM, {"schema": schema.name}))[0])


async def holding(conn: Connection, schema: Schema, *, older_than: timedelta, xids: int) -> list[Holding]:
    """Return what holds vacuum back beside open transactions."""
    rows = await fetch(conn, schema, _HOLDING, {"age": older_than, "xids": xids})
    return [Holding(**row) for row in rows]


async def silent(conn: Connection, schema: Schema) -> Silent:
    """Return how many workers fell silent, and what they hold."""
    return Silent(**(await fetch(conn, schema, _SILENT))[0])


async def unrunnable(conn: Connection, schema: Schema) -> dict[str, int]:
    """Return tasks whose jobs wait for a worker that has a handler, with how many there are."""
    return {row["task"]: row["jobs"] for row in await fetch(conn, schema, _UNRUNNABLE)}
