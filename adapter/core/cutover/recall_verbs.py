"""The verbs by which jobs are taken back from an executor."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from adapter.core.cutover.rollback import RollbackReport, Rollbacks
from adapter.domain.job import LOCAL
from adapter.domain.recall import Recall, RollbackMode


class RecallsJobs:
    """Mixed into the adapter: back from a remote, for new jobs at once, for others by asking."""

    rollbacks: Rollbacks

    async def rollback(
        self,
        task: str,
        *,
        mode: RollbackMode = "new-only",
        to: str = LOCAL,
        reason: str,
        actor: str = "application",
        dry_run: bool = False,
        timeout: timedelta | None = None,
    ) -> RollbackReport:
        """Send new jobs of a task (``*``: of all) to ``to`` by its kill switch, and take back what was given away.

        ``mode``: ``new-only`` touches no job that was given away. ``recall-unstarted`` takes back those that have
        not started. ``recall-all`` also cancels those that run, of idempotent tasks only. The report says what became
        of each, and with ``dry_run`` what there is, which guarantee holds, and how long it takes.

        It is stored: after ``timeout``, or when this process dies, a process that runs the sync loops goes on with
        it; the same call finds it again. `resume_recall` and `stop_recall` take its id.

        Raises:
            InvalidArgumentError: the task cannot run there, is not idempotent for ``recall-all``, there is no
                reason, or a switch of the environment would undo it.
            RecallConflictError: another recall of this task stands.
            UnknownTaskError, UnknownExecutorError: there is no such thing.
        """
        return await self.rollbacks.rollback(
            task, mode=mode, to=to, reason=reason, actor=actor, dry_run=dry_run, timeout=timeout
        )

    async def migrate_pending(
        self,
        task: str,
        *,
        to: str,
        reason: str,
        actor: str = "application",
        batch: int = 500,
        per_second: float | None = None,
        dry_run: bool = False,
        timeout: timedelta | None = None,
    ) -> RollbackReport:
        """Move the delayed and queued jobs of a task (``*``: of all) to ``to``: what no rollout or switch touches.

        Only what has not started and no remote was given: it asks nobody, and is exact. ``batch``: jobs in one
        transaction; ``per_second``: at most so many. Stored, and gone on with, as a `rollback` is.

        Raises:
            InvalidArgumentError: the task cannot run there, a kill switch would bring its jobs back, or there is no
                reason.
            RecallConflictError: another recall of this task stands.
            UnknownTaskError, UnknownExecutorError: there is no such thing.
        """
        return await self.rollbacks.migrate_pending(
            task,
            to=to,
            reason=reason,
            actor=actor,
            dry_run=dry_run,
            timeout=timeout,
            batch=batch,
            per_second=per_second,
        )

    async def recalls(self, limit: int = 50) -> list[Recall]:
        """Return recalls, the newest first."""
        return await self.rollbacks.latest(limit)

    async def recall_report(self, recall_id: UUID) -> RollbackReport:
        """Return how a recall stands.

        Raises:
            RecallNotFoundError: there is none of that id.
        """
        return await self.rollbacks.report(recall_id)

    async def resume_recall(self, recall_id: UUID, *, timeout: timedelta | None = None) -> RollbackReport:
        """Go on with a recall that was stopped, or whose process died; one that is done stays so.

        Raises:
            RecallNotFoundError, RecallConflictError: there is none of that id, or another one of its task stands.
        """
        return await self.rollbacks.resume(recall_id, timeout=timeout)

    async def stop_recall(self, recall_id: UUID, *, timeout: timedelta | None = None) -> RollbackReport:
        """End a recall: jobs of which nothing was asked stay where they are; cancels that have left are seen through.

        Raises:
            RecallNotFoundError: there is none of that id.
        """
        return await self.rollbacks.stop(recall_id, timeout=timeout)
