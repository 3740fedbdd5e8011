"""The verbs for code without an event loop: Flask, Django, scripts.

One thread with a loop per adapter carries them out, so there is one implementation of everything. What
joins the caller's own transaction runs on the caller's connection, in the caller's thread.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack
from uuid import UUID

from adapter.core.batches import KeepsBatches
from adapter.core.bulk_verbs import ActsOnMany
from adapter.core.cron.verbs import KeepsSchedules
from adapter.core.cutover.verbs import CutsOver
from adapter.core.figures import TellsFigures
from adapter.core.isolation import here
from adapter.core.job_changes import ChangesJobs
from adapter.core.job_verbs import LooksAfterJobs
from adapter.core.keys import KeepsKeys
from adapter.core.ownership import KnowsTasks
from adapter.core.planning import JobSpec, ScheduleOptions
from adapter.core.queue_control import ControlsQueues
from adapter.core.replaying import SAME
from adapter.core.variables import KeepsVariables
from adapter.core.wait_tokens import KeepsTokens
from adapter.core.webhooks.verbs import TellsOthers
from adapter.domain.errors import InvalidArgumentError, NotOpenError
from adapter.domain.job import Job
from adapter.store.steps import SyncCaller

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.core.handle import JobHandle

P = ParamSpec("P")
T = TypeVar("T")


def _current_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class SyncJobHandle:
    """A scheduled job, for code without an event loop."""

    def __init__(self, face: SyncAdapter, handle: JobHandle[Any]) -> None:
        self._face = face
        self._handle = handle

    @property
    def id(self) -> UUID:
        """The job's id."""
        return self._handle.id

    @property
    def job(self) -> Job:
        """The row as it was last seen through this handle."""
        return self._handle.job

    @property
    def deduplicated(self) -> bool:
        """Whether the call found this job instead of making it."""
        return self._handle.deduplicated

    def refresh(self) -> Job:
        """Read the job again."""
        return self._face.call(self._handle.refresh())

    def cancel(self, *, reason: str = "canceled by the application") -> Job:
        """Cancel the job; see `Adapter.cancel_job`."""
        return self._face.call(self._handle.cancel(reason=reason))

    def result(self, timeout: timedelta | None = None) -> Any:
        """Wait for the job's result; see `JobHandle.result`."""
        return self._face.call(self._handle.result(timeout))


def _waiting(verb: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], T]:
    """Return the verb of the adapter for code that has nothing to await it with."""

    @functools.wraps(verb)
    def waiting(face: SyncAdapter, *arguments: P.args, **named: P.kwargs) -> T:
        return face.carry(verb, *arguments, **named)

    return waiting


class SyncAdapter:
    """``adapter.sync``: open it once per process (``with adapter.sync:``); after a fork, open it anew."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._owner = 0

    @property
    def _usable(self) -> asyncio.AbstractEventLoop | None:
        """The loop that carries calls out: our own, or the one the adapter is open on already."""
        if self._loop is not None and self._owner == os.getpid():
            return self._loop
        return self._adapter.running_loop

    def open(self) -> None:
        """Start the thread and open the adapter in it. Errors: see `Adapter.open`.

        Where the adapter is open already, as in a handler that runs in a thread, its loop is used.
        """
        if self._usable is not None:
            return
        self._loop = asyncio.new_event_loop()
        self._owner = os.getpid()
        self._thread = threading.Thread(target=self._loop.run_forever, name="adapter-sync", daemon=True)
        self._thread.start()
        try:
            self.call(self._adapter.open())
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """Close the adapter and end the thread, if it was opened here."""
        if self._loop is None:
            return
        if self._owner == os.getpid():
            self.call(self._adapter.close())
        self._end()

    def _end(self) -> None:
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None and self._owner == os.getpid():
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def __enter__(self) -> Self:
        """Open."""
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry a coroutine of the adapter out and return what it returns.

        A handler in a process of its own need not open it for what its context does.

        Raises:
            NotOpenError: it is not open in this process.
        """
        loop = self._usable or here.loop
        if loop is None:
            work.close()
            raise NotOpenError
        if _current_loop() is loop:
            work.close()
            msg = "adapter.sync was called on the adapter's own event loop and would wait for itself. Await instead."
            raise InvalidArgumentError(msg)
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    def carry(
        self, verb: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Carry a verb of the adapter out; see `call`."""
        return self.call(verb(self._adapter, *args, **kwargs))

    def schedule_job(
        self,
        task: str,
        data: Any = None,
        *,
        within: SyncCaller | None = None,
        notify: str = "after_commit",
        **options: Unpack[ScheduleOptions],
    ) -> SyncJobHandle:
        """Write one job and route it; see `Adapter.schedule_job`."""
        return self.schedule_many([JobSpec(task, data, options)], within=within, notify=notify)[0]

    def schedule_many(
        self, specs: Iterable[JobSpec], *, within: SyncCaller | None = None, notify: str = "after_commit"
    ) -> list[SyncJobHandle]:
        """Schedule what `Task.job` describes, all or nothing."""
        listed = list(specs)
        if within is None:
            handles = self.call(self._adapter.schedule_specs(listed, notify=notify))
        elif self._usable is None:
            raise NotOpenError
        else:
            handles = self._adapter.schedule_within_sync(listed, within, notify=notify)
        return [SyncJobHandle(self, handle) for handle in handles]

    def replay_job(
        self,
        job_id: UUID,
        *,
        data: Any = SAME,
        actor: str = "application",
        **overrides: Unpack[ScheduleOptions],
    ) -> SyncJobHandle:
        """Schedule a new job like this one; see `Adapter.replay_job`."""
        made = self._adapter.replay_job(job_id, data=data, actor=actor, **overrides)
        return SyncJobHandle(self, self.call(made))

    # ---- jobs ------------------------------------------------------------------------------------

    get_job = _waiting(LooksAfterJobs.get_job)
    list_jobs = _waiting(LooksAfterJobs.list_jobs)
    awaited_jobs = _waiting(LooksAfterJobs.awaited_jobs)
    why_waiting = _waiting(LooksAfterJobs.why_waiting)
    job_events = _waiting(LooksAfterJobs.job_events)
    wait_for = _waiting(LooksAfterJobs.wait_for)
    cancel_job = _waiting(LooksAfterJobs.cancel_job)
    dead_letters = _waiting(LooksAfterJobs.dead_letters)
    redrive = _waiting(LooksAfterJobs.redrive)
    resolve_job = _waiting(LooksAfterJobs.resolve_job)
    reconcile = _waiting(LooksAfterJobs.reconcile)

    # ---- queues ----------------------------------------------------------------------------------

    page_queues = _waiting(ControlsQueues.page_queues)
    find_queue = _waiting(ControlsQueues.find_queue)
    list_queues = _waiting(ControlsQueues.list_queues)
    pause_queue = _waiting(ControlsQueues.pause_queue)
    resume_queue = _waiting(ControlsQueues.resume_queue)
    set_queue_limits = _waiting(ControlsQueues.set_queue_limits)

    # ---- cutover ---------------------------------------------------------------------------------

    explain = _waiting(CutsOver.explain)
    explain_job = _waiting(CutsOver.explain_job)
    flags = _waiting(CutsOver.flags)
    cutover_status = _waiting(CutsOver.cutover_status)
    cutover_history = _waiting(CutsOver.cutover_history)
    kill = _waiting(CutsOver.kill)
    rollout = _waiting(CutsOver.rollout)
    resalt = _waiting(CutsOver.resalt)
    rollback = _waiting(CutsOver.rollback)
    migrate_pending = _waiting(CutsOver.migrate_pending)
    recalls = _waiting(CutsOver.recalls)
    recall_report = _waiting(CutsOver.recall_report)
    resume_recall = _waiting(CutsOver.resume_recall)
    stop_recall = _waiting(CutsOver.stop_recall)
    clear_flag = _waiting(CutsOver.clear_flag)
    revert_change = _waiting(CutsOver.revert_change)
    drain_status = _waiting(CutsOver.drain_status)
    wait_drained = _waiting(CutsOver.wait_drained)
    can_go_back = _waiting(CutsOver.can_go_back)
    drill = _waiting(CutsOver.drill)
    start_drill = _waiting(CutsOver.start_drill)
    drills = _waiting(CutsOver.drills)
    finalize_check = _waiting(CutsOver.finalize_check)
    finalize = _waiting(CutsOver.finalize)
    reopen = _waiting(CutsOver.reopen)
    finalizations = _waiting(CutsOver.finalizations)
    executor_health = _waiting(CutsOver.executor_health)
    open_circuit = _waiting(CutsOver.open_circuit)
    shadow = _waiting(CutsOver.shadow)
    parity = _waiting(CutsOver.parity)

    owns_task = _waiting(KnowsTasks.owns_task)
    forwarded = _waiting(KnowsTasks.forwarded)

    # ---- jobs that are there ---------------------------------------------------------------------

    reschedule_job = _waiting(ChangesJobs.reschedule_job)
    add_tags = _waiting(ChangesJobs.add_tags)
    update_metadata = _waiting(ChangesJobs.update_metadata)
    reset_idempotency_key = _waiting(ChangesJobs.reset_idempotency_key)
    relatives = _waiting(ChangesJobs.relatives)
    family = _waiting(ChangesJobs.family)
    events_of = _waiting(ChangesJobs.events_of)
    start_bulk_action = _waiting(ActsOnMany.start_bulk_action)
    bulk_action = _waiting(ActsOnMany.bulk_action)
    bulk_actions = _waiting(ActsOnMany.bulk_actions)
    abort_bulk_action = _waiting(ActsOnMany.abort_bulk_action)

    # ---- batches ---------------------------------------------------------------------------------

    schedule_batch = _waiting(KeepsBatches.schedule_batch)
    open_batch = _waiting(KeepsBatches.open_batch)
    add_items = _waiting(KeepsBatches.add_items)
    get_batch = _waiting(KeepsBatches.get_batch)
    batch_jobs = _waiting(KeepsBatches.batch_jobs)

    # ---- wait tokens -----------------------------------------------------------------------------

    create_token = _waiting(KeepsTokens.create_token)
    complete_token = _waiting(KeepsTokens.complete_token)
    get_token = _waiting(KeepsTokens.get_token)
    list_tokens = _waiting(KeepsTokens.list_tokens)
    # ---- webhooks to others ----------------------------------------------------------------------

    subscribe_webhook = _waiting(TellsOthers.subscribe_webhook)
    webhook_subscriptions = _waiting(TellsOthers.webhook_subscriptions)
    change_webhook = _waiting(TellsOthers.change_webhook)
    rotate_webhook_secret = _waiting(TellsOthers.rotate_webhook_secret)
    unsubscribe_webhook = _waiting(TellsOthers.unsubscribe_webhook)
    webhook_deliveries = _waiting(TellsOthers.webhook_deliveries)
    redrive_webhooks = _waiting(TellsOthers.redrive_webhooks)
    test_webhook = _waiting(TellsOthers.test_webhook)

    # ---- environment variables -------------------------------------------------------------------

    set_variables = _waiting(KeepsVariables.set_variables)
    change_variable = _waiting(KeepsVariables.change_variable)
    get_variable = _waiting(KeepsVariables.get_variable)
    list_variables = _waiting(KeepsVariables.list_variables)
    delete_variable = _waiting(KeepsVariables.delete_variable)

    # ---- schedules -------------------------------------------------------------------------------

    schedule_cron = _waiting(KeepsSchedules.schedule_cron)
    change_schedule = _waiting(KeepsSchedules.change_schedule)
    page_schedules = _waiting(KeepsSchedules.page_schedules)
    list_schedules = _waiting(KeepsSchedules.list_schedules)
    get_schedule = _waiting(KeepsSchedules.get_schedule)
    next_ticks = _waiting(KeepsSchedules.next_ticks)
    pause_schedule = _waiting(KeepsSchedules.pause_schedule)
    resume_schedule = _waiting(KeepsSchedules.resume_schedule)
    cancel_schedule = _waiting(KeepsSchedules.cancel_schedule)
    hand_over_schedule = _waiting(KeepsSchedules.hand_over_schedule)

    # ---- keys ------------------------------------------------------------------------------------

    create_key = _waiting(KeepsKeys.create_key)
    list_keys = _waiting(KeepsKeys.list_keys)
    revoke_key = _waiting(KeepsKeys.revoke_key)
    rotate_key = _waiting(KeepsKeys.rotate_key)

    # ---- figures ---------------------------------------------------------------------------------

    figures = _waiting(TellsFigures.figures)
    job_counts = _waiting(TellsFigures.job_counts)
    alerts = _waiting(TellsFigures.alerts)
