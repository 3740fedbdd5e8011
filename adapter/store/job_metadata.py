"""What handlers say of their jobs while they run: keys of ``metadata``, written in batches, fenced."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString
from uuid import UUID

from adapter.domain.outcome import Lease
from adapter.store.database import Connection, Schema, fetch

#: Locked in the order of ids, all that the caller's transaction will touch: what comes after it is one order.
_WRITE: LiteralString = """
WITH want AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(
    id uuid, epoch int, worker_id uuid, claim_number bigint, changed jsonb, removed jsonb)
), held AS MATERIALIZED (
  SELECT id FROM {s}.worker_jobs_open WHERE id = ANY(%(ids)s::uuid[]) ORDER BY id FOR UPDATE
)
UPDATE {s}.worker_jobs_open o SET updated_at = now(), metadata =
  (COALESCE(o.metadata, '{}') - ARRAY(SELECT jsonb_array_elements_text(w.removed))) || w.changed
FROM held JOIN want w USING (id)
WHERE o.id = held.id AND o.epoch = w.epoch AND o.worker_id = w.worker_id
  AND o.claim_number = w.claim_number AND o.status = 'EXECUTING'
RETURNING o.id
"""


@dataclass(frozen=True, slots=True)
class MetadataPatch:
    """The keys of ``metadata`` that a try has changed so far, and those it took away. Others stay."""

    job_id: UUID
    epoch: int
    lease: Lease
    changed: dict[str, Any] = field(default_factory=dict[str, Any])
    removed: tuple[str, ...] = ()


async def write_metadata(
    conn: Connection, schema: Schema, patches: Sequence[MetadataPatch], also: Sequence[UUID] = ()
) -> set[UUID]:
    """Write patches of jobs that are still held; returns which those were.

    ``also``: jobs that the transaction of ``conn`` will write next, locked now.
    """
    rows = [
        {
            "id": str(each.job_id),
            "epoch": each.epoch,
            "worker_id": str(each.lease.worker_id),
            "claim_number": each.lease.claim_number,
            "changed": each.changed,
            "removed": each.removed,
        }
        for each in patches
    ]
    parameters = {
        "rows": json.dumps(rows, allow_nan=False, separators=(",", ":")),
        "ids": [*(each.job_id for each in patches), *also],
    }
    return {row["id"] for row in await fetch(conn, schema, _WRITE, parameters)}
