"""Writing many jobs that differ in nothing but id and payload, the next statement while the one before is carried out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from uuid_utils import uuid7

from adapter.domain.job import NewJob
from adapter.store.database import Schema
from adapter.store.direct import Direct
from adapter.store.inserting import MOST_ROWS, insert_statement
from adapter.store.job_columns import Shape, shaped_alike

_Part = tuple[Shape, Mapping[str, Any]]


async def insert_alike(
    conn: Direct,
    schema: Schema,
    like: NewJob,
    payloads: Sequence[bytes],
    flags_version: int,
    *,
    then: Callable[[Sequence[bytes]], object],
) -> datetime | None:
    """Insert a plain job like this one for each payload, all of them or none; return when.

    None, and nothing is written: the flags are no longer those of ``flags_version``, or the session has
    forgotten the statement. ``then`` is called with the ids once all is sent, while PostgreSQL is still busy.
    """
    ids: list[bytes] = []
    parts = _parts(like, payloads, flags_version, ids)
    following: list[_Part] = []

    def go_on() -> None:
        part = next(parts, None)
        if part is None:
            then(ids)
        else:
            following.append(part)

    if len(payloads) <= MOST_ROWS:
        go_on()
        return await _insert(conn, schema, following.pop(), go_on)
    at: datetime | None = None
    await conn.run("BEGIN", {}, go_on)
    while following:
        at = await _insert(conn, schema, following.pop(), go_on)
        if at is None:
            break
    await conn.run("ROLLBACK" if at is None else "COMMIT", {})
    return at


def _parts(like: NewJob, payloads: Sequence[bytes], flags_version: int, ids: list[bytes]) -> Iterator[_Part]:
    """Write the parts down, one at a time; their ids are added to ``ids``."""
    for start in range(0, len(payloads), MOST_ROWS):
        part = payloads[start : start + MOST_ROWS]
        ids += [uuid7().bytes for _ in part]
        shape, parameters = shaped_alike(like, ids[start:], part)
        yield shape, parameters | {"flags_version": flags_version}


async def _insert(
    conn: Direct, schema: Schema, part: _Part, meanwhile: Callable[[], object]
) -> datetime | None:
    shape, parameters = part
    try:
        result = await conn.run_once(schema.sql(insert_statement(shape)), parameters, meanwhile)
    except psycopg.errors.InvalidSqlStatementName:
        return None
    (row,) = conn.mapped(result)
    return row["at"] if row["written"] else None
