"""The flags as the store has them, read in one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from adapter.domain.routing import Flags, Rollout
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
