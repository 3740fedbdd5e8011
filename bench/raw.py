"""The limits: what psycopg and PostgreSQL do with nothing of ours in between, on narrow rows and on ours."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from bench.contenders import RAW, Contender
from bench.draining import RAW_DRAIN
from bench.ground import Ground, Sizes
from bench.samples import Sample


def connections(count: int) -> str:
    return "1 connection" if count == 1 else f"{count} connections"


SINGLE = {count: f"INSERT and commit, 4 columns, {connections(count)}" for count in (1, 10)}
SINGLE_WIDE = {count: f"INSERT and commit, our row, {connections(count)}" for count in (1, 10)}
BULK = "INSERT, 1000 per statement, 4 columns"

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
  SELECT id FROM raw_open WHERE status = 'QUEUED' ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED) RETURNING *
"""
_FINISH: LiteralString = """
WITH gone AS (DELETE FROM raw_open WHERE id = ANY(%s) RETURNING *)
INSERT INTO raw_finished SELECT id, 'COMPLETED', type, data FROM gone
"""


def measure(ground: Ground, sizes: Sizes, _: Sequence[Contender]) -> list[Sample]:
    return asyncio.run(_measure(ground, sizes))


async def _measure(ground: Ground, sizes: Sizes) -> list[Sample]:
    found: dict[str, float] = {}
    with ground.database() as url:
        async with ground.connection(url) as conn:
            await conn.execute(_TABLES)
            statements = {SINGLE[1]: (sql.SQL(_INSERT), 1), SINGLE[10]: (sql.SQL(_INSERT), 10)}
            bare = await _our_insert(ground, url, conn)
            statements |= {SINGLE_WIDE[1]: (bare, 1), SINGLE_WIDE[10]: (bare, 10)}
            for name, (statement, count) in statements.items():
                found[name] = await _rate(url, statement, count, sizes.singles * count // 2)
            await conn.execute("TRUNCATE raw_open")
            began = time.perf_counter()
            for start in range(0, sizes.bulk, 1000):
                count = min(1000, sizes.bulk - start)
                await conn.execute(_INSERT_MANY, [json.dumps([{"id": str(uuid7())} for _ in range(count)])])
            found[BULK] = sizes.bulk / (time.perf_counter() - began)
            await conn.execute("VACUUM ANALYZE raw_open")
            began = time.perf_counter()
            while rows := await (await conn.execute(_CLAIM)).fetchall():
                await conn.execute(_FINISH, [[row["id"] for row in rows]])
            found[RAW_DRAIN] = sizes.bulk / (time.perf_counter() - began)
    return [Sample(name, value, "rows/s", RAW) for name, value in found.items()]


async def _rate(url: str, statement: sql.Composable, count: int, rows: int) -> float:
    numbers = iter(range(rows))

    async def lane(conn: AsyncConnection[DictRow]) -> None:
        for number in numbers:
            await conn.execute(statement, [uuid7(), Jsonb({"i": number})])

    lanes = [await AsyncConnection[Any].connect(url, autocommit=True) for _ in range(count)]
    try:
        for conn in lanes:
            conn.prepare_threshold = 0
            await conn.execute(statement, [uuid7(), Jsonb({})])
        began = time.perf_counter()
        await asyncio.gather(*[lane(conn) for conn in lanes])
        return rows / (time.perf_counter() - began)
    finally:
        for conn in lanes:
            await conn.close()


async def _our_insert(ground: Ground, url: str, conn: AsyncConnection[DictRow]) -> sql.Composable:
    """The INSERT of a row that a real call has written, its constants in the statement's text."""
    async with ground.adapter(url) as adapter:
        handle = await adapter.schedule_job("noop", {"i": 0})
    columns = await conn.execute(
        "SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute"
        " WHERE attrelid = 'adapter.worker_jobs_open'::regclass AND attnum > 0 AND NOT attisdropped"
        " AND attgenerated = '' AND attname NOT IN ('id', 'data', 'seq')"
    )
    types = {row["name"]: row["type"] for row in await columns.fetchall()}
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in types)
    row = await (
        await conn.execute(
            sql.SQL("SELECT {} FROM adapter.worker_jobs_open WHERE id = %s").format(texts), [handle.id]
        )
    ).fetchone()
    assert row is not None
    kept = [name for name in types if row[name] is not None]
    return sql.SQL("INSERT INTO adapter.worker_jobs_open (id, data, {}) VALUES (%s, %s, {})").format(
        sql.SQL(", ").join(map(sql.Identifier, kept)),
        sql.SQL(", ").join(sql.SQL("{}::{}").format(row[name], sql.SQL(types[name])) for name in kept),
    )
