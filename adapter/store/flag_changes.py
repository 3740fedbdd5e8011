"""Turning flags, and turning them back. Every change moves the version, needs a reason, and is written down."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from adapter.domain.errors import ChangeNotFoundError, FlagConflictError, InvalidArgumentError
from adapter.store.database import Connection, Schema, fetch
from adapter.store.executor_health import FORGET
from adapter.store.finalizations import refuse_finalized
from adapter.store.steps import Row

# Locks all flags until the end of the transaction.
_LOCK: LiteralString = "UPDATE {s}.flags_state SET version = version + 1 RETURNING version"
_GET: LiteralString = """
SELECT * FROM {s}.executor_flags WHERE kind = %(kind)s AND task = %(task)s
  AND (%(kind)s = 'kill' OR executor = %(executor)s)
"""
_DELETE: LiteralString = """
DELETE FROM {s}.executor_flags WHERE kind = %(kind)s AND task = %(task)s
  AND (%(kind)s = 'kill' OR executor = %(executor)s)
"""
_SET: LiteralString = """
INSERT INTO {s}.executor_flags (kind, task, executor, percent, salt, hash_by, detail, version, reason, actor)
VALUES (%(kind)s, %(task)s, %(executor)s, %(percent)s, %(salt)s, %(hash_by)s, %(detail)s, %(version)s, %(reason)s, %(actor)s)
RETURNING *
"""
_SALT: LiteralString = """
SELECT after ->> 'salt' AS salt FROM {s}.flag_changes
WHERE kind = %(kind)s AND task = %(task)s AND executor = %(executor)s AND after ? 'salt' ORDER BY id DESC LIMIT 1
"""
_NOTE: LiteralString = """
INSERT INTO {s}.flag_changes (actor, source, kind, task, executor, before, after, reason, version)
VALUES (%(actor)s, %(source)s, %(kind)s, %(task)s, %(executor)s, %(before)s, %(after)s, %(reason)s, %(version)s)
RETURNING *
"""
_CHANGE: LiteralString = "SELECT * FROM {s}.flag_changes WHERE id = %(id)s"
_LATEST: LiteralString = """
SELECT id, actor FROM {s}.flag_changes WHERE kind = %(kind)s AND task = %(task)s
  AND (kind = 'kill' OR executor = %(executor)s) ORDER BY id DESC LIMIT 1
"""
#: The kinds that send jobs to their executor.
_SENDS = frozenset({"kill", "rollout", "shadow"})
#: What a flag says; the rest is who said it.
_SAYS = ("executor", "percent", "salt", "hash_by", "detail")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagChange:
    """One line of the audit, ``flag-{id}``. ``before`` and ``after`` are the flag's columns, None where there was no flag.

    ``version`` is what a guarded change of the flag names next.
    """

    id: int
    at: datetime
    kind: str
    task: str
    executor: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str
    actor: str
    source: str
    version: int


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes a flag, from where (``api``, ``cli``, ``http``), and why.

    Raises:
        InvalidArgumentError: without a reason or an actor.
    """

    reason: str
    actor: str
    source: str = "api"

    def __post_init__(self) -> None:
        if not self.reason.strip() or not self.actor.strip():
            msg = "Every change of a flag needs a reason and somebody who makes it."
            raise InvalidArgumentError(msg)


async def change(
    conn: Connection,
    schema: Schema,
    author: Author,
    *,
    kind: str,
    task: str,
    executor: str,
    value: Mapping[str, Any] | None,
    expected_version: int | None = None,
) -> FlagChange:
    """Set a flag, or clear it with ``value=None``.

    The salt of a rollout or shadow is made once per (task, executor) and found again after a clear, unless ``value``
    brings one.

    Raises:
        FlagConflictError: ``expected_version`` (0: not set) is not the flag's version any more.
    """
    key = {"kind": kind, "task": task, "executor": executor}
    async with conn.transaction():
        version = (await fetch(conn, schema, _LOCK))[0]["version"]
        before = await _one(conn, schema, _GET, key)
        if expected_version is not None and expected_version != (before["version"] if before else 0):
            held = f"has version {before['version']}, by {before['actor']}" if before else "is not set"
            msg = (
                f"The {kind} flag of {task!r} {held}, not version {expected_version}. "
                "Read it again and decide again."
            )
            raise FlagConflictError(msg)
        if value is not None and kind in {"rollout", "shadow"} and "salt" not in value:
            known = before or await _one(conn, schema, _SALT, key)
            value = {**value, "salt": known["salt"] if known else new_salt()}
        return await _put(conn, schema, author, key=key, version=version, before=before, value=value)


def new_salt() -> str:
    """Return a salt for a rollout."""
    return secrets.token_hex(8)


async def read_change(conn: Connection, schema: Schema, change_id: int) -> FlagChange:
    """Return one line of the audit.

    Raises:
        ChangeNotFoundError: there is none of that id.
    """
    row = await _one(conn, schema, _CHANGE, {"id": change_id})
    if row is None:
        raise ChangeNotFoundError(change_id)
    return FlagChange(**row)


async def revert(conn: Connection, schema: Schema, author: Author, change_id: int) -> FlagChange:
    """Put back what a change replaced: a change of its own, which can be reverted in turn.

    Raises:
        ChangeNotFoundError: there is no such change.
        FlagConflictError: the flag is not what the change made of it any more.
    """
    async with conn.transaction():
        version = (await fetch(conn, schema, _LOCK))[0]["version"]
        undone = await read_change(conn, schema, change_id)
        key: dict[str, Any] = {"kind": undone.kind, "task": undone.task, "executor": undone.executor}
        current = await _one(conn, schema, _GET, key)
        if _says(current) != _says(undone.after):
            latest = await _one(conn, schema, _LATEST, key)
            assert latest is not None
            msg = (
                f"The {undone.kind} flag of {undone.task!r} is not what this change made of it any more; the latest "
                f"is flag-{latest['id']}, by {latest['actor']}. Revert from the latest on, or set it anew."
            )
            raise FlagConflictError(msg)
        if undone.before is not None:
            key["executor"] = undone.before["executor"]
        return await _put(conn, schema, author, key=key, version=version, before=current, value=undone.before)


async def _put(
    conn: Connection,
    schema: Schema,
    author: Author,
    *,
    key: Mapping[str, Any],
    version: int,
    before: Row | None,
    value: Mapping[str, Any] | None,
) -> FlagChange:
    if value is not None and key["kind"] in _SENDS:
        await refuse_finalized(conn, schema, key["executor"], key["task"])
    await fetch(conn, schema, _DELETE, key)
    if key["kind"] == "circuit" and value is None:
        await fetch(conn, schema, FORGET, key)
    said = {"reason": author.reason, "actor": author.actor, "version": version}
    after: Row | None = None
    if value is not None:
        new = {name: value.get(name) for name in ("percent", "hash_by", "salt")}
        detail = Jsonb(value["detail"]) if value.get("detail") else None
        after = await _one(conn, schema, _SET, {**key, **said, **new, "detail": detail})
    noted = {"before": _described(before), "after": _described(after), "source": author.source}
    row = await _one(conn, schema, _NOTE, {**key, **said, **noted})
    assert row is not None
    return FlagChange(**row)


def _says(flag: Mapping[str, Any] | None) -> list[Any] | None:
    if flag is None:
        return None
    said = [flag.get(name) for name in _SAYS]
    return [float(each) if isinstance(each, Decimal) else each for each in said]


def _described(row: Row | None) -> Jsonb | None:
    if row is None:
        return None
    kept = ("kind", "task", "executor", "percent", "salt", "hash_by", "detail", "version", "reason", "actor")
    shown = {name: row[name] for name in kept if row[name] is not None}
    if row["percent"] is not None:
        shown["percent"] = float(row["percent"])
    return Jsonb(shown)


async def _one(
    conn: Connection, schema: Schema, statement: LiteralString, parameters: Mapping[str, Any]
) -> Row | None:
    rows = await fetch(conn, schema, statement, parameters)
    return rows[0] if rows else None
