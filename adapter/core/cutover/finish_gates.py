"""The gates before an executor is left for good. Each is asked of every task; the worst answer counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from adapter.core.cutover.draining import DrainStatus
from adapter.core.cutover.elsewhere import destinations, share
from adapter.core.cutover.parity import parity_report
from adapter.core.cutover.ties import WEEK
from adapter.core.parts import Parts
from adapter.domain.gates import Gate, Verdict
from adapter.domain.parity import ParityTerms, ParityVerdict
from adapter.domain.routing import EVERY_TASK, Flags, kill_switch
from adapter.store import drills, finalizations, history, remote_runs
from adapter.store.database import Connection
from adapter.store.draining import Holding

#: How old the last drill may be.
DRILLED_WITHIN = timedelta(days=30)
#: How far back jobs and copies are compared, as far as they are kept.
COMPARED_WITHIN = timedelta(days=30)
_MOST_SAID = 5


class FinishGates:
    """Holds flags, audit, drills and the registry against what leaving for good needs."""

    def __init__(self, parts: Parts) -> None:
        self._database = parts.database
        self._registry = parts.registry

    async def ask(
        self,
        executor: str,
        tasks: Sequence[str],
        flags: Flags,
        drain: DrainStatus,
        week: Sequence[Holding],
    ) -> list[Gate]:
        """Return every gate with its answer."""
        async with self._database.connection() as conn:
            now = await remote_runs.database_now(conn, self._database.schema)
            return [
                await self._elsewhere(conn, executor, tasks, flags, now),
                _traffic(week),
                _drained(drain),
                await self._failbacks(conn, executor, tasks, flags),
                await self._drilled(conn, executor, tasks, now),
                self._ignored(tasks, now),
                await self._compared(executor, tasks),
            ]

    async def _elsewhere(
        self, conn: Connection, executor: str, tasks: Sequence[str], flags: Flags, now: datetime
    ) -> Gate:
        since = now - WEEK
        there, unsure = list[str](), list[str]()
        for task in tasks:
            schema, policy = self._database.schema, self._registry.get(task).policy
            before = await history.in_force(conn, schema, task, since)
            changes = await history.flags_since(conn, schema, task, since)
            said = [
                (at, part)
                for at, where in destinations(policy, flags, before, changes, since)
                if (part := share(where, executor)) is not None
            ]
            if said:
                there.append(f"{task}: {said[-1][1]} from {said[-1][0]:%Y-%m-%d %H:%M %Z} on")
            elif kill_switch(Flags(kill_environment=flags.kill_environment, kill_file=flags.kill_file), task):
                unsure.append(task)
        if there:
            return _failed("elsewhere", there, "went there in the last 7 days")
        if unsure:
            says = "a switch of the environment or a file decides, and since when is not known"
            return Gate("elsewhere", Verdict.UNKNOWN, f"{_some(unsure)}: {says}")
        return Gate("elsewhere", Verdict.PASSED, "for 7 days every new job has gone elsewhere")

    async def _failbacks(self, conn: Connection, executor: str, tasks: Sequence[str], flags: Flags) -> Gate:
        asked = [*tasks, EVERY_TASK]
        found = await finalizations.failbacks(conn, self._database.schema, executor, asked, WEEK)
        said = [f"{task} left {place} at {at:%Y-%m-%d %H:%M %Z}" for task, place, at in found]
        said += [
            f"the circuit of {place} is open for {task}"
            for task, place in sorted(flags.open_circuits)
            if task in asked and place != executor
        ]
        if said:
            return Gate("no failback", Verdict.FAILED, _some(said))
        return Gate("no failback", Verdict.PASSED, "no circuit elsewhere has opened in 7 days")

    async def _drilled(self, conn: Connection, executor: str, tasks: Sequence[str], now: datetime) -> Gate:
        missing = list[str]()
        for task in tasks:
            at = await drills.last_passed(conn, self._database.schema, task, executor)
            if at is None or at < now - DRILLED_WITHIN:
                missing.append(task if at is None else f"{task} (the last on {at:%Y-%m-%d})")
        if missing:
            return _failed("drill", missing, "no drill back to it has passed in 30 days")
        return Gate("drill", Verdict.PASSED, "a drill of every task has passed in the last 30 days")

    async def _compared(self, executor: str, tasks: Sequence[str]) -> Gate:
        """Hold where the jobs go now against the executor that is left; one that saw no job of late says nothing."""
        found = dict[str, ParityVerdict]()
        for task in tasks:
            report = await parity_report(
                self._database,
                self._registry,
                task,
                since=COMPARED_WITHIN,
                reference=executor,
                terms=ParityTerms(),
            )
            found[task] = report.verdict
        unequal = [task for task, verdict in found.items() if verdict is ParityVerdict.FAIL]
        unsure = [task for task, verdict in found.items() if verdict is ParityVerdict.INCONCLUSIVE]
        if unequal:
            return _failed("parity", unequal, "the executors did not do the same")
        if unsure:
            return Gate("parity", Verdict.UNKNOWN, f"too little was compared in 30 days: {_some(unsure)}")
        return Gate("parity", Verdict.PASSED, "the executors did the same")

    def _ignored(self, tasks: Sequence[str], now: datetime) -> Gate:
        found = list[str]()
        for task in tasks:
            compare = self._registry.get(task).policy.compare
            expired = compare.expired(now.date())
            found += [f"{task}: {each}" for each in compare.rules if each not in expired]
        if found:
            return _failed("ignore rules", found, "differences are still ignored")
        return Gate("ignore rules", Verdict.PASSED, "no difference is ignored")


def _traffic(week: Sequence[Holding]) -> Gate:
    came = [f"{each.task}: {each.arrived}" for each in week if each.arrived]
    if came:
        return _failed("traffic", came, "jobs came in the last 7 days")
    return Gate("traffic", Verdict.PASSED, "no job came in 7 days, as far as jobs are kept")


def _drained(drain: DrainStatus) -> Gate:
    if drain.drained:
        return Gate("drained", Verdict.PASSED, "nothing is left there")
    left = [
        f"{each.task or 'jobs that are gone'}: {', '.join(each.left)}" for each in drain.tasks if each.left
    ]
    if left:
        return Gate("drained", Verdict.FAILED, _some(left))
    return Gate("drained", Verdict.UNKNOWN, "; ".join(drain.remote_unknown.values()))


def _failed(name: str, found: Sequence[str], says: str) -> Gate:
    return Gate(name, Verdict.FAILED, f"{says}: {_some(found)}")


def _some(found: Iterable[str]) -> str:
    listed = list(found)
    more = len(listed) - _MOST_SAID
    return "; ".join(listed[:_MOST_SAID]) + (f"; and {more} more" if more > 0 else "")
