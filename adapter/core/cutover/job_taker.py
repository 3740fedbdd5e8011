"""One job on its way back: look, say that we ask, ask, look again. What comes of it is the door's to write."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from adapter.core.budget import Budgets
from adapter.core.cutover.fencing import refuses_old_runs
from adapter.core.dispatch import RESUBMIT_WITHIN
from adapter.core.parts import Parts
from adapter.core.reading import Reader
from adapter.domain.job import Job, JobStatus, SubmitState
from adapter.domain.recall import Recall, RecallMode, RecallOutcome
from adapter.executors.base import Executor, RemoteRun
from adapter.store import jobs, recalls, settling
from adapter.store.recalls import Wanted
from adapter.store.wakeup import DISPATCH

_NOW, _SOON, _LATER = timedelta(0), timedelta(seconds=0.2), timedelta(seconds=1)
_SELDOM = timedelta(seconds=5)


@dataclass(slots=True)
class Spent:
    """What was spent on a recall since it was last written down.

    ``spare``: the share that may be used beside those of cancels and reads, while nobody needs it.
    """

    began: float
    calls: int = 0
    spare: str | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """When to look at a job again; ``uncertain``: once the dispatcher has looked it up."""

    delay: timedelta
    uncertain: bool = False


@dataclass(frozen=True, slots=True)
class _Case:
    """A job that its executor has accepted, and what is spent on it."""

    recall: Recall
    wanted: Wanted
    job: Job
    executor: Executor
    run_id: str
    spent: Spent


class JobTaker:
    """Takes single jobs back. Safe to repeat from wherever another process was killed."""

    def __init__(self, parts: Parts, reader: Reader, budgets: Budgets) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._executors = parts.executors
        self._notifier = parts.notifier
        self._reader = reader
        self._budgets = budgets

    async def step(self, recall: Recall, wanted: Wanted, spent: Spent) -> Next | None:
        """Go one step with one job; returns when to look again, None when it is settled.

        Raises:
            ExecutorError: the remote could not be asked.
        """
        job = wanted.job
        if job is None or not wanted.is_ours:
            return await self._gone(recall, wanted)
        if job.cancel_requested:
            return await self._leave(recall, wanted, RecallOutcome.CANCELED, unasked=False)
        executor = self._executors.get(wanted.executor)
        if executor is None or job.remote_environment not in {None, executor.environment}:
            return await self._leave(recall, wanted, RecallOutcome.LEFT)
        if await self._fenced(job, executor):
            return None
        if job.submit_state is SubmitState.ACCEPTED and job.remote_run_id is not None:
            return await self._ask(_Case(recall, wanted, job, executor, job.remote_run_id, spent))
        return await self._not_accepted(recall, wanted, job)

    async def _not_accepted(self, recall: Recall, wanted: Wanted, job: Job) -> Next | None:
        if job.submit_state is SubmitState.NEVER or wanted.is_trying:
            # The next statement moves it, or its dispatcher is about to know.
            return Next(_SOON)
        if wanted.try_age is not None and wanted.try_age > RESUBMIT_WITHIN:
            return await self._leave(recall, wanted, RecallOutcome.LEFT)
        return Next(_LATER, uncertain=True)

    async def _gone(self, recall: Recall, wanted: Wanted) -> Next | None:
        """The job ended, or something else has opened a new epoch."""
        async with self._database.connection() as conn:
            job = await jobs.get(conn, self._database.schema, wanted.job_id)
        outcome = RecallOutcome.LEFT
        if job is None or job.status.is_terminal:
            canceled = job is not None and job.status is JobStatus.CANCELED
            outcome = RecallOutcome.CANCELED if canceled else RecallOutcome.ENDED
        return await self._leave(recall, wanted, outcome, unasked=False)

    async def _leave(
        self, recall: Recall, wanted: Wanted, outcome: RecallOutcome, *, unasked: bool = True
    ) -> Next | None:
        """Take the intent off. ``unasked``: not once a cancel of ours has left, which would pass for somebody's wish."""
        async with self._database.connection() as conn:
            schema = self._database.schema
            gone = await recalls.leave(
                conn, schema, recall.id, outcome, job_id=wanted.job_id, unasked=unasked
            )
        return None if gone else Next(_SELDOM)

    async def _fenced(self, job: Job, executor: Executor, run: RemoteRun | None = None) -> bool:
        """Open the new epoch at once where a start fence refuses the old run."""
        if not refuses_old_runs(self._registry.find(job.type), executor, run):
            return False
        async with self._database.connection() as conn:
            moved = await settling.fenced(conn, self._database.schema, job.id, job.epoch)
        if moved is not None:
            self._notifier.poke(DISPATCH, moved.queue)
        return moved is not None

    async def _ask(self, case: _Case) -> Next | None:
        """Look, say that we ask, ask, and look again; the door does the rest."""
        recall, wanted = case.recall, case.wanted
        if not wanted.asked and recall.mode is not RecallMode.ALL:
            run = await self._read(case)
            if run is None:
                return await self._leave(recall, wanted, RecallOutcome.LEFT)
            if run.status.is_terminal:
                return Next(_NOW)
            if await self._fenced(case.job, case.executor, run):
                return None
            if not run.never_started:
                return await self._leave(recall, wanted, RecallOutcome.STARTED)
        async with self._database.connection() as conn:
            schema = self._database.schema
            if not await recalls.ask(conn, schema, recall.id, wanted.job_id, wanted.epoch):
                return Next(_NOW)
        await self._budgets.take(case.executor, "cancel", spare=case.spent.spare)
        case.spent.calls += 1
        await case.executor.cancel(case.run_id)
        run = await self._read(case)
        return Next(_NOW if run is not None and run.status.is_terminal else _LATER)

    async def _read(self, case: _Case) -> RemoteRun | None:
        case.spent.calls += 1
        job, spare = case.job, case.spent.spare
        seen = await self._reader.read(case.executor, job.id, job.epoch, case.run_id, spare=spare)
        return seen.run
