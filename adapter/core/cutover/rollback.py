"""Going back: new jobs at once by the kill switch, those that were given away by a recall."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.budget import SHARES
from adapter.core.cutover.fencing import EVERY_VERSION, refuses_old_runs
from adapter.core.cutover.recall import Recaller
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
    Guarantee,
    NewRecall,
    Recall,
    RecallCounts,
    RecallMode,
    RecallOutcome,
    RecallState,
    RollbackMode,
)
from adapter.domain.routing import EVERY_TASK, Flags, can_run, kill_switch
from adapter.domain.task import TaskPolicy
from adapter.store import recalls, taking_back
from adapter.store.flag_changes import Author

#: Jobs named one by one in a report.
_MOST_NAMED = 100
_HITS = (RecallOutcome.HIT_CANCELED, RecallOutcome.HIT_MOVED)
#: What a job that the remote has accepted costs: two looks and a cancel.
_READS, _CANCELS = 2, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Which guarantee holds for the jobs of one task at one executor, and why."""

    task: str
    executor: str
    guarantee: Guarantee
    jobs: RecallCounts
    says: str


@dataclass(slots=True, kw_only=True)
class RollbackReport:
    """What a rollback or migration found and did.

    ``hit_running`` comes first: jobs that started after our cancel had left, and were canceled at work. ``outcomes``
    counts jobs by `RecallOutcome`; ``open``: not settled yet. ``left``: jobs that stay where they are, at most 100.
    ``eta_seconds``: what the remote's rate limit makes of what is left, None when it has none.
    """

    hit_running: list[UUID] = field(default_factory=list[UUID])
    task: str
    mode: str
    target: str
    dry_run: bool = False
    recall_id: UUID | None = None
    state: RecallState | None = None
    promises: list[Promise] = field(default_factory=list[Promise])
    #: Tasks that are not touched, each with the reason.
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    left: list[UUID] = field(default_factory=list[UUID])
    eta_seconds: float | None = None
    seconds: float = 0.0
    calls: int = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.state is None or not self.state.is_open


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
        **shape: Any,
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
        new = NewRecall(
            id=UUID(str(uuid7())),
            task=task,
            source=ANYWHERE,
            target=target,
            mode=plan.mode,
            types=tuple(plan.types),
            idempotent=tuple(plan.idempotent),
            reason=reason,
            actor=actor,
            **shape,
        )
        recall = await self._begin(new)
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
            report.promises = await self._promises(list(recall.types), recall.source, recall.target)
            report.eta_seconds = self._eta(report.promises)
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
            if can_run(policy, target, flags):
                taken.append(policy)
            else:
                skipped[policy.id] = f"it cannot run at {target!r}: no handler or name there is known"
        if task != EVERY_TASK and skipped:
            msg = f"The jobs of {task!r} cannot be taken back: {skipped[task]}."
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
        promises = await self._promises(plan.types, ANYWHERE, target)
        return RollbackReport(
            task=task,
            mode=plan.mode.value,
            target=target,
            dry_run=True,
            skipped=plan.skipped,
            promises=promises,
            eta_seconds=self._eta(promises),
        )

    async def _promises(self, types: list[str], source: str, target: str) -> list[Promise]:
        async with self._database.connection() as conn:
            schema = self._database.schema
            counts = await taking_back.count(conn, schema, types=types, source=source, target=target)
        return [self._promise(task, executor, found) for (task, executor), found in counts.items()]

    def _promise(self, task: str, executor: str, found: RecallCounts) -> Promise:
        definition, place = self._registry.find(task), self._executors.get(executor)
        if place is not None and refuses_old_runs(definition, place):
            guarantee, says = (
                Guarantee.FENCE,
                "a run that was left behind asks before it begins, and is refused",
            )
        elif not (found.uncertain or found.accepted or found.started):
            guarantee, says = Guarantee.UNSENT, "nothing was given away"
        else:
            guarantee = Guarantee.BEST_EFFORT
            says = (
                "each run is looked at, canceled, and moved once its remote says that it never started; one that "
                "begins in between is canceled at work, and "
            )
            moves = definition is not None and definition.policy.idempotent
            says += "runs again" if moves else "ends as CANCELED"
            since = definition.policy.start_fence.get(executor) if definition is not None else None
            if since not in {None, EVERY_VERSION}:
                says += f"; runs bound to version {since} or later are exact"
        return Promise(task=task, executor=executor, guarantee=guarantee, jobs=found, says=says)

    def _eta(self, promises: list[Promise]) -> float | None:
        """How long the calls take at the remotes' rate limits; None when none of them has one."""
        longest: float | None = None
        for name in {each.executor for each in promises}:
            place = self._executors.get(name)
            if place is None or place.budget is None:
                continue
            asked = sum(
                each.jobs.uncertain + each.jobs.accepted
                for each in promises
                if each.executor == name and each.guarantee is not Guarantee.FENCE
            )
            per_second = place.budget.per_second
            seconds = max(
                asked * _READS / (per_second * SHARES["reads"]),
                asked * _CANCELS / (per_second * SHARES["cancel"]),
            )
            longest = max(longest or 0.0, seconds)
        return longest
