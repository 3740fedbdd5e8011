"""What people turn: kill switches, rollouts, circuits; and what they ask: where does a job go, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from adapter.core.flags import FlagSource
from adapter.core.parts import Parts
from adapter.core.planning import JobSpec, Planner, ScheduleOptions
from adapter.core.scheduling import Scheduler
from adapter.domain.destinations import Destination, destination
from adapter.domain.errors import FlagConflictError, InvalidArgumentError, UnknownExecutorError
from adapter.domain.job import LOCAL, executor_name
from adapter.domain.limits import Limits
from adapter.domain.routing import EVERY_TASK, Flags, Route, Step, can_run, check_unit, kill_switch
from adapter.domain.shadow import ShadowMode, ShadowTerms
from adapter.domain.task import TaskPolicy
from adapter.store import flag_changes, flag_entries, open_jobs
from adapter.store.flag_changes import Author, FlagChange
from adapter.store.flag_entries import FlagEntry
from adapter.store.steps import run
from adapter.store.wakeup import DISPATCH, FLAGS

#: Every scheduling process reads the lists once a second.
MOST_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a job would go now, and every rule on the way there, highest first; ``notes``: what else to know."""

    task: str
    route: Route
    steps: list[Step]
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutTerms:
    """What a rollout says. ``by`` None: what the task says; the lists and ``when`` as in `Rollout`."""

    percent: float
    by: str | None = None
    allow: Collection[str] = ()
    deny: Collection[str] = ()
    when: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100 or abs(self.percent * 1000 - round(self.percent * 1000)) > 1e-6:
            msg = "percent must be from 0 to 100, in steps of 0.001."
            raise InvalidArgumentError(msg)
        if self.by is not None:
            check_unit(self.by)
        for name, listed in (("allow", self.allow), ("deny", self.deny)):
            if isinstance(listed, str) or len(listed) > MOST_LISTED:
                msg = f"{name} is a list of at most {MOST_LISTED} units; for more, let context= say it, and use when."
                raise InvalidArgumentError(msg)


def limit_notes(policy: TaskPolicy, where: Destination, limits: Limits | None) -> list[str]:
    """Return what a partial rollout does to the limits of a task's queue: every executor has its own."""
    if limits is None or not where.is_partial:
        return []
    others = ", ".join(sorted({each.executor for each in where.shares} - {LOCAL}))
    queue = f"the limits of queue {policy.queue.name!r} ({limits})"
    return [f"{policy.id}: {queue} hold here, those of {others} there: together their sum may run"]


class Steering:
    """Reads and turns flags. Every change is written down with its author."""

    def __init__(self, parts: Parts, flags: FlagSource, planner: Planner, scheduler: Scheduler) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._flags = flags
        self._planner = planner
        self._scheduler = scheduler
        self._notifier = parts.notifier
        self._executors = parts.executors.names

    async def current(self) -> Flags:
        """Return every switch there is, read now."""
        async with self._database.connection() as conn:
            return await run(conn, self._database.schema, self._flags.reading())

    async def entries(self) -> list[FlagEntry]:
        """Return the flags that were turned at runtime, with who turned them, when, and why."""
        async with self._database.connection() as conn:
            return await flag_entries.entries(conn, self._database.schema)

    async def explain(self, task: str, **options: Any) -> Explanation:
        """Say where a job of ``task`` would go, without scheduling it. The payload is not checked."""
        data = options.pop("data", None)
        planned = self._planner.plan_unchecked(JobSpec(task, data, ScheduleOptions(**options)))
        flags, policy = await self.current(), planned.definition.policy
        route, steps = self._scheduler.explain(planned, data, flags)
        async with self._database.connection() as conn:
            limits = await open_jobs.limits(conn, self._database.schema)
        notes = limit_notes(policy, destination(policy, flags), limits.get(policy.queue.name))
        if not can_run(policy, route.executor, flags):
            notes.append(
                f"Nobody is known to run it at {route.executor}: it would wait there for somebody who can."
            )
        return Explanation(task, route, steps, notes)

    async def kill(self, task: str, to: str, author: Author, expected: int | None = None) -> FlagChange:
        """Send every new job of ``task`` (``*``: of every task) to one executor, whatever else says."""
        to = self._known(to)
        self._check_task(task)
        return await self._change("kill", task, to, {}, author=author, expected=expected)

    async def rollout(
        self, task: str, to: str, terms: RolloutTerms, author: Author, expected: int | None = None
    ) -> FlagChange:
        """Send a share of a task's new jobs to an executor.

        Raises:
            InvalidArgumentError: the task cannot run there.
        """
        to = self._known(to)
        self._check_task(task)
        by = terms.by
        if task != EVERY_TASK:
            policy = self._registry.get(task).policy
            if not can_run(policy, to, await self.current()):
                msg = f"Task {task!r} cannot run at {to!r}: nothing in the registry or among the workers says so."
                raise InvalidArgumentError(msg)
            by = by or policy.hash_by
        lists = {"allow": sorted(terms.allow), "deny": sorted(terms.deny), "when": dict(terms.when or {})}
        value = {
            "percent": terms.percent,
            "hash_by": by or "tag",
            "detail": {name: each for name, each in lists.items() if each},
        }
        return await self._change("rollout", task, to, value, author=author, expected=expected)

    async def resalt(self, task: str, to: str, author: Author, expected: int | None = None) -> FlagChange:
        """Deal the jobs of a rollout anew: the same share of others.

        Raises:
            InvalidArgumentError: there is no such rollout.
        """
        entry = await self._entry("rollout", task, executor_name(to))
        if entry is None:
            msg = f"There is no rollout of {task!r} to {to!r}."
            raise InvalidArgumentError(msg)
        value = {
            "percent": entry.percent,
            "hash_by": entry.hash_by,
            "detail": entry.detail,
            "salt": flag_changes.new_salt(),
        }
        guard = entry.version if expected is None else expected
        return await self._change("rollout", task, entry.executor, value, author=author, expected=guard)

    async def open_circuit(
        self, task: str, executor: str, author: Author, expected: int | None = None
    ) -> FlagChange:
        """Give an executor no more jobs of a task (``*``: none), as `Failback` does by itself."""
        executor = self._known(executor)
        if executor == LOCAL:
            msg = "The local executor has no circuit. Pause its queues instead: `adapter queues pause`."
            raise InvalidArgumentError(msg)
        self._check_task(task)
        return await self._change("circuit", task, executor, {}, author=author, expected=expected)

    async def shadow(
        self, task: str, at: str, terms: ShadowTerms, author: Author, expected: int | None = None
    ) -> FlagChange:
        """Copy a share of a task's ended jobs to an executor, where the copies are only looked at.

        Raises:
            InvalidArgumentError: the task cannot run there, or must not run twice.
        """
        at = self._known(at)
        policy = self._registry.get(task).policy
        if not can_run(policy, at, await self.current()):
            msg = f"Task {task!r} cannot run at {at!r}: nothing in the registry or among the workers says so."
            raise InvalidArgumentError(msg)
        if terms.mode is ShadowMode.EXECUTE and not policy.pure:
            msg = f"Task {task!r} would have its effects twice. Only a task declared pure=True is executed as a shadow."
            raise InvalidArgumentError(msg)
        if terms.mode is ShadowMode.EXECUTE and at == LOCAL and policy.batch is not None:
            msg = f"Task {task!r} has a batch handler, which would take copies and jobs in one call. Use mode='enqueue'."
            raise InvalidArgumentError(msg)
        detail = {"mode": terms.mode.value, "most_open": terms.most_open}
        value = {"percent": terms.percent, "detail": detail}
        return await self._change("shadow", task, at, value, author=author, expected=expected)

    async def clear(
        self, kind: str, task: str, executor: str, author: Author, expected: int | None = None
    ) -> FlagChange | None:
        """Take a flag away; None when there was none. Without ``executor``: the only one there is.

        Raises:
            InvalidArgumentError: there are several.
        """
        name = executor_name(executor)
        if not name and kind != "kill":
            there = [each.executor for each in await self.entries() if (each.kind, each.task) == (kind, task)]
            if len(there) > 1:
                msg = f"There are several: say whether it is {' or '.join(there)}."
                raise InvalidArgumentError(msg)
            name = "".join(there)
        entry = await self._entry(kind, task, name)
        if entry is None:
            if expected:
                msg = f"The {kind} flag of {task!r} is gone already."
                raise FlagConflictError(msg)
            return None
        return await self._change(kind, task, entry.executor, None, author=author, expected=expected)

    async def revert(self, change_id: int, author: Author) -> FlagChange:
        """Put back what a change replaced, unless the flag was changed since.

        Raises:
            ChangeNotFoundError, FlagConflictError: there is nothing to put back.
            UnknownExecutorError: what it replaced names an executor that is not configured any more.
        """
        async with self._database.connection() as conn:
            undone = await flag_changes.read_change(conn, self._database.schema, change_id)
            if undone.before is not None:
                self._known(undone.before["executor"])
            made = await flag_changes.revert(conn, self._database.schema, author, change_id)
        return self._changed(made)

    async def _entry(self, kind: str, task: str, executor: str) -> FlagEntry | None:
        found = [
            each
            for each in await self.entries()
            if (each.kind, each.task) == (kind, task) and (kind == "kill" or each.executor == executor)
        ]
        return found[0] if found else None

    async def _change(
        self,
        kind: str,
        task: str,
        executor: str,
        value: Mapping[str, Any] | None,
        *,
        author: Author,
        expected: int | None,
    ) -> FlagChange:
        async with self._database.connection() as conn:
            made = await flag_changes.change(
                conn,
                self._database.schema,
                author,
                kind=kind,
                task=task,
                executor=executor,
                value=value,
                expected_version=expected,
            )
        return self._changed(made)

    def _changed(self, made: FlagChange) -> FlagChange:
        self._flags.forget()
        self._notifier.poke(FLAGS, DISPATCH)
        return made

    def _known(self, executor: str) -> str:
        name = executor_name(executor)
        if name != LOCAL and name not in self._executors:
            raise UnknownExecutorError(name, [LOCAL, *self._executors], "The flag")
        return name

    def _check_task(self, task: str) -> None:
        if task != EVERY_TASK:
            self._registry.get(task)

    def boot_findings(self, flags: Flags) -> list[str]:
        """Return what a person should know about the kill switches before they bite."""
        findings = [
            f"the kill switch {name!r} matches no task" + (f"; near: {', '.join(near)}" if near else "")
            for name, near in self._flags.unmatched(flags.advertised).items()
        ]
        for definition in self._registry:
            kill = kill_switch(flags, definition.id)
            if kill is not None and not can_run(definition.policy, kill[0], flags):
                fate = "stay where they are" if definition.policy.on_kill == "keep" else f"wait for {kill[0]}"
                findings.append(f"{kill[1]}: {definition.id} cannot run at {kill[0]}; its jobs {fate}")
        return findings

    def beforehand(self, to: str, flags: Flags) -> tuple[list[str], list[str]]:
        """Return the tasks whose jobs a switch of all tasks to ``to`` would keep waiting, and would leave alone."""
        cannot = [each.policy for each in self._registry if not can_run(each.policy, to, flags)]
        kept = [each.id for each in cannot if each.on_kill == "keep"]
        return [each.id for each in cannot if each.id not in kept], kept
