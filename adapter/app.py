"""`Adapter`: the public face. Each verb says what it promises; the work is done below."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Unpack
from uuid import UUID

from adapter.assembly import Assembly
from adapter.core.cron.verbs import KeepsSchedules
from adapter.core.cutover.verbs import CutsOver
from adapter.core.dead_letters import RedriveOptions, RedriveReport
from adapter.core.declaring import DeclaresTasks
from adapter.core.fence import StartClaim
from adapter.core.handle import JobHandle
from adapter.core.planning import JobSpec, Planned, ScheduleOptions
from adapter.core.queue_control import ControlsQueues
from adapter.core.reconcile import Progress, ReconcileReport
from adapter.core.registry import TaskDefinition
from adapter.core.replaying import replay_options
from adapter.core.scheduling import Scheduled, topics_of
from adapter.core.tasks import Task
from adapter.domain.errors import InvalidArgumentError, JobNotFoundError, JobStateError
from adapter.domain.job import Job, JobStatus
from adapter.domain.waiting import WaitReason
from adapter.store import families, resolving, waiting
from adapter.store import jobs as job_store
from adapter.store.dead_letters import DeadLetterFilter, DeadLetterPage
from adapter.store.inserting import needs_transaction
from adapter.store.insights import JobEvent, JobFilter, JobPage
from adapter.store.steps import (
    AsyncCaller,
    Statement,
    Steps,
    SyncCaller,
    after_commit,
    run,
    run_within,
    run_within_sync,
)
from adapter.store.wakeup import DISPATCH, notification

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from adapter.sync import SyncAdapter

#: More remote jobs than this in one call are left to the dispatcher.
_AT_ONCE = 20

#: Stands for "as it was" where None is a value.
SAME: Any = object()

Notify = Literal["after_commit", "in_tx", "no"]


class Adapter(ControlsQueues, CutsOver, KeepsSchedules, DeclaresTasks, Assembly):
    """One application's jobs: its tasks, its database, its executors.

    Making one does no I/O and touches no globals; two can live in one process. It is opened once
    (``async with adapter:``), which freezes the registry.
    """

    def _declared(self, definition: TaskDefinition[Any, Any]) -> Task[Any, Any]:
        self.registry.add(definition)
        return Task(self, definition)

    # ---- scheduling ------------------------------------------------------------------------------

    async def schedule_job(
        self,
        task: str,
        data: Any = None,
        *,
        within: AsyncCaller | None = None,
        notify: Notify = "after_commit",
        **options: Unpack[ScheduleOptions],
    ) -> JobHandle[Any]:
        """Write one job and route it.

        ``within``: a psycopg connection, or a SQLAlchemy session or connection on psycopg 3, whose
        transaction the row joins. Nothing is sent then; the job is found after the commit, by an event of
        SQLAlchemy, by `poke`, by ``notify="in_tx"``, or by the next poll (1 s at most).

        Options:
            executor: go there, whatever rollouts and registry say (a kill switch still wins). ``strict``:
                and do not go to the fallback while its circuit is open.
            tag: at most one job of this task and tag that has not started; a second call returns it.
            idempotency_key, idempotency_ttl: one job per key for 30 days; a failed one frees it.
            on_conflict: what a second call does: ``keep`` the first one, ``replace`` it with everything
                newer while nothing has started (debounce, at most until ``debounce_max`` after the first
                call), or ``reject`` the call. ``throttle``: one job per tag or key in that time.
            due or delay, ttl: when it may start, and how long after that it may still start.
            retry, max_attempts, max_duration: how it is tried.
            priority: larger is sooner. queue, concurrency_key: with whom it shares a limit.
            metadata, tags, user_id: for people; at most 10 tags.
            persistent, keep_for: how long it stays after it finished (7 days unless the task says else).
                remove_at: instead of both, a moment from which it may go once it has finished.
            context: facts that rollouts may look at.

        Raises:
            UnknownTaskError, TaskDisabledError, InvalidPayloadError, InvalidArgumentError,
            UnknownExecutorError, DuplicateJobError: the call cannot be carried out; nothing was written.
        """
        return (await self.schedule_specs([JobSpec(task, data, options)], within, notify=notify))[0]

    async def schedule_specs(
        self, specs: list[JobSpec], within: AsyncCaller | None = None, *, notify: str = "after_commit"
    ) -> list[JobHandle[Any]]:
        """Schedule what `Task.job` describes, all or nothing; one handle per spec, in order."""
        planned = [self.planner.plan(spec) for spec in specs]
        if not planned:
            return []
        if within is not None:
            steps = self._scheduling(planned, own=False, in_transaction=notify == "in_tx")
            jobs = await run_within(within, self.database.schema, steps)
            if notify == "after_commit":
                loop = asyncio.get_running_loop()
                poke = functools.partial(self.notifier.poke, *topics_of(planned, jobs))
                after_commit(within, functools.partial(loop.call_soon_threadsafe, poke))
            return self._handles(planned, jobs)
        steps = self._scheduling(planned, own=True, in_transaction=False)
        whole = needs_transaction([each.job for each in planned])
        lend = self.database.transaction if whole else self.database.connection
        async with lend() as conn:
            jobs = await run(conn, self.database.schema, steps)
        topics = topics_of(planned, jobs)
        if notify != "no":
            self.notifier.poke(*(topics - {DISPATCH}))
        if DISPATCH in topics:
            jobs = await self._submit_at_once(jobs)
            # Only now: a dispatcher that took them first would leave this call without a run id.
            if notify != "no":
                self.notifier.poke(DISPATCH)
        return self._handles(planned, jobs)

    def schedule_within_sync(
        self, specs: list[JobSpec], within: SyncCaller, *, notify: str = "after_commit"
    ) -> list[JobHandle[Any]]:
        """Do what `schedule_specs` does in the transaction of a caller without an event loop."""
        planned = [self.planner.plan(spec) for spec in specs]
        steps = self._scheduling(planned, own=False, in_transaction=notify == "in_tx")
        jobs = run_within_sync(within, self.database.schema, steps)
        if notify == "after_commit":
            after_commit(within, functools.partial(self.poke, *topics_of(planned, jobs)))
        return self._handles(planned, jobs)

    def _scheduling(
        self, planned: Sequence[Planned], *, own: bool, in_transaction: bool
    ) -> Steps[list[Scheduled]]:
        jobs = yield from self.scheduler.schedule(planned, own=own)
        if in_transaction:
            yield Statement(*notification(self.database.schema, topics_of(planned, jobs)))
        return jobs

    def _handles(self, planned: Sequence[Planned], jobs: Sequence[Scheduled]) -> list[JobHandle[Any]]:
        return [
            JobHandle(self, job, each.definition.load_result) for each, job in zip(planned, jobs, strict=True)
        ]

    async def _submit_at_once(self, jobs: list[Scheduled]) -> list[Scheduled]:
        """Try remote jobs right away, so that the caller usually gets a run id; bounded in time."""
        remote = [job.id for job in jobs if job.status is JobStatus.PENDING and not job.deduplicated]
        wait = timedelta(seconds=self.settings.dispatch_wait_seconds)
        if not remote or len(remote) > _AT_ONCE or not wait:
            return jobs
        now = await self.dispatcher.try_now(remote, wait)
        return [now.get(job.id, job) for job in jobs]

    async def _schedule_child(self, parent: Job, task: str, data: Any, **options: Any) -> JobHandle[Any]:
        where = {name: options.pop(name) for name in ("within", "notify")}
        spec = JobSpec(task, data, ScheduleOptions(**options), parent)
        return (await self.schedule_specs([spec], **where))[0]

    def poke(self, *topics: str) -> None:
        """Say that jobs were committed in a transaction we could not watch (plain psycopg).

        From any thread. Without topics: everybody looks.
        """
        self._loop.call_soon_threadsafe(functools.partial(self.notifier.poke, *(topics or ("*",))))

    # ---- jobs ------------------------------------------------------------------------------------

    async def get_job(self, job_id: UUID) -> Job | None:
        """Return a job, open or finished; None when there is none or its time to be kept is over."""
        async with self.database.connection() as conn:
            return await job_store.get(conn, self.database.schema, job_id)

    async def list_jobs(self, wanted: JobFilter | None = None) -> JobPage:
        """Return a page of jobs, newest first."""
        async with self.database.connection() as conn:
            return await self.insights.list_jobs(conn, wanted or JobFilter())

    async def awaited_jobs(self, job_id: UUID) -> list[Job]:
        """Return the open jobs that a parent waits for; none when it does not wait for its children."""
        async with self.database.connection() as conn:
            return await families.awaited(conn, self.database.schema, job_id)

    async def why_waiting(self, job_id: UUID) -> list[WaitReason]:
        """Say what keeps a job from running, what binds it most first; nothing when it runs or has ended.

        Raises:
            JobNotFoundError: there is no such job.
        """
        async with self.database.connection() as conn:
            reasons = await waiting.why(conn, self.database.schema, job_id)
        if reasons is None:
            raise JobNotFoundError(job_id)
        return reasons

    async def job_events(self, job_id: UUID) -> list[JobEvent]:
        """Return what happened to a job beside running: re-routes, retries, rescues, repairs."""
        async with self.database.connection() as conn:
            return await self.insights.events(conn, job_id)

    async def wait_for(self, job_id: UUID, timeout: timedelta | None = None) -> Job:
        """Return the job once it has ended; see `JobHandle.result`."""
        return await self.watch.wait(job_id, timeout)

    async def cancel_job(
        self, job_id: UUID, *, reason: str = "canceled by the application", actor: str = "application"
    ) -> Job:
        """Cancel a job: at once when nobody was ever given it, else by asking and confirming.

        Returns the job as it then is: CANCELED, or open with ``cancel_requested``, or ended otherwise
        because it was faster.

        Raises:
            JobNotFoundError: there is no such job.
        """
        return await self.canceler.cancel(job_id, reason=reason, actor=actor)

    async def replay_job(
        self,
        job_id: UUID,
        *,
        data: Any = SAME,
        actor: str = "application",
        **overrides: Unpack[ScheduleOptions],
    ) -> JobHandle[Any]:
        """Schedule a new job like this one, which names it; keys, tag, due time and ttl are not copied.

        ``data``: another payload.

        Raises:
            JobNotFoundError: there is no such job.
            JobStateError: it is a shadow.
        """
        job = await self.get_job(job_id)
        if job is None:
            raise JobNotFoundError(job_id)
        options = replay_options(job, actor)
        options.update(overrides)
        return await self.schedule_job(job.type, job.data if data is SAME else data, **options)

    async def dead_letters(self, wanted: DeadLetterFilter | None = None) -> DeadLetterPage:
        """Return a page of jobs that ended badly (not COMPLETED, not CANCELED), the latest end first."""
        return await self.letters.page(wanted or DeadLetterFilter())

    async def redrive(
        self, wanted: DeadLetterFilter | Sequence[UUID], **options: Unpack[RedriveOptions]
    ) -> RedriveReport:
        """Schedule a new job for each of these dead letters, as `replay_job` does, the oldest end first.

        A dead letter is redriven once, however many ask at the same time, unless ``again``. A job that
        cannot be scheduled is reported and costs the others nothing.
        """
        return await self.letters.redrive(wanted, **options)

    async def resolve_job(
        self, job_id: UUID, *, assume: Literal["not-started", "lost"], reason: str, actor: str
    ) -> Job:
        """End a wait that no machine can end, on a person's word; audited in the job's events.

        ``not-started``: no run of the uncertain submit has started or will; it is submitted anew.
        ``lost``: it ends as SYSTEM_FAILURE; should its run report after all, that still counts.

        Raises:
            JobNotFoundError, JobStateError: there is nothing uncertain about this job.
        """
        if not reason.strip():
            msg = "A reason is needed."
            raise InvalidArgumentError(msg)
        verb = resolving.assume_not_started if assume == "not-started" else resolving.assume_lost
        async with self.database.connection() as conn:
            job = await verb(conn, self.database.schema, job_id, reason=reason, actor=actor)
        if job is None:
            known = await self.get_job(job_id)
            if known is None:
                raise JobNotFoundError(job_id)
            msg = (
                f"Job {job_id} is {known.status} at {known.executor}: there is nothing uncertain to resolve."
            )
            raise JobStateError(msg)
        self.notifier.poke(DISPATCH)
        return job

    # ---- what remotes tell -----------------------------------------------------------------------

    async def reconcile(self, *, dry_run: bool = False, progress: Progress | None = None) -> ReconcileReport:
        """Compare every unfinished remote job with its remote, and repair what was missed."""
        return await self.reconciler.run_once(dry_run=dry_run, progress=progress)

    async def receive_webhook(
        self,
        source: str,
        delivery_id: str,
        secret_id: str,
        body: dict[str, Any],
        *,
        executor: str = "trigger",
    ) -> Literal["new", "duplicate"]:
        """Store a verified webhook; it is applied right after, by whichever process runs the sync loops."""
        fresh = await self.inbox.take_in(f"{executor}:{source}", delivery_id, secret_id, body)
        return "new" if fresh else "duplicate"

    async def claim_start(self, job_id: UUID, epoch: int, run_id: str, attempt: int) -> StartClaim:
        """Answer the start fence; see `StartFence.claim`."""
        return await self.fence.claim(job_id, epoch, run_id, attempt)

    # ---- other faces -----------------------------------------------------------------------------

    def asgi(self) -> Starlette:
        """Return the HTTP face as an ASGI application, to mount or to serve."""
        from adapter.web.app import create_app  # noqa: PLC0415 - the floor above, only when it is asked for

        return create_app(self)

    @functools.cached_property
    def sync(self) -> SyncAdapter:
        """The same verbs for code without an event loop."""
        from adapter.sync import SyncAdapter  # noqa: PLC0415 - starts a thread, only when it is asked for

        return SyncAdapter(self)
