"""What people changed, from every table that keeps a part of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from adapter.store.database import Connection, Schema, fetch

#: One SELECT per table, with the columns of `Change`. ``subject`` is a task, ``*``, or a queue.
_SOURCES: tuple[LiteralString, ...] = (
    """SELECT 'flag-' || id AS id, at, actor, source, kind, task AS subject, executor, before, after, reason
    FROM {s}.flag_changes""",
    """SELECT 'queue-' || id, at, actor, source, 'queue ' || kind, queue, NULL, before, after, reason
    FROM {s}.queue_changes""",
    """SELECT 'finalization-' || id, at, actor, source, 'finalized', task, executor, NULL, NULL, reason
    FROM {s}.finalizations""",
    """SELECT 'reopening-' || id, reopened_at, reopened_by, reopened_from, 'reopened', task, executor, NULL, NULL, reopen_reason
    FROM {s}.finalizations WHERE reopened_at IS NOT NULL""",
    """SELECT 'schedule-' || id, at, actor, source, 'schedule ' || kind, task, NULL, before, after, reason
    FROM {s}.schedule_changes""",
    """SELECT 'recall-' || id, created_at, actor, 'recall', mode, task, target, NULL,
      jsonb_build_object('from', source, 'state', state), reason FROM {s}.recalls""",
)
_HISTORY: LiteralString = (
    "SELECT * FROM ("
    + " UNION ALL ".join(_SOURCES)
    + """) AS every
WHERE (%(subject)s::text IS NULL OR subject IN (%(subject)s, '*')) AND (%(before)s::timestamptz IS NULL OR at < %(before)s)
ORDER BY at DESC, id DESC LIMIT %(limit)s
"""
)
_IN_FORCE: LiteralString = """
SELECT DISTINCT ON (kind, task, CASE WHEN kind <> 'kill' THEN executor END)
  'flag-' || id AS id, at, actor, source, kind, task AS subject, executor, before, after, reason
FROM {s}.flag_changes WHERE task IN (%(task)s, '*') AND at <= %(at)s
ORDER BY kind, task, CASE WHEN kind <> 'kill' THEN executor END, {s}.flag_changes.id DESC
"""

_SINCE: LiteralString = """
SELECT 'flag-' || id AS id, at, actor, source, kind, task AS subject, executor, before, after, reason
FROM {s}.flag_changes WHERE task IN (%(task)s, '*') AND at > %(at)s ORDER BY {s}.flag_changes.id
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One change by somebody. ``before`` and ``after`` are what it was of; None: there was nothing."""

    id: str
    at: datetime
    actor: str
    source: str
    kind: str
    subject: str
    executor: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str

    @property
    def said(self) -> str:
        """What was done, in words."""
        to = f" to {self.executor}" if self.executor else ""
        match self.kind, self.before, self.after:
            case "rollout", {"percent": old}, {"percent": new}:
                resalted = (self.before or {}).get("salt") != (self.after or {}).get("salt")
                share = f"{new:g}%" if old == new else f"{old:g}% -> {new:g}%"
                return f"rollout{to} {share}{', dealt anew' if resalted else ''}"
            case "rollout", _, {"percent": new}:
                return f"rollout{to} {new:g}%"
            case "shadow", _, {"percent": share, "detail": {"mode": mode}}:
                return f"shadow{to} {mode} {share:g}%"
            case "kill", {"executor": old}, {"executor": new} if old != new:
                return f"kill switch {old} -> {new}"
            case _, _, None if self.before is not None and not self.kind.startswith("schedule "):
                return f"{_WORDS.get(self.kind, self.kind)}{to} taken away"
            case _:
                left = self.kind in _LEAVING
                return f"{self.executor} {self.kind}" if left else f"{_WORDS.get(self.kind, self.kind)}{to}"


#: Kinds that say what became of an executor.
_LEAVING = {"finalized", "reopened"}
_WORDS = {"kill": "kill switch", "circuit": "open circuit"}


async def history(
    conn: Connection,
    schema: Schema,
    *,
    subject: str | None = None,
    before: datetime | None = None,
    limit: int = 50,
) -> list[Change]:
    """Return changes, the newest first: of one task (with those for every task) or queue, or of all."""
    parameters = {"subject": subject, "before": before, "limit": limit}
    return [Change(**row) for row in await fetch(conn, schema, _HISTORY, parameters)]


async def in_force(conn: Connection, schema: Schema, task: str, at: datetime) -> list[Change]:
    """Return the changes that made the flags of a task what they were at a moment."""
    rows = await fetch(conn, schema, _IN_FORCE, {"task": task, "at": at})
    return [change for row in rows if (change := Change(**row)).after is not None]


async def flags_since(conn: Connection, schema: Schema, task: str, at: datetime) -> list[Change]:
    """Return the changes of the flags of a task after a moment, the oldest first."""
    return [Change(**row) for row in await fetch(conn, schema, _SINCE, {"task": task, "at": at})]
