"""The jobs in one worker's hands: those whose handlers run, and those that wait for one to end."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from adapter.core.calling import Caller
from adapter.core.completion import Completer, Done
from adapter.core.context import JobContext
from adapter.core.ending import end_try
from adapter.core.families import Families
from adapter.core.isolation.pool import make_caller
from adapter.core.parts import Parts
from adapter.core.patience import Patience
from adapter.core.registry import TaskDefinition
from adapter.core.runner import Interruption, run_plain, run_try
from adapter.core.scheduling import Scheduler
from adapter.core.worker_options import WorkerOptions
from adapter.domain.job import Job
from adapter.domain.outcome import Lease, Returned, Stopped, Succeeded, TryOutcome
from adapter.domain.shadow import is_only_taken, is_shadow
from adapter.store.claims import Claimed

_NOT_BEGUN = Returned("the worker has not begun it", unbegun=True)


@dataclass(slots=True)
class Try:
    """A job whose handler runs, or is about to. ``context`` None: the handler sees only its payload."""

    key: str
    job: Job | Claimed
    lease: Lease
    context: JobContext | None = None
    interruption: Interruption = field(default_factory=Interruption)
    task: asyncio.Task[None] | None = None
    #: Whether the task has run at all: canceled before, it would end without an outcome.
    has_begun: bool = False
    stopped_at: float | None = None
    #: What it came to, while the hooks of its end still run.
    end: TryOutcome | None = None

    def stop(self, outcome: Stopped | Returned) -> None:
        """Ask the handler to end; ``outcome`` is what it then counts as."""
        if self.end is not None and isinstance(outcome, Stopped):
            # Too late to cancel it: what it came to is known.
            return
        self.interruption.set(outcome)
        if self.context is not None:
            self.context.cancel()
        if self.task is not None and self.has_begun:
            self.task.cancel()

    def done(self, outcome: TryOutcome) -> Done:
        """Return what is to be written of it."""
        metadata = None if self.context is None else self.context.close()
        return Done(self.job, self.lease, outcome, metadata)


class Tries:
    """Runs handlers, at most ``concurrency`` at once; what is claimed beyond that waits in order.

    ``on_room()`` is called when one has ended or waits for its children: others may be claimed.
    """

    def __init__(
        self,
        parts: Parts,
        options: WorkerOptions,
        scheduler: Scheduler,
        completer: Completer,
        *,
        make_context: Callable[[Job, Lease], JobContext],
        on_room: Callable[[], object],
    ) -> None:
        self._registry = parts.registry
        self._observers = parts.observers
        self._clock = parts.clock
        self._options = options
        self._completer = completer
        self._make_context = make_context
        self._on_room = on_room
        self.running: dict[str, Try] = {}
        self.waiting: OrderedDict[str, Claimed] = OrderedDict()
        self.patience = Patience(options.cancel_grace, parts.observers.counts, self._abandon)
        self.families = Families(parts, scheduler, self.running, self.patience.stop, self._family_changed)
        self.caller = self.make_caller()
        #: How many were taken, and how many have ended, since the worker was made.
        self.taken = self.ended = 0

    def make_caller(self) -> Caller:
        """Return what calls handlers and hooks."""
        return make_caller(self._options, self._registry, self._observers.counts)

    @property
    def keys(self) -> list[str]:
        """The ids of all that is in our hands."""
        return [*self.running, *self.waiting]

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What runs."""
        return [each.task for each in self.running.values() if each.task is not None]

    @property
    def room(self) -> int:
        """How many more may run at once; less than none when waits have ended and all slots are taken."""
        busy = len(self.running) - len(self.families.suspended)
        return self._options.concurrency - busy - len(self.waiting)

    @property
    def spare(self) -> int:
        """How many more isolated tries have a process to run in."""
        processes = self.caller.processes
        if processes is None:
            return 0
        busy = sum(each.job.type in self._registry.isolated for each in self.running.values())
        return max(0, processes.size + processes.waiting - busy)

    def take(self, claimed: Sequence[Claimed]) -> None:
        """Take claimed jobs and start what there is room for."""
        now = self._clock.monotonic()
        self.taken += len(claimed)
        for job in claimed:
            job.taken_at = now
            self.waiting[job.key] = job
        self._start_waiting()

    def _start_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        has_factory = loop.get_task_factory() is not None
        suspended = self.families.suspended
        while self.waiting and len(self.running) - len(suspended) < self._options.concurrency:
            key, claimed = self.waiting.popitem(last=False)
            if claimed.row is None:
                current = Try(key, claimed, claimed.lease)
            else:
                current = Try(key, claimed.job, claimed.lease, self._make_context(claimed.job, claimed.lease))
            self.running[key] = current
            work = self._run(current, claimed)
            # The detour by the loop costs a tenth of a no-op.
            current.task = loop.create_task(work) if has_factory else asyncio.Task(work, loop=loop)

    def _family_changed(self) -> None:
        self._start_waiting()
        self._on_room()

    async def _run(self, current: Try, claimed: Claimed) -> None:
        current.has_begun = True
        try:
            outcome = current.interruption.outcome or await self._outcome(current, claimed)
        except asyncio.CancelledError:
            # Stopped before its handler was reached.
            outcome = current.interruption.outcome or Returned("the worker was stopped")
        finally:
            is_abandoned = self.running.get(current.key) is not current
            if not is_abandoned:
                self._let_go(current)
        if not is_abandoned and not self._completer.take(current.done(outcome)):
            await self._completer.has_room()

    def _let_go(self, current: Try) -> None:
        del self.running[current.key]
        self.ended += 1
        self.families.ended()
        if self.waiting:
            self._start_waiting()
        self._on_room()

    async def _outcome(self, current: Try, claimed: Claimed) -> TryOutcome:
        definition: TaskDefinition[Any, Any] | None = self._registry.find(claimed.type)
        if definition is None or not definition.runs_here:
            return Returned("this worker does not run it", runnable=False)
        job, context = current.job, current.context
        if isinstance(job, Claimed) or context is None:
            return await run_plain(definition, claimed, current.interruption)
        if job.cancel_requested:
            return Stopped("canceled")
        if is_only_taken(job.extra):
            return Succeeded(None)
        self._observers.started(job)
        if job.max_duration is not None:
            context.countdown = self.patience.limit(current, job.max_duration)
        outcome = await run_try(definition, context, current.interruption, self.caller)
        if definition.hooks is not None and definition.hooks.watches_ends and not is_shadow(job.extra):
            current.end = outcome
            done = Done(job, current.lease, outcome)
            await end_try(done, definition, context, self._registry, self.caller)
        return outcome

    def _abandon(self, current: Try, outcome: TryOutcome) -> bool:
        """Let go of a try that does not end: its slot is free, and nothing it does counts. False: it has ended."""
        if self.running.get(current.key) is not current:
            return False
        self._completer.take(current.done(outcome))
        self._let_go(current)
        return True

    def give_back_waiting(self, older_than: float = 0.0) -> None:
        """Give back unspent what waits and was not begun, if the first has waited for so many seconds."""
        first = next(iter(self.waiting.values()), None)
        if first is not None and self._clock.monotonic() - first.taken_at >= older_than:
            waiting = list(self.waiting.values())
            self.waiting.clear()
            for job in waiting:
                self._completer.take(Done(job, job.lease, _NOT_BEGUN))

    def drop_all(self, why: str) -> None:
        """Give everything back, and stop what runs."""
        self.give_back_waiting()
        for current in list(self.running.values()):
            self.patience.stop(current, Returned(why))

    def cancel(self, job_ids: Sequence[UUID], now: float, patience: float) -> None:
        """Stop jobs that somebody canceled. Said with every beat, it interrupts once per ``patience``."""
        for key in map(str, job_ids):
            current = self.running.get(key)
            if current is not None and (current.stopped_at is None or now - current.stopped_at >= patience):
                current.stopped_at = now
                self.patience.stop(current, Stopped("canceled"))
            if (job := self.waiting.pop(key, None)) is not None:
                self._completer.take(Done(job, job.lease, Stopped("canceled")))
