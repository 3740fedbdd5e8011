"""How a cutover stands: per task where its jobs go, since when, by whose doing, and what is still open where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from adapter.core.cutover.steering import Steering, limit_notes
from adapter.core.cutover.way_back import WayBack, WaysBack
from adapter.core.parts import Parts
from adapter.domain.destinations import Destination, Share, destination
from adapter.domain.job import LOCAL
from adapter.domain.routing import EVERY_TASK, Flags
from adapter.store import open_jobs
from adapter.store.finalizations import standing
from adapter.store.flag_entries import FlagEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A kill switch that only a redeploy, or an edit of the file, takes away."""

    source: str
    task: str
    executor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatus:
    """Where new jobs of a task go, by which rule, and how many are open per executor.

    ``flag`` is the latest one that has a part in it; None: the registry's or the environment's doing.
    """

    task: str
    shares: tuple[Share, ...]
    rule: str
    open: dict[str, int]
    flag: FlagEntry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoverStatus:
    """Everything at one version of the flags.

    ``ways_back``: can we still go back? Of each task that flags or switches send away from where the registry
    has it, whether that executor could take its jobs now. Not of executors that were left for good.
    """

    version: int
    tasks: list[TaskStatus]
    switches: list[Switch]
    flags: list[FlagEntry]
    warnings: list[str] = field(default_factory=list[str])
    ways_back: list[WayBack] = field(default_factory=list[WayBack])


class Overview:
    """Puts together what the registry, the flags and the jobs say."""

    def __init__(self, parts: Parts, steering: Steering, ways_back: WaysBack) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._steering = steering
        self._ways_back = ways_back

    async def status(self) -> CutoverStatus:
        """Return how things stand now."""
        flags, entries = await self._steering.current(), await self._steering.entries()
        async with self._database.connection() as conn:
            jobs = await open_jobs.by_task_and_executor(conn, self._database.schema)
            limits = await open_jobs.limits(conn, self._database.schema)
        policies = {each.id: each.policy for each in self._registry}
        known = {task: destination(policy, flags) for task, policy in policies.items()}
        tasks = [
            _status(task, known.get(task), jobs.get(task, {}), entries)
            for task in sorted({*known, *jobs, *(each.task for each in entries)} - {EVERY_TASK})
        ]
        warnings = [
            *self._steering.boot_findings(flags),
            *_closed(flags),
            *(
                said
                for task, policy in policies.items()
                for said in limit_notes(policy, known[task], limits.get(policy.queue.name))
            ),
        ]
        switches = [
            Switch(source=source, task=task, executor=executor)
            for source, given in (("environment", flags.kill_environment), ("file", flags.kill_file))
            for task, executor in sorted(given.items())
        ]
        return CutoverStatus(
            version=flags.version,
            tasks=tasks,
            switches=switches,
            flags=entries,
            warnings=warnings,
            ways_back=await self._back(known, flags),
        )

    async def _back(self, known: Mapping[str, Destination], flags: Flags) -> list[WayBack]:
        homes = {
            each.id: each.policy.default_executor or LOCAL for each in self._registry if each.policy.enabled
        }
        moved = {
            task: homes[task]
            for task, where in known.items()
            if task in homes and any(each.executor != homes[task] and each.percent for each in where.shares)
        }
        if not moved:
            return []
        async with self._database.connection() as conn:
            left = {(each.executor, each.task) for each in await standing(conn, self._database.schema)}
        found = [
            way
            for executor in sorted(set(moved.values()))
            if self._ways_back.knows(executor)
            for way in await self._ways_back.check(None, executor, flags)
            if moved.get(way.task) == executor and not {(executor, way.task), (executor, EVERY_TASK)} & left
        ]
        return sorted(found, key=lambda way: (way.executor, way.task))


def _closed(flags: Flags) -> Iterable[str]:
    for task, executor in sorted(flags.open_circuits):
        whose = "every task" if task == EVERY_TASK else task
        yield f"the circuit of {executor} is open for {whose}: `adapter cutover resume` closes it"


def _status(
    task: str, where: Destination | None, open_: dict[str, int], entries: list[FlagEntry]
) -> TaskStatus:
    if where is None:
        where = Destination((), "not a task of this application")
    flag = max(_deciding(task, where, entries), key=lambda each: each.version, default=None)
    return TaskStatus(task=task, shares=where.shares, rule=where.rule, open=open_, flag=flag)


def _deciding(task: str, where: Destination, entries: list[FlagEntry]) -> Iterable[FlagEntry]:
    """Return the flags that have a part in where a task goes."""
    rollouts = {(each.task, each.executor) for each in where.rollouts}
    for each in entries:
        killed = where.rule.startswith("kill switch: runtime") and each.kind == "kill"
        scope = task if where.rule.endswith("this task") else EVERY_TASK
        circuit = each.kind == "circuit" and "circuit open" in where.rule and each.task in {task, EVERY_TASK}
        rolled = each.kind == "rollout" and (each.task, each.executor) in rollouts
        if (killed and each.task == scope) or circuit or rolled:
            yield each
