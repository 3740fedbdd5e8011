"""Drain: what an executor still holds, how long that takes, and when nothing is left."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from adapter.core.budget import Budgets
from adapter.core.parts import Parts
from adapter.domain.errors import ExecutorError, InvalidArgumentError, ThrottledError, UnknownExecutorError
from adapter.domain.failback import CANARY
from adapter.domain.job import LOCAL, OPEN, JobStatus, executor_name
from adapter.executors.base import Executor, RunFilter
from adapter.store import draining
from adapter.store.draining import Holding

#: No new job for so long, unless told otherwise.
QUIET = timedelta(minutes=15)
#: Remotes hide old runs unless they are asked for.
_LOOKS_BACK = timedelta(days=90)
_MOST_PAGES = 10
_CALL_WAIT = timedelta(seconds=10)
_EVERY_S = 5.0
_SHOWN_THERE = tuple(sorted(OPEN - {JobStatus.PENDING}))


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDrain:
    """What one executor still holds of one task; drained when ``left`` is empty.

    ``open``: jobs by status. ``uncertain``: of those, submits that may have arrived. ``runs``: not known to have
    ended, of every epoch. ``last_assigned_at``: the newest job there, None when it is older than the quiet time and
    nothing is open. ``arrivals``, ``completions``: jobs a second in the quiet time. ``eta_seconds``: None while as
    much arrives as ends. ``remote``: open runs by the executor's own count, None when it could not say. ``task`` is
    empty for runs of jobs that are past their retention.
    """

    executor: str
    task: str
    open: dict[str, int]
    uncertain: int
    oldest_at: datetime | None
    furthest_due: datetime | None
    schedules: int
    runs: int
    last_assigned_at: datetime | None
    arrivals: float
    completions: float
    eta_seconds: float | None
    remote: int | None
    left: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainStatus:
    """What executors still hold. ``remote_unknown``: why one could not be asked for its own count."""

    at: datetime
    drained: bool
    tasks: list[TaskDrain]
    remote_unknown: dict[str, str]


@dataclass(frozen=True, slots=True)
class _OwnCount:
    """Open runs by task, as the executor counts them; ``problem``: why it could not say."""

    runs: Counter[str]
    problem: str | None = None


class Drains:
    """Looks at what executors hold, here and there."""

    def __init__(self, parts: Parts, budgets: Budgets) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._executors = parts.executors
        self._budgets = budgets
        self._clock = parts.clock

    async def status(
        self,
        executor: str | None = None,
        *,
        task: str | None = None,
        quiet: timedelta = QUIET,
        ask_remote: bool = True,
    ) -> DrainStatus:
        """See `FinishesCutovers.drain_status`; without ``ask_remote`` the executor's own count is left out."""
        if quiet <= timedelta(0):
            msg = "quiet must be longer than nothing."
            raise InvalidArgumentError(msg)
        names = [self.known(executor)] if executor is not None else [LOCAL, *self._executors.names]
        types = [each.id for each in self._registry]
        shown: list[TaskDrain] = []
        unknown: dict[str, str] = {}
        now = self._clock.now()
        for name in names:
            own = await self._own_count(name, task) if ask_remote and name != LOCAL else _OwnCount(Counter())
            if own.problem is not None:
                unknown[name] = own.problem
            async with self._database.connection() as conn:
                held, now = await draining.holdings(
                    conn,
                    self._database.schema,
                    name,
                    task=task,
                    types=types,
                    apart=[CANARY],
                    window=quiet,
                )
            known = {each.task: each for each in held}
            for there in {*own.runs} - {*known}:
                known[there] = Holding(name, there, {})
            shown += [_shown(known[each], own, quiet, now) for each in sorted(known)]
        drained = not unknown and not any(each.left for each in shown)
        return DrainStatus(at=now, drained=drained, tasks=shown, remote_unknown=unknown)

    async def wait(
        self, executor: str, *, task: str | None, timeout: timedelta, quiet: timedelta
    ) -> DrainStatus:
        """See `FinishesCutovers.wait_drained`. The executor is only asked once nothing else is left."""
        until = self._clock.monotonic() + timeout.total_seconds()
        while True:
            status = await self.status(executor, task=task, quiet=quiet, ask_remote=False)
            if status.drained:
                status = await self.status(executor, task=task, quiet=quiet)
            rest = until - self._clock.monotonic()
            if status.drained or rest <= 0:
                return status
            await self._clock.sleep(min(_EVERY_S, rest))

    def known(self, executor: str) -> str:
        """Return the name of an executor.

        Raises:
            UnknownExecutorError: it is not configured.
        """
        name = executor_name(executor)
        if name != LOCAL and name not in self._executors:
            raise UnknownExecutorError(name, [LOCAL, *self._executors.names], "The call")
        return name

    async def _own_count(self, name: str, task: str | None) -> _OwnCount:
        """Count the open runs of our tasks at an executor, within its rate limit and a bounded number of pages."""
        executor = self._executors.by_name[name]
        names = {
            each.policy.remote_ids[name]: each.id
            for each in self._registry
            if name in each.policy.remote_ids and each.id != CANARY and task in {None, each.id}
        }
        if not names:
            whose = "no task of this application" if task is None else f"{task!r} of this application"
            return _OwnCount(Counter(), f"{whose} has a name there, so there is nothing to ask for")
        try:
            return await self._listed(executor, names)
        except ExecutorError as error:
            if isinstance(error, ThrottledError) and error.retry_at is not None:
                pause = max(error.retry_at - self._clock.now(), timedelta(seconds=1))
                await self._budgets.pause(executor, pause)
            return _OwnCount(Counter(), f"it cannot be asked: {error}")

    async def _listed(self, executor: Executor, names: dict[str, str]) -> _OwnCount:
        if not executor.capabilities.lookup:
            return _OwnCount(Counter(), "it cannot list its runs")
        wanted = RunFilter(
            since=self._clock.now() - _LOOKS_BACK, tasks=tuple(sorted(names)), statuses=_SHOWN_THERE
        )
        runs, cursor = Counter[str](), None
        for _ in range(_MOST_PAGES):
            if not await self._budgets.take(executor, "reads", longest=_CALL_WAIT):
                return _OwnCount(runs, "its rate limit leaves no room to ask")
            page = await executor.list_runs(wanted, cursor)
            runs.update(names[each.task] for each in page.runs if each.task in names)
            if page.next is None:
                return _OwnCount(runs)
            cursor = page.next
        return _OwnCount(runs, f"it has more than {runs.total()} open runs")


def _shown(held: Holding, own: _OwnCount, quiet: timedelta, now: datetime) -> TaskDrain:
    jobs = sum(held.open.values())
    arrivals, completions = (n / quiet.total_seconds() for n in (held.arrived, held.ended))
    surplus = completions - arrivals
    eta = 0.0 if not jobs else jobs / surplus if surplus > 0 else None
    remote = own.runs[held.task] if held.executor != LOCAL and own.problem is None else None
    left = [
        f"{n} {what}"
        for n, what in (
            (jobs, "open"),
            (held.uncertain, "uncertain"),
            (held.runs, "runs not known to have ended"),
            (held.schedules, "schedules"),
            (own.runs[held.task], "open by its own count"),
        )
        if n
    ]
    if held.last_at is not None and held.last_at > now - quiet:
        left.append(f"the last job came {(now - held.last_at).total_seconds():.0f} s ago")
    return TaskDrain(
        executor=held.executor,
        task=held.task,
        open=held.open,
        uncertain=held.uncertain,
        oldest_at=held.oldest_at,
        furthest_due=held.furthest_due,
        schedules=held.schedules,
        runs=held.runs,
        last_assigned_at=held.last_at,
        arrivals=arrivals,
        completions=completions,
        eta_seconds=eta,
        remote=remote,
        left=left,
    )
