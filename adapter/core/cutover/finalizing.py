"""The point of no return: gates that must pass before an executor is left for good, and what it means then.

A finalization is a fact that is written down: from then on no switch, rollout or shadow is turned to the executor
for that task, until somebody reopens it with a reason. It deletes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from adapter.core.cutover.draining import Drains
from adapter.core.cutover.finish_gates import FinishGates
from adapter.core.cutover.steering import Steering
from adapter.core.cutover.ties import WEEK, Tie, Ties
from adapter.core.parts import Parts
from adapter.domain.errors import FinalizationError, InvalidArgumentError
from adapter.domain.failback import CANARY
from adapter.domain.gates import Gate, Verdict
from adapter.domain.routing import EVERY_TASK
from adapter.store import draining, finalizations
from adapter.store.finalizations import Finalization
from adapter.store.flag_changes import Author


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalizeReport:
    """Whether an executor can be left for good. ``version`` of the flags; ``ready``: every gate passed. ``ties``: what still ties you there."""

    executor: str
    task: str
    version: int
    ready: bool
    gates: list[Gate]
    ties: list[Tie]


class Finalizing:
    """Asks the gates, and writes down that an executor was left."""

    def __init__(
        self, parts: Parts, steering: Steering, drains: Drains, variables: Callable[[str], list[str]]
    ) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._steering = steering
        self._drains = drains
        self._ties = Ties(parts, variables)
        self._gates = FinishGates(parts)

    async def check(self, executor: str, task: str) -> FinalizeReport:
        """See `FinishesCutovers.finalize_check`."""
        name = self._drains.known(executor)
        one = None if task == EVERY_TASK else self._registry.get(task).id
        tasks = [one] if one is not None else self._tasks_at(name)
        drain = await self._drains.status(name, task=one)
        async with self._database.connection() as conn:
            week, _ = await draining.holdings(
                conn,
                self._database.schema,
                name,
                task=one,
                types=[each.id for each in self._registry],
                apart=[CANARY],
                window=WEEK,
            )
        flags = await self._steering.current()
        gates = await self._gates.ask(name, tasks, flags, drain, week)
        ties = await self._ties.of(name, None if one is None else tasks, drain.tasks, week)
        ready = all(each.verdict is Verdict.PASSED for each in gates)
        return FinalizeReport(
            executor=name, task=task, version=flags.version, ready=ready, gates=gates, ties=ties
        )

    def _tasks_at(self, executor: str) -> list[str]:
        return [
            each.id
            for each in self._registry
            if each.id != CANARY
            and (each.policy.runs_at(executor) or each.policy.default_executor == executor)
        ]

    async def finalize(
        self, executor: str, task: str, author: Author, accept: Mapping[str, str]
    ) -> Finalization:
        """See `FinishesCutovers.finalize`."""
        report = await self.check(executor, task)
        names = {each.name for each in report.gates}
        if strange := sorted(set(accept) - names):
            msg = f"There is no gate {', '.join(strange)}. The gates are {', '.join(sorted(names))}."
            raise InvalidArgumentError(msg)
        if not all(why.strip() for why in accept.values()):
            msg = "A gate is accepted with a reason."
            raise InvalidArgumentError(msg)
        closed = [each for each in report.gates if each.verdict is not Verdict.PASSED]
        if shut := [each for each in closed if each.name not in accept]:
            raise FinalizationError("; ".join(f"{each.name} {each.verdict}: {each.says}" for each in shut))
        values = {
            "executor": report.executor,
            "task": task,
            "version": report.version,
            "actor": author.actor,
            "source": author.source,
            "reason": author.reason,
            "gates": [asdict(each) for each in report.gates],
            "accepted": {each.name: accept[each.name] for each in closed},
        }
        async with self._database.connection() as conn:
            made = await finalizations.write(conn, self._database.schema, values)
        if isinstance(made, str):
            raise FinalizationError(made)
        return made

    async def reopen(self, executor: str, task: str, author: Author) -> Finalization | None:
        """See `FinishesCutovers.reopen`."""
        values = {
            "executor": self._drains.known(executor),
            "task": task,
            "actor": author.actor,
            "source": author.source,
            "reason": author.reason,
        }
        async with self._database.connection() as conn:
            return await finalizations.reopen(conn, self._database.schema, values)

    async def standing(self) -> list[Finalization]:
        """See `FinishesCutovers.finalizations`."""
        async with self._database.connection() as conn:
            return await finalizations.standing(conn, self._database.schema)
