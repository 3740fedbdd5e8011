"""Going back: new jobs at once by the kill switch, those that were given away by a recall."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.cutover.promises import Promises
from adapter.core.cutover.recall import Recaller
from adapter.core.cutover.rollback_report import RollbackReport
from adapter.core.cutover.steering import Steering
from adapter.core.parts import Parts
from adapter.domain.errors import (
    InvalidArgumentError,
    RecallConflictError,
    RecallNotFoundError,
    UnknownExecutorError,
)
from adapter.domain.job import LOCAL, executor_name
from adapter.domain.recall import (
    ANYWHERE,
    NewRecall,
    Recall,
    RecallMode,
    RecallOutcome,
    RecallState,
    RollbackMode,
)
from adapter.domain.routing import EVERY_TASK, Flags, can_run, kill_switch
from adapter.domain.task import TaskPolicy
from adapter.store import recalls
from adapter.store.flag_changes import Author

#: Jobs named one by one in a report.
_MOST_NAMED = 100
_HITS = (RecallOutcome.HIT_CANCELED, RecallOutcome.HIT_MOVED)


@dataclass(frozen=True, slots=True)
class _Plan:
    mode: RecallMode
    types: list[str]
    idempotent: list[str]
    skipped: dict[str, str]


class Rollbacks:
    """Plans recalls, begins them, and tells how they stand."""

    def __init__(self, parts: Parts, steering: Steering, recaller: Recaller) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._executors = parts.executors
        self._steering = steering
        self._recaller = recaller
        self._promises = Promises(parts)

    async def rollback(
        self,
        task: str,
        *,
        mode: RollbackMode,
        to: str,
        reason: str,
        actor: str,
        dry_run: bool,
        timeout: timedelta | None,
    ) -> RollbackReport:
        """See `RecallsJobs.rollback`."""
        target = self._known(to)
        if not reason.strip():
            msg = "A rollback needs a reason."
            raise InvalidArgumentError(msg)
        if mode not in {"new-only", RecallMode.UNSTARTED, RecallMode.ALL}:
            msg = f"A rollback is new-only, recall-unstarted or recall-all, not {mode!r}."
            raise InvalidArgumentError(msg)
        flags = await self._steering.current()
        self._check_switches(flags, task, target)
        if mode == "new-only":
            report = RollbackReport(task=task, mode=mode, target=target, dry_run=dry_run)
            if not dry_run:
                await self._steering.kill(task, target, Author(reason, actor, "rollback"))
            return report
        plan = self._plan(task, RecallMode(mode), target, flags)
        if dry_run:
            return await self._preview(task, plan, target)
        recall = await self._begin(_new(task, target, plan, reason=reason, actor=actor))
        await self._recaller.work(recall.id, timeout=timeout)
        return await self.report(recall.id, skipped=plan.skipped)

    async def migrate_pending(
        self,
        task: str,
        *,
        to: str,
        reason: str,
        actor: str,
        dry_run: bool,
        timeout: timedelta | None,
        batch: int,
        per_second: float | None,
    ) -> RollbackReport:
        """See `RecallsJobs.migrate_pending`."""
        target = self._known(to)
        if not reason.strip() or batch < 1 or (per_second is not None and per_second <= 0):
            msg = "A migration needs a reason, a batch of at least 1, and a rate above 0 or none."
            raise InvalidArgumentError(msg)
        flags = await self._steering.current()
        plan = self._plan(task, RecallMode.PENDING, target, flags)
        if dry_run:
            return await self._preview(task, plan, target)
        shape = {"batch": batch, "per_second": per_second}
        recall = await self._begin(_new(task, target, plan, reason=reason, actor=actor, **shape))
        await self._recaller.work(recall.id, timeout=timeout)
        return await self.report(recall.id, skipped=plan.skipped)

    async def _begin(self, new: NewRecall) -> Recall:
        """Store the recall, or find the same one that somebody has begun and not finished."""
        async with self._database.connection() as conn:
            schema = self._database.schema
            begun = await recalls.begin(conn, schema, new)
            standing = None if begun is not None else await recalls.open_for(conn, schema, new.task)
        if begun is not None:
            return begun
        if standing is None:
            # It was finished between the two looks.
            return await self._begin(new)
        if (standing.mode, standing.target) != (new.mode, new.target):
            raise RecallConflictError(standing.task, standing.id, standing.mode)
        return standing

    async def resume(self, recall_id: UUID, *, timeout: timedelta | None = None) -> RollbackReport:
        """See `RecallsJobs.resume_recall`."""
        recall = await self._get(recall_id)
        if recall.state is RecallState.DONE:
            return await self.report(recall_id)
        async with self._database.connection() as conn:
            schema = self._database.schema
            standing = await recalls.open_for(conn, schema, recall.task)
            if standing is not None and standing.id != recall_id:
                raise RecallConflictError(standing.task, standing.id, standing.mode)
            await recalls.go_on(conn, schema, recall_id)
        await self._recaller.work(recall_id, timeout=timeout)
        return await self.report(recall_id)

    async def stop(self, recall_id: UUID, *, timeout: timedelta | None = None) -> RollbackReport:
        """See `RecallsJobs.stop_recall`."""
        await self._get(recall_id)
        async with self._database.connection() as conn:
            await recalls.turn(
                conn,
                self._database.schema,
                recall_id,
                RecallState.STOPPING,
                RecallState.PLANNED,
                RecallState.RUNNING,
            )
        await self._recaller.work(recall_id, timeout=timeout)
        return await self.report(recall_id)

    async def latest(self, limit: int) -> list[Recall]:
        """Return recalls, the newest first."""
        async with self._database.connection() as conn:
            return await recalls.latest(conn, self._database.schema, limit)

    async def report(self, recall_id: UUID, *, skipped: dict[str, str] | None = None) -> RollbackReport:
        """Return how a recall stands.

        Raises:
            RecallNotFoundError: there is none of that id.
        """
        recall = await self._get(recall_id)
        async with self._database.connection() as conn:
            schema = self._database.schema
            tally = await recalls.tally(conn, schema, recall_id)
            named = await recalls.ids(
                conn, schema, recall_id, [*_HITS, RecallOutcome.LEFT], limit=_MOST_NAMED
            )
        report = RollbackReport(
            task=recall.task,
            mode=recall.mode.value,
            target=recall.target,
            recall_id=recall_id,
            state=recall.state,
            skipped=skipped or {},
            outcomes=tally,
            hit_running=[each for outcome in _HITS for each in named[outcome]],
            left=named[RecallOutcome.LEFT],
            seconds=recall.seconds,
            calls=recall.calls,
        )
        if not report.is_done:
            report.promises = await self._promises.of(recall.mode, recall.types, recall.source, recall.target)
            report.eta_seconds = self._promises.eta(report.promises)
        return report

    async def _get(self, recall_id: UUID) -> Recall:
        async with self._database.connection() as conn:
            recall = await recalls.get(conn, self._database.schema, recall_id)
        if recall is None:
            raise RecallNotFoundError(recall_id)
        return recall

    # ---- beforehand ------------------------------------------------------------------------------

    def _known(self, to: str) -> str:
        name = executor_name(to)
        if name != LOCAL and name not in self._executors:
            raise UnknownExecutorError(name, [LOCAL, *self._executors.names], "The rollback")
        return name

    @staticmethod
    def _check_switches(flags: Flags, task: str, target: str) -> None:
        """Refuse what a switch of the environment or of the file would undo."""
        fixed = Flags(kill_environment=flags.kill_environment, kill_file=flags.kill_file)
        kill = kill_switch(fixed, task)
        if kill is not None and kill[0] != target:
            msg = f"The {kill[1]} sends {task!r} to {kill[0]!r}, and no rollback can overrule it. Change it there first."
            raise InvalidArgumentError(msg)

    def _plan(self, task: str, mode: RecallMode, target: str, flags: Flags) -> _Plan:
        """Return what can be taken.

        Raises:
            InvalidArgumentError: the one task cannot run at the target, or a started job must not run twice.
        """
        policies = (
            [each.policy for each in self._registry]
            if task == EVERY_TASK
            else [self._registry.get(task).policy]
        )
        skipped: dict[str, str] = {}
        taken: list[TaskPolicy] = []
        for policy in policies:
            why_not = _why_not(policy, mode, target, flags)
            if why_not is None:
                taken.append(policy)
            else:
                skipped[policy.id] = why_not
        if task != EVERY_TASK and skipped:
            msg = f"The jobs of {task!r} cannot be moved: {skipped[task]}."
            raise InvalidArgumentError(msg)
        if mode is RecallMode.ALL and (fragile := [each.id for each in taken if not each.idempotent]):
            msg = (
                f"recall-all would run jobs a second time that have started: {', '.join(fragile)} must say "
                "idempotent=True for that. Use recall-unstarted."
            )
            raise InvalidArgumentError(msg)
        idempotent = [each.id for each in taken if each.idempotent]
        return _Plan(mode, [each.id for each in taken], idempotent, skipped)

    async def _preview(self, task: str, plan: _Plan, target: str) -> RollbackReport:
        promises = await self._promises.of(plan.mode, plan.types, ANYWHERE, target)
        return RollbackReport(
            task=task,
            mode=plan.mode.value,
            target=target,
            dry_run=True,
            skipped=plan.skipped,
            promises=promises,
            eta_seconds=self._promises.eta(promises),
        )


def _new(task: str, target: str, plan: _Plan, **said: Any) -> NewRecall:
    return NewRecall(
        id=UUID(str(uuid7())),
        task=task,
        source=ANYWHERE,
        target=target,
        mode=plan.mode,
        types=tuple(plan.types),
        idempotent=tuple(plan.idempotent),
        **said,
    )


def _why_not(policy: TaskPolicy, mode: RecallMode, target: str, flags: Flags) -> str | None:
    """Return why the jobs of a task cannot be moved to ``target``, None when they can."""
    if not can_run(policy, target, flags):
        return f"it cannot run at {target!r}: no handler or name there is known"
    kill = kill_switch(flags, policy.id)
    if mode is RecallMode.PENDING and kill is not None and kill[0] != target:
        return f"the {kill[1]} would bring them back to {kill[0]!r}"
    return None
