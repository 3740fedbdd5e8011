"""The verbs by which people look at executors, and open and close their circuits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from adapter.core.cutover.steering import Steering
from adapter.core.registry import Registry
from adapter.domain.failback import CANARY, wilson_lower
from adapter.domain.job import executor_name
from adapter.store import executor_health
from adapter.store.database import Database
from adapter.store.executor_health import Canary, Health
from adapter.store.flag_changes import Author, FlagChange
from adapter.store.flag_entries import FlagEntry, entries


@dataclass(frozen=True, slots=True)
class TaskHealth:
    """One task at one executor: what failed there by the executor's own fault, of how many runs.

    ``at_least``: the lower bound of its share of failures. ``in_a_row``: submits that did not surely arrive,
    since the last that did.
    """

    executor: str
    task: str
    runs: int
    failures: int
    at_least: float
    in_a_row: int


@dataclass(frozen=True, slots=True)
class ExecutorHealth:
    """What all processes together know of their executors. ``circuits``: those that are open."""

    tasks: list[TaskHealth]
    canaries: list[Canary]
    circuits: list[FlagEntry]


class WatchesExecutors:
    """Mixed into the adapter: health of executors, circuits opened and closed by a person."""

    database: Database
    registry: Registry
    steering: Steering

    def canary(
        self, executor: str, *, remote_id: str = CANARY, every: timedelta = timedelta(minutes=1)
    ) -> None:
        """Send an executor a job that does nothing, every so often, by the path of all jobs.

        ``remote_id``: what the executor calls the task that has to be there for it. When none has come back
        for three of ``every``, the circuit of the whole executor opens.

        Raises:
            TaskDefinitionError: it is more often than once a second, or the adapter is open.
        """
        self.registry.add_canary(executor_name(executor), remote_id, every)

    async def executor_health(self) -> ExecutorHealth:
        """Return how executors do: failures of their own, canaries, open circuits."""
        async with self.database.connection() as conn:
            schema = self.database.schema
            known = await executor_health.known(conn, schema)
            canaries = await executor_health.canaries(conn, schema)
            circuits = [each for each in await entries(conn, schema) if each.kind == "circuit"]
        return ExecutorHealth([_shown(each) for each in known], canaries, circuits)

    async def open_circuit(
        self,
        task: str,
        *,
        executor: str,
        reason: str,
        actor: str = "application",
        source: str = "api",
        expected_version: int | None = None,
    ) -> FlagChange:
        """Give an executor no more jobs of a task (``*``: none), until `clear_flag` with kind ``circuit``.

        New jobs go to the task's fallback, and so do those nobody has tried to hand over; without a fallback
        they wait. What the executor has goes on. Once cleared, it is judged by what it does from then on.

        Raises:
            UnknownTaskError, UnknownExecutorError, InvalidArgumentError, FlagConflictError: nothing was changed.
        """
        author = Author(reason, actor, source)
        return await self.steering.open_circuit(task, executor, author, expected_version)


def _shown(health: Health) -> TaskHealth:
    runs = len(health.outcomes)
    lower = wilson_lower(health.failures, runs)
    return TaskHealth(health.executor, health.task, runs, health.failures, lower, health.in_a_row)
