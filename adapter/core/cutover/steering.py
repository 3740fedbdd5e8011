"""What people turn: kill switches, rollouts; and what they ask: why does a job go where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapter.core.flags import FlagSource
from adapter.core.parts import Parts
from adapter.core.planning import JobSpec, Planner, ScheduleOptions
from adapter.core.scheduling import Scheduler
from adapter.domain.errors import InvalidArgumentError, UnknownExecutorError
from adapter.domain.job import LOCAL, executor_name
from adapter.domain.routing import EVERY_TASK, Flags, Route, Step, can_run, kill_switch
from adapter.store import flags as store
from adapter.store.steps import run
from adapter.store.wakeup import DISPATCH, FLAGS


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a job would go now, and every rule on the way there, highest first."""

    task: str
    route: Route
    steps: list[Step]


class Steering:
    """Reads and turns flags. Every change needs a reason and is written down with its actor."""

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

    async def explain(self, task: str, **options: Any) -> Explanation:
        """Say where a job of ``task`` would go, without scheduling it. The payload is not checked."""
        data = options.pop("data", None)
        planned = self._planner.plan_unchecked(JobSpec(task, data, ScheduleOptions(**options)))
        route, steps = self._scheduler.explain(planned, data, await self.current())
        return Explanation(task, route, steps)

    async def kill(
        self,
        task: str,
        *,
        to: str,
        reason: str,
        actor: str,
        source: str = "api",
        expected_version: int | None = None,
    ) -> None:
        """Send every new job of ``task`` (``*``: of every task) to one executor, whatever else says."""
        to = self._known(to)
        self._check_task(task)
        await self._change(
            "kill", task, to, {}, reason=reason, actor=actor, source=source, expected_version=expected_version
        )

    async def rollout(
        self,
        task: str,
        *,
        to: str,
        percent: float,
        reason: str,
        actor: str,
        by: str | None = None,
        allow: list[str] | None = None,
        deny: list[str] | None = None,
        when: Mapping[str, Any] | None = None,
        source: str = "api",
        expected_version: int | None = None,
    ) -> None:
        """Send a share of a task's new jobs to an executor.

        Raises:
            InvalidArgumentError: the percentage has no such step, or the task cannot run there.
        """
        to = self._known(to)
        self._check_task(task)
        if not 0 <= percent <= 100 or abs(percent * 1000 - round(percent * 1000)) > 1e-6:
            msg = "percent must be from 0 to 100, in steps of 0.001."
            raise InvalidArgumentError(msg)
        if task != EVERY_TASK:
            policy = self._registry.get(task).policy
            if not can_run(policy, to, await self.current()):
                msg = f"Task {task!r} cannot run at {to!r}: nothing in the registry or among the workers says so."
                raise InvalidArgumentError(msg)
            by = by or policy.hash_by
        lists = {"allow": allow or [], "deny": deny or [], "when": dict(when or {})}
        value = {"percent": percent, "hash_by": by or "tag", "detail": {k: v for k, v in lists.items() if v}}
        await self._change(
            "rollout",
            task,
            to,
            value,
            reason=reason,
            actor=actor,
            source=source,
            expected_version=expected_version,
        )

    async def clear(
        self, kind: str, task: str, *, executor: str = "", reason: str, actor: str, source: str = "api"
    ) -> dict[str, Any] | None:
        """Take a flag away; returns what it was, None when there was none."""
        return await self._change(
            kind,
            task,
            executor_name(executor),
            None,
            reason=reason,
            actor=actor,
            source=source,
            expected_version=None,
        )

    async def _change(
        self,
        kind: str,
        task: str,
        executor: str,
        value: Mapping[str, Any] | None,
        *,
        reason: str,
        actor: str,
        source: str,
        expected_version: int | None,
    ) -> dict[str, Any] | None:
        async with self._database.connection() as conn:
            before = await store.change(
                conn,
                self._database.schema,
                kind=kind,
                task=task,
                executor=executor,
                reason=reason,
                actor=actor,
                source=source,
                value=value,
                expected_version=expected_version,
            )
        self._flags.forget()
        self._notifier.poke(FLAGS, DISPATCH)
        return before

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
