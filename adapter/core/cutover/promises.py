"""What can be promised of a recall before it is begun: which guarantee holds for which jobs, and how long it takes."""

from __future__ import annotations

from collections.abc import Sequence

from adapter.core.budget import SHARES
from adapter.core.cutover.fencing import EVERY_VERSION, refuses_old_runs
from adapter.core.cutover.rollback_report import Promise
from adapter.core.parts import Parts
from adapter.domain.recall import Guarantee, RecallCounts, RecallMode
from adapter.store import taking_back

#: What a job that the remote has accepted costs: a look, a cancel, and another look.
_CALLS = 3


class Promises:
    """Counts jobs and says what holds for them."""

    def __init__(self, parts: Parts) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._executors = parts.executors

    async def of(self, mode: RecallMode, types: Sequence[str], source: str, target: str) -> list[Promise]:
        """Return a promise per task and executor that has jobs."""
        count = taking_back.count_pending if mode is RecallMode.PENDING else taking_back.count
        async with self._database.connection() as conn:
            found = await count(conn, self._database.schema, types=list(types), source=source, target=target)
        return [self._promise(task, executor, jobs) for (task, executor), jobs in found.items()]

    def _promise(self, task: str, executor: str, found: RecallCounts) -> Promise:
        definition, place = self._registry.find(task), self._executors.get(executor)
        if not (found.uncertain or found.accepted):
            guarantee, says = Guarantee.UNSENT, "no try has left for any of them"
        elif place is not None and refuses_old_runs(definition, place):
            guarantee, says = (
                Guarantee.FENCE,
                "a run that is left behind asks before it begins, and is refused",
            )
        else:
            guarantee = Guarantee.BEST_EFFORT
            moves = definition is not None and definition.policy.idempotent
            says = (
                "each run is looked at, canceled, and moved once its remote says that it never started; one that "
                f"begins in between is canceled at work, and {'runs again' if moves else 'ends as CANCELED'}"
            )
            since = definition.policy.start_fence.get(executor) if definition is not None else None
            if since not in {None, EVERY_VERSION}:
                says += f"; runs bound to version {since} or later are exact"
        return Promise(task=task, executor=executor, guarantee=guarantee, jobs=found, says=says)

    def eta(self, promises: Sequence[Promise]) -> float | None:
        """Return the seconds the calls take at the remotes' rate limits; None when none of them has one."""
        longest: float | None = None
        for name in {each.executor for each in promises}:
            place = self._executors.get(name)
            if place is None or place.budget is None:
                continue
            asked = sum(
                each.jobs.uncertain + each.jobs.accepted
                for each in promises
                if each.executor == name and each.guarantee is Guarantee.BEST_EFFORT
            )
            # While nothing else is handed out there, what is left of the shares is all ours.
            calls = asked * _CALLS
            longest = max(longest or 0.0, calls / (place.budget.per_second * sum(SHARES.values())))
        return longest
