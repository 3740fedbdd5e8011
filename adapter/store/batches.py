"""Batches: opened once per key, held item by item until they are complete, and looked at in one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from adapter.domain.batch import ABANDONED_AFTER, Batch, BatchStatus
from adapter.domain.job import Job
from adapter.store.database import Connection, Schema, fetch
from adapter.store.finishing import ending
from adapter.store.rows import job_from_row
from adapter.store.steps import Row

_OPEN: LiteralString = """
INSERT INTO {s}.batches (id, run_count, status, idempotency_key, key_expires_at, request_key, parent_id, detail)
VALUES (%(id)s, %(run_count)s, 'PENDING', %(key)s, now() + %(key_ttl)s::interval, %(request_key)s, %(parent_id)s,
  %(detail)s)
ON CONFLICT DO NOTHING RETURNING *
"""

#: A key holds while its time runs and the batch may still become one.
_BY_REQUEST: LiteralString = "request_key = %(request_key)s AND created_at > now() - interval '24 hours'"
_BY_KEY: LiteralString = """idempotency_key = %(key)s AND key_expires_at > now() AND status <> 'ABORTED'
    AND (sealed_at IS NOT NULL
      OR created_at > now() - %(abandoned)s::interval AND run_count = %(run_count)s)"""

_HOLDERS: LiteralString = (
    "SELECT *, "
    + _BY_REQUEST
    + " AS by_request, "
    + _BY_KEY
    + """ AS by_key
FROM {s}.batches WHERE request_key = %(request_key)s OR idempotency_key = %(key)s
ORDER BY request_key = %(request_key)s DESC NULLS LAST
"""
)

#: Asked once more in the write: meanwhile it may have been completed.
_FREE: LiteralString = (
    """
UPDATE {s}.batches SET updated_at = now(),
  request_key = CASE WHEN request_key = %(request_key)s THEN NULL ELSE request_key END,
  idempotency_key = CASE WHEN idempotency_key = %(key)s THEN NULL ELSE idempotency_key END
WHERE id = ANY(%(ids)s) AND NOT COALESCE("""
    + _BY_REQUEST
    + ", false) AND NOT COALESCE("
    + _BY_KEY
    + ", false)"
)

_LOCK: LiteralString = """
SELECT *, sealed_at IS NULL AND created_at <= now() - %(abandoned)s::interval AS abandoned
FROM {s}.batches WHERE id = %(id)s FOR UPDATE
"""
_PLACES: LiteralString = "SELECT place FROM {s}.batch_items WHERE batch_id = %(id)s"
_HOLD: LiteralString = """
INSERT INTO {s}.batch_items (batch_id, place, item)
SELECT %(id)s, p, i FROM unnest(%(places)s::int[], %(items)s::text[]) AS u(p, i)
"""
_TAKE: LiteralString = """
SELECT place, item FROM {s}.batch_items WHERE batch_id = %(id)s AND place > %(after)s ORDER BY place LIMIT %(limit)s
"""
_FORGET: LiteralString = "DELETE FROM {s}.batch_items WHERE batch_id = %(id)s"

_SEAL: LiteralString = """
UPDATE {s}.batches SET sealed_at = now(), updated_at = now(), run_ids = %(run_ids)s::uuid[], errors = %(errors)s,
  status = %(status)s, finished_at = CASE WHEN %(status)s = 'ABORTED' THEN now() END
WHERE id = %(id)s RETURNING *
"""

#: The jobs are looked up one by one until one is open. They were made with the batch, so that one that is not open has ended.
_GET: LiteralString = """
SELECT b.*, b.sealed_at IS NULL AND b.created_at <= now() - %(abandoned)s::interval AS abandoned,
  b.sealed_at IS NOT NULL AND b.finished_at IS NULL AND NOT EXISTS (
    SELECT FROM unnest(b.run_ids) AS r(id) JOIN {s}.worker_jobs_open o ON o.id = r.id) AS has_ended
FROM {s}.batches b WHERE b.id = %(id)s
"""

_END: LiteralString = """
UPDATE {s}.batches SET finished_at = now(), updated_at = now(),
  status = CASE WHEN status = 'PENDING' THEN 'COMPLETED' ELSE status END
WHERE id = %(id)s AND finished_at IS NULL RETURNING *
"""

_FAIL: LiteralString = """
WITH gone AS (
  DELETE FROM {s}.worker_jobs_open WHERE id = ANY(%(ids)s) RETURNING *
)""" + ending(
    "'SYSTEM_FAILURE'",
    name="PayloadTooLarge",
    message="The item was larger than a batch takes. Store its payload first, and send where it lies.",
)


async def put(conn: Connection, schema: Schema, values: Mapping[str, Any]) -> Batch | None:
    """Open a batch; returns the one that holds its request key or key, None when that has just been freed."""
    parameters = {**values, "detail": Jsonb(values["detail"]), "abandoned": ABANDONED_AFTER}
    rows = await fetch(conn, schema, _OPEN, parameters)
    if rows:
        return _batch(rows[0])
    holders = await fetch(conn, schema, _HOLDERS, parameters)
    for row in holders:
        if row["by_request"]:
            return _batch(row)
        if row["by_key"]:
            # Nobody else would ever complete it: whoever repeats the call may.
            return _batch(row, deduplicated=row["sealed_at"] is not None)
    await fetch(conn, schema, _FREE, {**parameters, "ids": [row["id"] for row in holders]})
    return None


async def lock(conn: Connection, schema: Schema, batch_id: UUID) -> Batch | None:
    """Return the batch, and keep everybody else from adding to it until the transaction ends."""
    rows = await fetch(conn, schema, _LOCK, {"id": batch_id, "abandoned": ABANDONED_AFTER})
    return _batch(rows[0]) if rows else None


async def places(conn: Connection, schema: Schema, batch_id: UUID) -> set[int]:
    """Return the places of the items that are held."""
    return {row["place"] for row in await fetch(conn, schema, _PLACES, {"id": batch_id})}


async def hold(conn: Connection, schema: Schema, batch_id: UUID, items: Mapping[int, str]) -> None:
    """Hold items of a locked batch until the others have come."""
    await fetch(conn, schema, _HOLD, {"id": batch_id, "places": list(items), "items": list(items.values())})


async def held(conn: Connection, schema: Schema, batch_id: UUID, after: int, limit: int) -> dict[int, str]:
    """Return the next items that are held, by place."""
    rows = await fetch(conn, schema, _TAKE, {"id": batch_id, "after": after, "limit": limit})
    return {row["place"]: row["item"] for row in rows}


async def seal(
    conn: Connection,
    schema: Schema,
    batch_id: UUID,
    run_ids: Sequence[UUID | None],
    errors: Sequence[Mapping[str, Any]],
    *,
    had_held: bool,
) -> Batch:
    """Write down what the items have come to; there will be no others."""
    if had_held:
        await fetch(conn, schema, _FORGET, {"id": batch_id})
    made = sum(each is not None for each in run_ids)
    status = BatchStatus.PENDING if made == len(run_ids) else BatchStatus.PARTIAL_FAILED
    parameters: dict[str, Any] = {
        "id": batch_id,
        "run_ids": list(run_ids),
        "errors": Jsonb(list(errors)) if errors else None,
        "status": status if made else BatchStatus.ABORTED,
    }
    rows = await fetch(conn, schema, _SEAL, parameters)
    return _batch(rows[0])


async def get(conn: Connection, schema: Schema, batch_id: UUID) -> Batch | None:
    """Return the batch, or None."""
    rows = await fetch(conn, schema, _GET, {"id": batch_id, "abandoned": ABANDONED_AFTER})
    if rows and rows[0]["has_ended"]:
        # Looked at no more.
        rows = await fetch(conn, schema, _END, {"id": batch_id}) or rows
    return _batch(rows[0]) if rows else None


async def fail(conn: Connection, schema: Schema, ids: Sequence[UUID]) -> list[Job]:
    """End jobs of this transaction that stand for items too large to be kept."""
    return [job_from_row(row) for row in await fetch(conn, schema, _FAIL, {"ids": list(ids)})]


def _batch(row: Row, *, deduplicated: bool = False) -> Batch:
    return Batch(
        id=row["id"],
        run_count=row["run_count"],
        status=BatchStatus.ABORTED if row.get("abandoned") else BatchStatus(row["status"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        sealed_at=row["sealed_at"],
        run_ids=tuple(row["run_ids"] or ()),
        errors=tuple(row["errors"] or ()),
        idempotency_key=row["idempotency_key"],
        request_key=row["request_key"],
        parent_id=row["parent_id"],
        detail=row["detail"] or {},
        deduplicated=deduplicated,
    )
