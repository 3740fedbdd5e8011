"""Can we still go back? Per task: whether an executor could take its jobs now, by what is out there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from adapter.core.parts import Parts
from adapter.core.registry import TaskDefinition
from adapter.domain.errors import UnknownExecutorError
from adapter.domain.gates import Gate, Verdict, worst
from adapter.domain.job import LOCAL, executor_name
from adapter.domain.limits import Limits
from adapter.domain.routing import EVERY_TASK, Flags
from adapter.store import fleet
from adapter.store.fleet import Advertised, Load, LocalQueue

#: Over how long arrivals are counted.
_WINDOW = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class WayBack:
    """Whether an executor could take the jobs of a task now, and why not."""

    task: str
    executor: str
    verdict: Verdict
    checks: list[Gate]


@dataclass(frozen=True, slots=True)
class _Fleet:
    workers: int
    advertised: dict[str, Advertised]
    load: dict[str, Load]
    queues: dict[str, LocalQueue]


class WaysBack:
    """Holds the registry against workers, queues and circuits."""

    def __init__(self, parts: Parts) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._executors = parts.executors

    def knows(self, executor: str) -> bool:
        """Whether an executor of that name is configured here."""
        return executor == LOCAL or executor in self._executors

    async def check(self, task: str | None, to: str, flags: Flags) -> list[WayBack]:
        """See `FinishesCutovers.can_go_back`."""
        name = executor_name(to)
        if not self.knows(name):
            raise UnknownExecutorError(name, [LOCAL, *self._executors.names], "The call")
        asked = [self._registry.get(task)] if task is not None else list(self._registry)
        asked = [each for each in asked if each.policy.enabled]
        if name != LOCAL:
            checks = {each.id: _at_remote(each, name, flags) for each in asked}
        else:
            found = await self._fleet()
            checks = {each.id: self._here(each, found) for each in asked}
        return [WayBack(each, name, worst(c.verdict for c in checks[each]), checks[each]) for each in checks]

    async def _fleet(self) -> _Fleet:
        tasks = [each.id for each in self._registry]
        queues = sorted({each.policy.queue.name for each in self._registry})
        async with self._database.connection() as conn:
            schema = self._database.schema
            return _Fleet(
                await fleet.alive(conn, schema),
                await fleet.advertised(conn, schema, tasks),
                await fleet.load(conn, schema, tasks, _WINDOW),
                await fleet.local_queues(conn, schema, queues),
            )

    def _here(self, task: TaskDefinition[object, object], found: _Fleet) -> list[Gate]:
        seen = found.advertised.get(task.id)
        if not found.workers:
            worker = Gate("worker", Verdict.FAILED, "no worker is alive")
        elif seen is None or not seen.fresh:
            known = "a worker had, and none has now" if seen is not None else "none ever had"
            worker = Gate("worker", Verdict.FAILED, f"no living worker has a handler for it; {known}")
        else:
            worker = Gate("worker", Verdict.PASSED, "a living worker has a handler for it")
        return [worker, _schema(task, seen), self._capacity(task, found)]

    def _capacity(self, task: TaskDefinition[object, object], found: _Fleet) -> Gate:
        """Hold a queue's limits against what comes in for all tasks of the queue: rate, and rate times running time."""
        name = task.policy.queue.name
        queue = found.queues.get(name)
        limits = queue.limits if queue is not None else task.policy.queue.limits
        if queue is not None and queue.paused:
            return Gate("capacity", Verdict.FAILED, f"queue {name!r} is paused")
        loads = [
            load
            for each in self._registry
            if each.policy.queue.name == name and (load := found.load.get(each.id)) is not None
        ]
        arrived = sum(each.arrived for each in loads)
        if not arrived:
            return Gate(
                "capacity", Verdict.PASSED, f"nothing came in for {_WINDOW.total_seconds() / 60:g} minutes"
            )
        per_second = arrived / _WINDOW.total_seconds()
        if limits.rate is not None and per_second > limits.rate.count / limits.rate.per.total_seconds():
            says = f"{per_second:.3g} jobs a second come in, queue {name!r} starts at most {limits.rate}"
            return Gate("capacity", Verdict.FAILED, says)
        return _room(name, limits, loads, per_second)


def _room(name: str, limits: Limits, loads: list[Load], per_second: float) -> Gate:
    known = [each for each in loads if each.mean_seconds is not None]
    at_once = sum(each.arrived / _WINDOW.total_seconds() * (each.mean_seconds or 0.0) for each in known)
    come_in = f"{per_second:.3g} jobs a second come in, about {at_once:.1f} would run at once"
    if limits.concurrency_limit is None:
        return Gate("capacity", Verdict.PASSED, f"{come_in}; queue {name!r} has no limit, the workers decide")
    if at_once > limits.concurrency_limit:
        says = f"{come_in}, and queue {name!r} lets {limits.concurrency_limit} run"
        return Gate("capacity", Verdict.FAILED, says)
    if len(known) < len(loads):
        return Gate(
            "capacity", Verdict.UNKNOWN, "none of its jobs has ended, so nobody knows how long they run"
        )
    return Gate("capacity", Verdict.PASSED, f"{come_in}; queue {name!r} lets {limits.concurrency_limit} run")


def _schema(task: TaskDefinition[object, object], seen: Advertised | None) -> Gate:
    here = task.schema_hash
    if seen is None:
        return Gate("schema", Verdict.UNKNOWN, "no worker has said what payload it takes")
    if task.handler is None or not here or not seen.schema_hash:
        return Gate("schema", Verdict.UNKNOWN, "the payload has no schema here to compare with the workers'")
    if here != seen.schema_hash:
        return Gate("schema", Verdict.FAILED, "the workers take another payload than this application sends")
    return Gate("schema", Verdict.PASSED, "the workers take the payload this application sends")


def _at_remote(task: TaskDefinition[object, object], name: str, flags: Flags) -> list[Gate]:
    remote_id = task.policy.remote_ids.get(name)
    if remote_id is None:
        named = Gate("name", Verdict.FAILED, f"the registry has no name of it at {name}")
    else:
        named = Gate("name", Verdict.PASSED, f"it is {remote_id!r} there")
    is_open = any((scope, name) in flags.open_circuits for scope in (task.id, EVERY_TASK))
    circuit = Gate("circuit", Verdict.FAILED, "its circuit is open: `adapter cutover resume` closes it")
    return [named, circuit if is_open else Gate("circuit", Verdict.PASSED, "its circuit is closed")]
