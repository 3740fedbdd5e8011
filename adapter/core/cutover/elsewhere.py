"""Where the jobs of a task went over a time, by what was turned when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from adapter.domain.destinations import Destination, destination
from adapter.domain.routing import Flags, Rollout
from adapter.domain.task import TaskPolicy
from adapter.store.history import Change

_Key = tuple[str, str, str]


def destinations(
    policy: TaskPolicy, flags: Flags, before: Sequence[Change], since: Sequence[Change], at: datetime
) -> Iterable[tuple[datetime, Destination]]:
    """Return where a task's jobs went from a moment on, each with when it began, the oldest first.

    ``before``: the changes in force at ``at``; ``since``: those after it, in order. What the registry, the
    environment and the file say is taken as it is now.
    """
    states = {_key(each): each.after for each in before if each.after is not None}
    yield at, destination(policy, _flags(flags, states))
    for change in since:
        if change.after is None:
            states.pop(_key(change), None)
        else:
            states[_key(change)] = change.after
        yield change.at, destination(policy, _flags(flags, states))


def share(where: Destination, executor: str) -> str | None:
    """Return what part of the jobs goes to an executor, in words; None: none of them can."""
    for each in where.shares:
        if each.executor == executor and (each.percent > 0 or where.depends):
            return f"{each.percent:g} %" + (" and what lists or conditions say" if where.depends else "")
    return None


def _key(change: Change) -> _Key:
    return change.kind, change.subject, "" if change.kind == "kill" else change.executor or ""


def _flags(flags: Flags, states: Mapping[_Key, Mapping[str, Any]]) -> Flags:
    kills = {task: after["executor"] for (kind, task, _), after in states.items() if kind == "kill"}
    rollouts = tuple(
        _rollout(task, executor, after)
        for (kind, task, executor), after in states.items()
        if kind == "rollout"
    )
    circuits = frozenset((task, executor) for kind, task, executor in states if kind == "circuit")
    return replace(flags, kill_runtime=kills, rollouts=rollouts, open_circuits=circuits)


def _rollout(task: str, executor: str, after: Mapping[str, Any]) -> Rollout:
    detail: Mapping[str, Any] = after.get("detail") or {}
    return Rollout(
        task=task,
        executor=executor,
        percent=after["percent"],
        salt=after["salt"],
        hash_by=after.get("hash_by") or "tag",
        allow=frozenset(detail.get("allow", ())),
        deny=frozenset(detail.get("deny", ())),
        when=detail.get("when", {}),
    )
