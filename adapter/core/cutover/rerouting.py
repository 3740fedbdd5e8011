"""What the flags mean for jobs that nobody was given yet: held, moved to where they can run, or let go."""

from __future__ import annotations

import logging
from dataclasses import replace

from adapter.core.parts import Parts
from adapter.domain.failback import CANARY
from adapter.domain.routing import EVERY_TASK, Flags, Request, can_run, decide, kill_switch
from adapter.domain.task import TaskPolicy
from adapter.store import outbox, stranded
from adapter.store.database import Connection
from adapter.store.wakeup import DISPATCH

logger = logging.getLogger("adapter.dispatch")

_CIRCUIT = "the circuit of {} is open: the task's fallback"


class Rerouter:
    """Looks at the unsent and the stranded before each round of the dispatcher."""

    def __init__(self, parts: Parts) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._notifier = parts.notifier
        #: (executor, task) that cannot be handed out here, which has been said.
        self._nameless: set[tuple[str, str]] = set()

    async def run_once(self, flags: Flags, *, stranded_too: bool) -> dict[str, list[str]]:
        """Move what a kill switch takes away before any try left; returns tasks to hold, per executor.

        ``stranded_too``: also see to jobs that wait for an executor that can run them.
        """
        held: dict[str, list[str]] = {}
        async with self._database.connection() as conn:
            if stranded_too:
                for executor, task in await stranded.stranded_types(conn, self._database.schema):
                    await self._unstrand(conn, executor, task, flags)
            for executor, task in await stranded.unsent_types(conn, self._database.schema):
                # One pass may not reach every row: none of the others may leave meanwhile.
                if await self._see_to(conn, executor, task, flags):
                    held.setdefault(executor, []).append(task)
        return held

    def policy(self, task: str) -> TaskPolicy:
        """Return what the registry says of a task, or that it says nothing."""
        definition = self._registry.find(task)
        return definition.policy if definition is not None else TaskPolicy(id=task)

    def named_at(self, executor: str) -> list[str]:
        """Return the tasks whose name there this process knows. Keys are per name: a guess could run a job twice."""
        return [each.id for each in self._registry if executor in each.policy.remote_ids]

    async def _see_to(self, conn: Connection, executor: str, task: str, flags: Flags) -> bool:
        """Move what a switch or a circuit takes away; returns whether what is left must be held."""
        policy, kill = self.policy(task), kill_switch(flags, task)
        if executor not in policy.remote_ids:
            self._say_once(executor, task)
        if not self.is_held(executor, task, flags):
            if self._registry.find(task) is not None and not can_run(policy, executor, flags):
                # Delayed jobs became due, or a switch has sent them there: whoever has it takes them up.
                await stranded.strand(conn, self._database.schema, executor, task)
            return False
        by_switch = kill is not None and kill[0] != executor
        to, reason = kill if kill is not None and by_switch else (policy.fallback, _CIRCUIT.format(executor))
        runnable = to is not None and can_run(policy, to, flags)
        if not policy.enabled or to is None or to == executor or not (by_switch or runnable):
            return True
        queues = await outbox.reroute(
            conn,
            self._database.schema,
            executor=executor,
            to=to,
            reason=reason,
            runnable=runnable,
            types=[task],
            spare_strict=not by_switch,
        )
        self._moved(task, to, reason, queues)
        return True

    def is_held(self, executor: str, task: str, flags: Flags) -> bool:
        """Whether jobs that no try has left for must not go there: by a switch or circuit, or they are disabled."""
        policy, kill = self.policy(task), kill_switch(flags, task)
        if not policy.enabled:
            return True
        if kill is not None and kill[0] != executor:
            return policy.on_kill != "keep" or can_run(policy, kill[0], flags)
        return task != CANARY and bool({(task, executor), (EVERY_TASK, executor)} & flags.open_circuits)

    async def _unstrand(self, conn: Connection, executor: str, task: str, flags: Flags) -> None:
        """Let waiting jobs go where they can run: there after all, or elsewhere once no switch sends them there."""
        definition = self._registry.find(task)
        if definition is None or not definition.policy.enabled:
            # Whoever knows the task sees to it; those of a disabled one stay.
            return
        policy, schema = definition.policy, self._database.schema
        kill = kill_switch(flags, task)
        if kill is not None and kill[0] != executor:
            to, reason = kill
        elif policy.runs_at(executor):
            if await stranded.admit(conn, schema, executor, task):
                self._notifier.poke(DISPATCH)
            return
        elif kill is None and not can_run(policy, executor, flags):
            # What a rollout looks at is not all on the row, so the registry decides.
            route = decide(policy, Request(job_id=""), replace(flags, rollouts=()))
            to, reason = route.executor, f"no switch sends it to {executor} any more; {route.reason}"
        else:
            return
        if to != executor and can_run(policy, to, flags):
            queues = await stranded.move(conn, schema, executor=executor, task=task, to=to, reason=reason)
            self._moved(task, to, reason, queues)

    def _moved(self, task: str, to: str, reason: str, queues: list[str]) -> None:
        if queues:
            logger.info("%d jobs of %s go to %s: %s", len(queues), task, to, reason)
            self._notifier.poke(*set(queues), DISPATCH)

    def _say_once(self, executor: str, task: str) -> None:
        if (executor, task) not in self._nameless:
            self._nameless.add((executor, task))
            logger.warning("jobs of %r wait: this process does not know what %s calls it", task, executor)
