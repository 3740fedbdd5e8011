"""The limits: what psycopg and PostgreSQL do on a table of four columns, with nothing of ours in between."""

from __future__ import annotations

import json
import time
from typing import LiteralString

from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from bench.ground import Ground, Sample, Sizes

_TABLES: LiteralString = """
CREATE TABLE raw_open (id uuid PRIMARY KEY, status text NOT NULL, type text NOT NULL, data jsonb);
CREATE TABLE raw_finished (LIKE raw_open INCLUDING ALL);
CREATE INDEX raw_queue ON raw_open (id) WHERE status = 'QUEUED';
"""
_INSERT: LiteralString = "INSERT INTO raw_open VALUES (%s, 'QUEUED', 'noop', %s)"
_INSERT_MANY: LiteralString = """
INSERT INTO raw_open SELECT id, 'QUEUED', 'noop', '{}' FROM jsonb_to_recordset(%s::jsonb) AS r(id uuid)
"""
_CLAIM: LiteralString = """
UPDATE raw_open SET status = 'EXECUTING' WHERE id IN (
  SELECT id FROM raw_open WHERE status = 'QUEUED' ORDER BY id LIMIT 50 FOR UPDATE SKIP LOCKED) RETURNING *
"""
_FINISH: LiteralString = """
WITH gone AS (DELETE FROM raw_open WHERE id = ANY(%s) RETURNING *)
INSERT INTO raw_finished SELECT id, 'COMPLETED', type, data FROM gone
"""


async def measure(ground: Ground, sizes: Sizes) -> list[Sample]:
    with ground.database() as url:
        async with ground.connection(url) as conn:
            await conn.execute(_TABLES)
            began = time.perf_counter()
            for _ in range(sizes.singles):
                await conn.execute(_INSERT, [uuid7(), Jsonb({})])
            single = sizes.singles / (time.perf_counter() - began)
            began = time.perf_counter()
            for start in range(0, sizes.bulk, 1000):
                count = min(1000, sizes.bulk - start)
                await conn.execute(_INSERT_MANY, [json.dumps([{"id": str(uuid7())} for _ in range(count)])])
            bulk = sizes.bulk / (time.perf_counter() - began)
            total = sizes.singles + sizes.bulk
            began = time.perf_counter()
            while rows := await (await conn.execute(_CLAIM)).fetchall():
                await conn.execute(_FINISH, [[row["id"] for row in rows]])
            drain = total / (time.perf_counter() - began)
    return [
        Sample("raw: INSERT and commit, one by one", single, "rows/s"),
        Sample("raw: INSERT, 1000 per statement", bulk, "rows/s"),
        Sample("raw: claim 50, finish 50, again", drain, "rows/s"),
    ]
