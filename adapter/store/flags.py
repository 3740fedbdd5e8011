"""Reading and turning flags. Every change moves the version, needs a reason, and is written down."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from adapter.domain.errors import FlagConflictError, InvalidArgumentError
from adapter.domain.routing import Flags, Rollout
from adapter.store.database import Connection, Schema, fetch
from adapter.store.steps import Row, Statement, Steps

#: How long a task counts as runnable after the last worker that advertised it was seen.
ADVERTISED_FOR: LiteralString = "7 days"

# One row per flag, the version on each, and one row for the version when there is no flag at all.
_READ: LiteralString = (
    """
SELECT v.version AS at_version, f.*, a.tasks
FROM {s}.flags_state v
LEFT JOIN {s}.executor_flags f ON true
CROSS JOIN (SELECT array_agg(task) AS tasks FROM {s}.advertised_tasks WHERE seen_at > now() - interval '"""
    + ADVERTISED_FOR
    + """') AS a
"""
)

_LOCK: LiteralString = "UPDATE {s}.flags_state SET version = version + 1 RETURNING version"
_GET: LiteralString = """
SELECT * FROM {s}.executor_flags WHERE kind = %(kind)s AND task = %(task)s
  AND (%(kind)s = 'kill' OR executor = %(executor)s)
"""
_DELETE: LiteralString = """
DELETE FROM {s}.executor_flags WHERE kind = %(kind)s AND task = %(task)s
  AND (%(kind)s = 'kill' OR executor = %(executor)s) RETURNING *
"""
_SET: LiteralString = """
INSERT INTO {s}.executor_flags (kind, task, executor, percent, salt, hash_by, detail, version, reason, actor)
VALUES (%(kind)s, %(task)s, %(executor)s, %(percent)s, %(salt)s, %(hash_by)s, %(detail)s, %(version)s, %(reason)s, %(actor)s)
RETURNING *
"""
_SALT: LiteralString = """
SELECT after ->> 'salt' AS salt FROM {s}.flag_changes
WHERE kind = 'rollout' AND task = %(task)s AND executor = %(executor)s AND after ? 'salt' ORDER BY id DESC LIMIT 1
"""
_CHANGE: LiteralString = """
INSERT INTO {s}.flag_changes (actor, source, kind, task, executor, before, after, reason, version)
VALUES (%(actor)s, %(source)s, %(kind)s, %(task)s, %(executor)s, %(before)s, %(after)s, %(reason)s, %(version)s)
"""


def read() -> Steps[Flags]:
    """Return the flags of the store; the environment's and the file's are added by the caller."""
    rows = yield Statement(_READ, {})
    return _flags_from(rows)


def _flags_from(rows: Sequence[Row]) -> Flags:
    killed: dict[str, str] = {}
    rollouts: list[Rollout] = []
    circuits: set[tuple[str, str]] = set()
    for row in rows:
        if row["kind"] == "kill":
            killed[row["task"]] = row["executor"]
        elif row["kind"] == "circuit":
            circuits.add((row["task"], row["executor"]))
        elif row["kind"] == "rollout":
            rollouts.append(_rollout_from(row))
    first = rows[0]
    return Flags(
        version=first["at_version"],
        kill_runtime=killed,
        rollouts=tuple(rollouts),
        open_circuits=frozenset(circuits),
        advertised=frozenset(first["tasks"] or ()),
    )


def _rollout_from(row: Row) -> Rollout:
    detail: Mapping[str, Any] = row["detail"] or {}
    return Rollout(
        task=row["task"],
        executor=row["executor"],
        percent=float(row["percent"]),
        salt=row["salt"],
        hash_by=row["hash_by"] or "tag",
        allow=frozenset(detail.get("allow", ())),
        deny=frozenset(detail.get("deny", ())),
        when=detail.get("when", {}),
    )


def _described(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    kept = ("kind", "task", "executor", "percent", "salt", "hash_by", "detail", "version", "reason", "actor")
    shown = {name: row[name] for name in kept if row[name] is not None}
    return shown | ({"percent": float(row["percent"])} if row["percent"] is not None else {})


async def change(
    conn: Connection,
    schema: Schema,
    *,
    kind: str,
    task: str,
    executor: str,
    reason: str,
    actor: str,
    source: str,
    value: Mapping[str, Any] | None,
    expected_version: int | None = None,
) -> dict[str, Any] | None:
    """Set a flag, or clear it with ``value=None``; returns what it was before.

    The salt of a rollout is made once per (task, executor) and found again after a clear.

    Raises:
        FlagConflictError: ``expected_version`` is not the flag's version any more.
        InvalidArgumentError: no reason was given.
    """
    if not reason.strip():
        msg = "Every change of a flag needs a reason."
        raise InvalidArgumentError(msg)
    key: dict[str, Any] = {"kind": kind, "task": task, "executor": executor}
    async with conn.transaction():
        version = (await fetch(conn, schema, _LOCK))[0]["version"]
        rows = await fetch(conn, schema, _GET, key)
        before = rows[0] if rows else None
        if expected_version is not None and expected_version != (before["version"] if before else 0):
            msg = f"The {kind} flag of {task!r} was changed meanwhile. Read it again and decide again."
            raise FlagConflictError(msg)
        await fetch(conn, schema, _DELETE, key)
        after: Row | None = None
        if value is not None:
            salt = None
            if kind == "rollout":
                known = await fetch(conn, schema, _SALT, key)
                salt = (before or {}).get("salt") or (known[0]["salt"] if known else secrets.token_hex(8))
            new = key | {"salt": salt, "version": version, "reason": reason, "actor": actor}
            new |= {"percent": value.get("percent"), "hash_by": value.get("hash_by")}
            new |= {"detail": Jsonb(value["detail"]) if value.get("detail") else None}
            after = (await fetch(conn, schema, _SET, new))[0]
        described = {"before": _described(before), "after": _described(after)}
        written = {name: Jsonb(each) if each is not None else None for name, each in described.items()}
        said = {"reason": reason, "actor": actor, "source": source, "version": version}
        await fetch(conn, schema, _CHANGE, key | said | written)
        return described["before"]
