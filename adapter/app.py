"""`Adapter`: the public face. Each verb says what it promises; the work is done below."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Unpack
from uuid import UUID

from adapter.assembly import Assembly
from adapter.core.batches import KeepsBatches
from adapter.core.bulk_verbs import ActsOnMany
from adapter.core.cron.verbs import KeepsSchedules
from adapter.core.cutover.verbs import CutsOver
from adapter.core.declaring import DeclaresTasks
from adapter.core.fence import StartClaim
from adapter.core.figures import TellsFigures
from adapter.core.handle import JobHandle
from adapter.core.job_changes import ChangesJobs
from adapter.core.job_verbs import LooksAfterJobs
from adapter.core.keys import KeepsKeys
from adapter.core.ownership import KnowsTasks
from adapter.core.planning import JobSpec, Planned, ScheduleOptions
from adapter.core.queue_control import ControlsQueues
from adapter.core.registry import TaskDefinition
from adapter.core.replaying import SAME, replay_spec
from adapter.core.scheduling import Scheduled, topics_of
from adapter.core.tasks import Task
from adapter.core.variables import KeepsVariables
from adapter.core.wait_tokens import KeepsTokens
from adapter.domain.errors import JobNotFoundError
from adapter.domain.job import Job, JobStatus
from adapter.store.inserting import needs_transaction
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
    from adapter.web.auth import Authenticate
    from adapter.web.authorization import Authorize

#: More remote jobs than this in one call are left to the dispatcher.
_AT_ONCE = 20

Notify = Literal["after_commit", "in_tx", "no"]


class Adapter(
    ActsOnMany,
    ChangesJobs,
    LooksAfterJobs,
    ControlsQueues,
    CutsOver,
    KeepsKeys,
    KeepsBatches,
    KeepsSchedules,
    KeepsTokens,
    KeepsVariables,
    KnowsTasks,
    TellsFigures,
    DeclaresTasks,
    Assembly,
):
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
            debounce: put off the job of an earlier call instead of making another one; see `Debounce`.
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
        if within is None and (handles := await self.mass_insert.insert(specs, self)) is not None:
            if notify != "no" and handles[0].status is JobStatus.QUEUED:
                self.notifier.poke(handles[0].job.queue)
            return handles
        planned = self.planner.plan_all(specs)
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
        tells = notify != "no"
        written = await self.group_commit.insert(planned[0], tells=tells) if len(planned) == 1 else None
        jobs: list[Scheduled] = await self._scheduled(planned) if written is None else [written]
        topics = topics_of(planned, jobs)
        if tells and written is None:
            self.notifier.poke(*(topics - {DISPATCH}))
        if DISPATCH in topics:
            jobs = await self._submit_at_once(jobs)
            # Only now: a dispatcher that took them first would leave this call without a run id.
            if tells:
                self.notifier.poke(DISPATCH)
        return self._handles(planned, jobs)

    async def _scheduled(self, planned: Sequence[Planned]) -> list[Scheduled]:
        steps = self._scheduling(planned, own=True, in_transaction=False)
        whole = needs_transaction([each.job for each in planned])
        lend = self.database.transaction if whole else self.database.connection
        async with lend() as conn:
            return await run(conn, self.database.schema, steps)

    def schedule_within_sync(
        self, specs: list[JobSpec], within: SyncCaller, *, notify: str = "after_commit"
    ) -> list[JobHandle[Any]]:
        """Do what `schedule_specs` does in the transaction of a caller without an event loop."""
        planned = self.planner.plan_all(specs)
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
        return (await self.schedule_specs([replay_spec(job, actor, data=data, overrides=overrides)]))[0]

    # ---- what remotes tell -----------------------------------------------------------------------

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

    def asgi(
        self, *, authenticate: Authenticate | None = None, authorize: Authorize | None = None
    ) -> Starlette:
        """Return the HTTP face as an ASGI application, to mount or to serve.

        ``authenticate``: who a request without a key is from, by your application's session; see
        `adapter.Principal`. ``authorize``: whether a caller may do something; by default what
        scopes allow, and to a user only what is theirs (`adapter.allowed_by_default`).
        """
        from adapter.web.app import create_app  # noqa: PLC0415 - the floor above, only when it is asked for

        return create_app(self, authenticate=authenticate, authorize=authorize)

    @functools.cached_property
    def sync(self) -> SyncAdapter:
        """The same verbs for code without an event loop."""
        from adapter.sync import SyncAdapter  # noqa: PLC0415 - starts a thread, only when it is asked for

        return SyncAdapter(self)
