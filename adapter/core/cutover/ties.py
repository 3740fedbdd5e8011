"""What still ties one to an executor: each thing that would have to go before it can be shut down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from adapter.core.cutover.draining import TaskDrain
from adapter.core.parts import Parts
from adapter.core.registry import TaskDefinition
from adapter.store import finalizations, flag_entries
from adapter.store.draining import Holding

#: Over how long traffic and webhooks are counted.
WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Tie:
    """One kind of thing, and what there is of it."""

    name: str
    found: list[str]


class Ties:
    """Looks for them. ``variables``: the names of those of the environment that are set for an executor."""

    def __init__(self, parts: Parts, variables: Callable[[str], list[str]]) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._variables = variables

    async def of(
        self, executor: str, tasks: list[str] | None, drains: list[TaskDrain], week: list[Holding]
    ) -> list[Tie]:
        """Return everything that ties these tasks (None: all) to the executor; a tie that is none is left out."""
        async with self._database.connection() as conn:
            schema = self._database.schema
            schedules = await finalizations.schedules(conn, schema, executor, tasks)
            webhooks = await finalizations.webhooks(conn, schema, executor, WEEK)
            called = await finalizations.last_call(conn, schema, executor)
            flags = await flag_entries.entries(conn, schema)
        asked = {*tasks, "*"} if tasks is not None else None
        found = {
            "open jobs": [f"{_named(each)}: {sum(each.open.values())}" for each in drains if each.open],
            "open runs": [f"{_named(each)}: {each.runs}" for each in drains if each.runs],
            "schedules": [
                f"{each.task}: {each.there or each.id} "
                + ("lives there" if each.lives_there else "sends its jobs there")
                for each in schedules
            ],
            "traffic of 7 days": [
                f"{each.task}: {each.arrived} jobs, the last at {each.last_at:%Y-%m-%d %H:%M %Z}"
                for each in week
                if each.arrived and each.last_at is not None
            ],
            "flags": [
                f"{each.kind} of {each.task}"
                for each in flags
                if each.executor == executor and (asked is None or each.task in asked)
            ],
            "registry": list(self._entries(executor, tasks)),
            "webhook secrets used in 7 days": [
                f"{secret}: {times} webhooks, the last at {at:%Y-%m-%d %H:%M %Z}"
                for secret, times, at in webhooks
            ],
            "key": [] if called is None else [f"last used at {called:%Y-%m-%d %H:%M %Z}"],
            "variables": self._variables(executor),
        }
        return [Tie(name, there) for name, there in found.items() if there]

    def _entries(self, executor: str, tasks: list[str] | None) -> Iterable[str]:
        for each in self._registry:
            if tasks is None or each.id in tasks:
                yield from (f"{each.id}: {named}" for named in _names(each, executor))
        if executor in self._registry.canaries:
            yield "a canary is sent there"


def _names(task: TaskDefinition[object, object], executor: str) -> Iterable[str]:
    policy = task.policy
    if executor in policy.remote_ids:
        yield f"its name there is {policy.remote_ids[executor]!r}"
    if policy.default_executor == executor:
        yield "its default"
    for name in ("fallback", "safe_executor", "on_rejected"):
        if getattr(policy, name) == executor:
            yield f"its {name}"


def _named(drain: TaskDrain) -> str:
    return drain.task or "(jobs that are gone)"
