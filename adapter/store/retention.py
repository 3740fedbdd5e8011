"""Partitions of finished jobs and the trimming of side tables.

Partitions exist for each of the next days and for the first of each of the next months; a finishing row
goes to the first one after its ``remove_at``. What is kept for longer than days is also deleted when its
own ``remove_at`` has passed, in small steps.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import date
from typing import LiteralString

import psycopg
from psycopg import sql

from adapter.store.database import Connection, Schema, fetch

logger = logging.getLogger("adapter.retention")

#: How long a drop waits for those who read what is to go.
PATIENCE_S = 2.0

_AHEAD: LiteralString = """
SELECT wanted.day::text AS day FROM (
  SELECT ((now() AT TIME ZONE 'UTC')::date + n) AS day FROM generate_series(1, 10) AS n
  UNION SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => n))::date
    FROM generate_series(1, 13) AS n
  UNION SELECT '9999-12-31'::date
) AS wanted
WHERE wanted.day NOT IN (SELECT day FROM {s}.finished_partitions) ORDER BY wanted.day
"""

_PAST: LiteralString = """
SELECT day FROM {s}.finished_partitions WHERE day <= (now() AT TIME ZONE 'UTC')::date ORDER BY day
"""

_FORGET_DAY: LiteralString = "DELETE FROM {s}.finished_partitions WHERE day = %(day)s"

_LATE_ROWS: LiteralString = """
DELETE FROM {s}.worker_jobs_finished WHERE (id, drop_on) IN (
  SELECT id, drop_on FROM {s}.worker_jobs_finished WHERE remove_at <= now()
    AND drop_on > (now() AT TIME ZONE 'UTC')::date + 1 LIMIT %(limit)s)
RETURNING id
"""

#: Each says twice what is old: a row that was renewed between the look and the lock is looked at once
#: more, but only by the outer condition.
_TRIMS: tuple[LiteralString, ...] = (
    """DELETE FROM {s}.job_keys WHERE (task, key) IN (SELECT task, key FROM {s}.job_keys
       WHERE expires_at <= now() LIMIT %(limit)s) AND expires_at <= now()""",
    """DELETE FROM {s}.remote_runs WHERE (executor, run_id) IN (SELECT executor, run_id FROM {s}.remote_runs
       WHERE ended_at < now() - interval '30 days' LIMIT %(limit)s) AND ended_at < now() - interval '30 days'""",
    """DELETE FROM {s}.webhook_inbox WHERE id IN (SELECT id FROM {s}.webhook_inbox
       WHERE received_at < now() - interval '14 days' AND state <> 'pending' LIMIT %(limit)s)
       AND received_at < now() - interval '14 days' AND state <> 'pending'""",
    """DELETE FROM {s}.job_events WHERE id IN (SELECT e.id FROM {s}.job_events e
       WHERE e.at < now() - interval '7 days' AND NOT EXISTS (SELECT FROM {s}.worker_jobs_open o WHERE o.id = e.job_id)
         AND NOT EXISTS (SELECT FROM {s}.worker_jobs_finished f WHERE f.id = e.job_id) LIMIT %(limit)s)""",
    """DELETE FROM {s}.redrives WHERE job_id IN (SELECT r.job_id FROM {s}.redrives r
       WHERE r.at < now() - interval '7 days'
         AND NOT EXISTS (SELECT FROM {s}.worker_jobs_finished f WHERE f.id = r.job_id) LIMIT %(limit)s)""",
    """DELETE FROM {s}.concurrency_keys WHERE (queue, key) IN (SELECT queue, key FROM {s}.concurrency_keys
       WHERE free_at <= now() LIMIT %(limit)s) AND free_at <= now()""",
    """DELETE FROM {s}.shadows WHERE (job_id, executor) IN (SELECT job_id, executor FROM {s}.shadows
       WHERE made_at < now() - interval '30 days' LIMIT %(limit)s)""",
    """DELETE FROM {s}.schedule_ticks WHERE (schedule_id, fire_time) IN (SELECT schedule_id, fire_time FROM {s}.schedule_ticks
    WHERE created_at < now() - interval '32 days' ORDER BY created_at LIMIT %(limit)s)""",
    """DELETE FROM {s}.packets WHERE path IN (SELECT path FROM {s}.packets
       WHERE created_at < now() - interval '30 days' LIMIT %(limit)s) AND created_at < now() - interval '30 days'""",
    """DELETE FROM {s}.bulk_action_jobs WHERE (bulk_action_id, job_id) IN (
       SELECT j.bulk_action_id, j.job_id FROM {s}.bulk_actions b JOIN {s}.bulk_action_jobs j ON j.bulk_action_id = b.id
       WHERE b.finished_at < now() - interval '30 days' LIMIT %(limit)s)""",
    """DELETE FROM {s}.bulk_actions WHERE id IN (SELECT b.id FROM {s}.bulk_actions b
       WHERE b.finished_at < now() - interval '30 days'
         AND NOT EXISTS (SELECT FROM {s}.bulk_action_jobs j WHERE j.bulk_action_id = b.id) LIMIT %(limit)s)""",
    """DELETE FROM {s}.forwarded_requests WHERE (day, endpoint, task) IN (SELECT day, endpoint, task FROM {s}.forwarded_requests
       WHERE day < now() - interval '90 days' LIMIT %(limit)s)""",
    """DELETE FROM {s}.wait_tokens WHERE id IN (SELECT id FROM {s}.wait_tokens
       WHERE ended_at < now() - interval '30 days' LIMIT %(limit)s) AND ended_at < now() - interval '30 days'""",
    """DELETE FROM {s}.spent_tokens WHERE token IN (SELECT token FROM {s}.spent_tokens
       WHERE expires_at < now() LIMIT %(limit)s)""",
    # Nobody completes a batch any more that has waited so long for its items.
    """UPDATE {s}.batches SET status = 'ABORTED', finished_at = now(), updated_at = now(), idempotency_key = NULL,
       request_key = NULL WHERE id IN (SELECT id FROM {s}.batches WHERE sealed_at IS NULL AND status = 'PENDING'
       AND created_at <= now() - interval '1 hour' LIMIT %(limit)s) AND sealed_at IS NULL""",
    """DELETE FROM {s}.batch_items WHERE (batch_id, place) IN (SELECT i.batch_id, i.place FROM {s}.batch_items i
       JOIN {s}.batches b ON b.id = i.batch_id WHERE b.status = 'ABORTED' LIMIT %(limit)s)""",
    """DELETE FROM {s}.batches WHERE id IN (SELECT b.id FROM {s}.batches b
       WHERE b.created_at < now() - interval '30 days' AND NOT EXISTS (
         SELECT FROM unnest(b.run_ids) AS r(id) JOIN {s}.worker_jobs_open o ON o.id = r.id) LIMIT %(limit)s)""",
    # What nobody could be told for so long is a dead letter, whatever kept it: a receiver that was left alone, or none.
    """UPDATE {s}.webhook_deliveries SET state = 'dead', settled_at = now(), error = COALESCE(error, 'it waited for 3 days')
       WHERE id IN (SELECT id FROM {s}.webhook_deliveries WHERE state = 'pending' AND next_at < now() - interval '1 minute'
         AND created_at < now() - interval '3 days' LIMIT %(limit)s FOR UPDATE SKIP LOCKED)""",
    """DELETE FROM {s}.webhook_deliveries WHERE id IN (SELECT id FROM {s}.webhook_deliveries
       WHERE state = 'delivered' AND settled_at < now() - interval '1 day' LIMIT %(limit)s)""",
    """DELETE FROM {s}.webhook_deliveries WHERE id IN (SELECT id FROM {s}.webhook_deliveries
       WHERE state = 'dead' AND settled_at < now() - interval '30 days' LIMIT %(limit)s) AND state = 'dead'""",
    # The jobs of a recall go with it, a part at a time; the last part takes it along.
    """DELETE FROM {s}.recall_jobs WHERE (recall_id, job_id) IN (
       SELECT j.recall_id, j.job_id FROM {s}.recalls r JOIN {s}.recall_jobs j ON j.recall_id = r.id
       WHERE r.finished_at < now() - interval '90 days' LIMIT %(limit)s)""",
    """DELETE FROM {s}.recalls WHERE id IN (SELECT r.id FROM {s}.recalls r WHERE r.finished_at < now() - interval '90 days'
         AND NOT EXISTS (SELECT FROM {s}.recall_jobs j WHERE j.recall_id = r.id) LIMIT %(limit)s)""",
)


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """What one pass did."""

    made: list[str]
    dropped: list[str]
    deleted: int


def partition_name(day: date | str) -> str:
    """Return the name of the partition for a drop day."""
    return f"worker_jobs_finished_{str(day).replace('-', '')}"


async def upkeep(conn: Connection, schema: Schema, limit: int = 1000) -> RetentionReport:
    """Make partitions ahead, drop those whose day has come, trim what has outlived its use.

    A partition that somebody is reading is left for the next pass. ``conn`` is in no transaction.
    """
    made: list[str] = []
    for row in await fetch(conn, schema, _AHEAD):
        made += await _make(conn, schema, row["day"])
    dropped: list[str] = []
    for row in await fetch(conn, schema, _PAST):
        dropped += await _drop(conn, schema, row["day"])
    deleted = 0
    for trim in (_LATE_ROWS, *_TRIMS):
        deleted += (await conn.execute(schema.sql(trim), {"limit": limit})).rowcount
    return RetentionReport(made, dropped, deleted)


async def _make(conn: Connection, schema: Schema, day: str) -> list[str]:
    statement = sql.SQL("SELECT {}.make_finished_partition({}::date)").format(
        sql.Identifier(schema.name), sql.Literal(day)
    )
    try:
        async with conn.transaction():
            await conn.execute("SET LOCAL lock_timeout = '2s'")
            await conn.execute(statement)
    except (psycopg.errors.DuplicateTable, psycopg.errors.UniqueViolation):
        # Another process was faster.
        return []
    except psycopg.errors.LockNotAvailable:
        logger.warning("partition %s was not made: the table is locked; it is tried again", day)
        return []
    return [day]


async def _drop(conn: Connection, schema: Schema, day: date) -> list[str]:
    table = sql.Identifier(schema.name, partition_name(day))
    parent = sql.Identifier(schema.name, "worker_jobs_finished")
    try:
        # The clock is here and not a lock timeout: behind a pooler a setting of the session would stay with a stranger, and
        # in a transaction, the only other place for one, nothing is detached concurrently.
        async with asyncio.timeout(PATIENCE_S):
            try:
                detach = sql.SQL("ALTER TABLE {} DETACH PARTITION {} CONCURRENTLY").format(parent, table)
                await conn.execute(detach)
            except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.InvalidTableDefinition):
                finalize = sql.SQL("ALTER TABLE {} DETACH PARTITION {} FINALIZE").format(parent, table)
                await conn.execute(finalize)
            except psycopg.errors.UndefinedTable:
                logger.info("partition %s was detached before", day)
            await conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
            await fetch(conn, schema, _FORGET_DAY, {"day": day})
    except (
        TimeoutError,
        psycopg.errors.LockNotAvailable,
        psycopg.errors.ObjectNotInPrerequisiteState,
    ):
        logger.warning("partition %s was not dropped: somebody reads it; it is tried again", day)
        return []
    return [str(day)]
