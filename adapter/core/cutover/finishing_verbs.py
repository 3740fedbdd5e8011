"""The verbs by which people leave an executor for good, and make sure that they still could go back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from adapter.core.cutover.draining import QUIET, Drains, DrainStatus
from adapter.core.cutover.drilling import Drills
from adapter.core.cutover.finalizing import FinalizeReport, Finalizing
from adapter.core.cutover.steering import Steering
from adapter.core.cutover.way_back import WayBack, WaysBack
from adapter.domain.drill import Drill
from adapter.domain.job import LOCAL
from adapter.domain.routing import EVERY_TASK
from adapter.store.finalizations import Finalization
from adapter.store.flag_changes import Author


class FinishesCutovers:
    """Mixed into the adapter: what an executor still holds, the way back, drills, and the gate."""

    drains: Drains
    drilling: Drills
    finalizing: Finalizing
    steering: Steering
    ways_back: WaysBack

    async def drain_status(
        self, executor: str | None = None, *, task: str | None = None, quiet: timedelta = QUIET
    ) -> DrainStatus:
        """Return what executors still hold, per task: jobs, uncertain submits, runs, schedules, and their own count.

        An executor is drained when nothing is left, it got no new job for ``quiet``, and it says the same itself.
        Canaries do not count.

        Raises:
            UnknownExecutorError: it is not configured.
        """
        return await self.drains.status(executor, task=task, quiet=quiet)

    async def wait_drained(
        self, executor: str, *, task: str | None = None, timeout: timedelta, quiet: timedelta = QUIET
    ) -> DrainStatus:
        """Return once an executor is drained, or how it stands when ``timeout`` is over; ``drained`` says which.

        Raises:
            UnknownExecutorError: it is not configured.
        """
        return await self.drains.wait(executor, task=task, timeout=timeout, quiet=quiet)

    async def can_go_back(self, task: str | None = None, *, to: str = LOCAL) -> list[WayBack]:
        """Return whether an executor could take the jobs of a task, or of every enabled one, as things are now.

        Local: a living worker has a handler, it takes the payload this application sends, and the queue's limits
        bear what comes in. A remote: the registry has the task's name there, and its circuit is closed.

        Raises:
            UnknownTaskError, UnknownExecutorError: there is no such thing.
        """
        return await self.ways_back.check(task, to, await self.steering.current())

    # ---- the drill -------------------------------------------------------------------------------

    async def drill(
        self,
        task: str,
        *,
        hold: timedelta,
        to: str = LOCAL,
        reason: str,
        actor: str = "application",
        source: str = "api",
    ) -> Drill:
        """Send every new job of a task to ``to`` for a while, measure what happens, and put the flag back.

        It is measured by the rows and the database's clock: when the last job was assigned elsewhere, that none
        was lost or started by two executors, that those that came can run there. Returns once it is over; when
        this process dies, whoever runs background loops, or the next drill, puts the flag back. A flag that
        somebody else turns meanwhile stays as they turned it.

        Raises:
            UnknownTaskError, UnknownExecutorError, InvalidArgumentError: nothing was changed; also when the task
                cannot run there, or a switch of the environment decides for it.
            DrillConflictError: a drill of the task is running.
            ExecutorFinalizedError: the task has left that executor for good.
        """
        return await self.drilling.run(task, to=to, hold=hold, author=Author(reason, actor, source))

    async def start_drill(
        self,
        task: str,
        *,
        hold: timedelta,
        to: str = LOCAL,
        reason: str,
        actor: str = "application",
        source: str = "api",
    ) -> Drill:
        """Do what `drill` does, and return once it has begun: this process goes on with it.

        `drills` says how it ended. Closing the adapter ends it as interrupted, with the flag put back.

        Raises:
            The errors of `drill`.
        """
        return await self.drilling.start(task, to=to, hold=hold, author=Author(reason, actor, source))

    async def drills(self, task: str | None = None, *, limit: int = 50) -> list[Drill]:
        """Return drills, the newest first."""
        return await self.drilling.latest(task, limit)

    # ---- for good --------------------------------------------------------------------------------

    async def finalize_check(self, executor: str, *, task: str = EVERY_TASK) -> FinalizeReport:
        """Return what still ties a task, or all that can run there, to an executor, and which gates have passed.

        Raises:
            UnknownTaskError, UnknownExecutorError: there is no such thing.
        """
        return await self.finalizing.check(executor, task)

    async def finalize(
        self,
        executor: str,
        *,
        task: str = EVERY_TASK,
        reason: str,
        accept: Mapping[str, str] | None = None,
        actor: str = "application",
        source: str = "api",
    ) -> Finalization:
        """Leave an executor for good: from then on no flag sends jobs of the task there, until `reopen`.

        ``accept``: gates that may stay open, each with the reason; both are written down. Nothing is deleted.

        Raises:
            FinalizationError: a gate has not passed, a drill is running, or it was finalized before.
            UnknownTaskError, UnknownExecutorError, InvalidArgumentError: there is no such task, executor or gate.
        """
        return await self.finalizing.finalize(executor, task, Author(reason, actor, source), accept or {})

    async def reopen(
        self,
        executor: str,
        *,
        task: str = EVERY_TASK,
        reason: str,
        actor: str = "application",
        source: str = "api",
    ) -> Finalization | None:
        """Let flags send jobs there again; None when this was not finalized."""
        return await self.finalizing.reopen(executor, task, Author(reason, actor, source))

    async def finalizations(self) -> list[Finalization]:
        """Return the executors that were left for good, and not reopened."""
        return await self.finalizing.standing()
