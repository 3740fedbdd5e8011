"""The child processes of one worker: started when they are needed, used for many tries, replaced in time."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from adapter.core.batching import Batches
from adapter.core.calling import Caller
from adapter.core.countdown import Countdown
from adapter.core.handler_errors import judge
from adapter.core.isolation.address import address_of, check_addresses
from adapter.core.isolation.answering import Hearing
from adapter.core.isolation.child_process import ChildProcess
from adapter.core.isolation.wire import Message, dump_job, load_outcome
from adapter.domain.errors import ProcessDiedError
from adapter.domain.outcome import Errored, Returned, Succeeded, TimedOut, TryOutcome

if TYPE_CHECKING:
    from adapter.core.context import JobContext
    from adapter.core.registry import Registry, TaskDefinition
    from adapter.core.runner import Interruption
    from adapter.core.worker_options import WorkerOptions

logger = logging.getLogger("adapter.worker")

#: When a child has had its time: after so many tries, or so much more memory than at its start.
MOST_TRIES = 1000
MOST_GROWTH = 256 * 1024 * 1024
_CLOSE_S = 2.0
#: For another worker to take what this one had no process for.
_ELSEWHERE = timedelta(seconds=1)


def make_caller(options: WorkerOptions, registry: Registry, counts: Counter[str]) -> Caller:
    """Return the caller of a worker.

    Raises:
        TaskDefinitionError: child processes would not find the handler of a task that is isolated.
    """
    check_addresses(registry, options.app)
    caller = Caller(options.threads, options.cancel_grace, options.hook_timeout, counts)
    caller.batches = Batches(options.concurrency)
    caller.processes = ProcessPool(options, counts)
    return caller


def cores() -> int:
    """Return on how many cores this process may run."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        # Not on macOS.
        return os.cpu_count() or 1


class ProcessPool:
    """At most ``options.processes`` children that run, each one try at a time, and as many that wait in one.

    A handler that was told to stop has ``cancel_grace`` to end before its process is killed. A try waits at
    most a lease for a free process, and goes back unspent then.
    """

    def __init__(self, options: WorkerOptions, counts: Counter[str]) -> None:
        self._app = options.app
        # Killed before the lease of a worker that lost it is over.
        self._grace = min(options.cancel_grace, options.lease / 6)
        self._hook_timeout = options.hook_timeout
        self._lease = options.lease
        self._counts = counts
        #: How many tries run at once.
        self.size = options.processes or cores()
        self._running = 0
        #: How many tries wait for children or tokens in their processes.
        self.waiting = 0
        self._left = asyncio.Event()
        self._idle: list[ChildProcess] = []
        #: The processes that run something, for people and tests.
        self.busy: set[ChildProcess] = set()

    @property
    def pids(self) -> list[int]:
        """The process ids of all children."""
        return sorted(each.pid for each in [*self._idle, *self.busy])

    async def run(
        self,
        definition: TaskDefinition[Any, Any],
        payload: Any,
        context: JobContext,
        interruption: Interruption,
        caller: Caller,
    ) -> TryOutcome:
        """Run a try in a child. Never raises for what the handler, or the child, does."""
        try:
            async with asyncio.timeout(self._lease.total_seconds()):
                while self._running >= self.size:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            return Returned("no process was free", delay=_ELSEWHERE, unbegun=True)
        except asyncio.CancelledError:
            return interruption.outcome or Returned("the worker was stopped")
        if context.countdown is not None:
            # A process is ended for good; nothing of it has to be left behind.
            context.countdown.cancel()
        self._running += 1
        try:
            return await self._run(definition, context, interruption)
        except ProcessDiedError as error:
            if interruption.outcome is not None:
                return interruption.outcome
            self._counts["process_died"] += 1
            context.logger.warning("%s", error)
            return await judge(error, definition, payload, context, caller)
        except OSError as error:
            context.logger.exception("a process could not be started")
            return Errored({"name": "ProcessDiedError", "message": f"It could not be started: {error}"})
        finally:
            self._leave()

    def _leave(self) -> None:
        self._running -= 1
        self._left.set()

    def pause(self, turn: _Turn) -> None:
        """Let another try run while this one waits; beyond as many again, it has to end."""
        self._leave()
        self.waiting += 1
        if self.waiting > self.size:
            asyncio.get_running_loop().call_soon(turn.give_up)

    def go_on(self) -> None:
        """Let a try go on that has waited, beside whoever runs."""
        self.waiting -= 1
        self._running += 1

    async def _run(
        self, definition: TaskDefinition[Any, Any], context: JobContext, interruption: Interruption
    ) -> TryOutcome:
        job = context.job
        request = {
            "job": dump_job(job),
            "cancel_grace": self._grace.total_seconds(),
            "hook_timeout": self._hook_timeout.total_seconds(),
        }
        child = await self._take()
        self.busy.add(child)
        loop = asyncio.get_running_loop()
        hearing = Hearing(context, child.send)
        work = loop.create_task(child.run(address_of(definition, self._app), request, hearing))
        seconds = job.max_duration.total_seconds() if job.max_duration else None
        late: asyncio.Future[None] = loop.create_future()
        turn = context.countdown = _Turn(self, seconds, late, context, interruption)
        try:
            await asyncio.wait({work, late}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                context.cancel()
                return interruption.outcome or _too_long(seconds or 0)
            return _outcome(work.result())
        except asyncio.CancelledError:
            child.send({"cancel": True})
            await asyncio.wait({work}, timeout=self._grace.total_seconds())
            said = _outcome(work.result()) if work.done() and work.exception() is None else None
            # As in a handler of this process: one that goes on to its result has it.
            return said if isinstance(said, Succeeded) else interruption.outcome or Returned("stopped")
        finally:
            turn.cancel()
            try:
                await asyncio.shield(hearing.close())
            finally:
                await self._release(child, work)

    async def _take(self) -> ChildProcess:
        while self._idle:
            child = self._idle.pop()
            if child.is_alive:
                return child
            await child.kill()
        return await ChildProcess.start()

    async def _release(self, child: ChildProcess, work: asyncio.Task[Message]) -> None:
        is_well = work.done() and not work.cancelled() and work.exception() is None
        if not is_well:
            await asyncio.shield(child.kill())
            await asyncio.wait({work})
            if not work.cancelled():
                work.exception()
        self.busy.discard(child)
        if not is_well:
            return
        if child.tries >= MOST_TRIES or child.rss - child.first_rss > MOST_GROWTH:
            await asyncio.shield(child.close(_CLOSE_S))
        else:
            self._idle.append(child)

    async def close(self) -> None:
        """End the children. Tries have ended before."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(each.close(_CLOSE_S) for each in idle), *(each.kill() for each in self.busy))


def _outcome(message: Message) -> TryOutcome:
    try:
        return load_outcome(message["outcome"])
    except (ValueError, TypeError, KeyError):
        msg = "Its process said what cannot be understood."
        raise ProcessDiedError(msg) from None


def _too_long(seconds: float) -> TimedOut:
    message = f"It ran longer than its max_duration of {seconds:g} s; its process was killed."
    return TimedOut({"name": "TimedOut", "message": message})


class _Turn(Countdown):
    """A try's time, and its place among those that run: both are given back while it waits."""

    def __init__(
        self,
        pool: ProcessPool,
        seconds: float | None,
        late: asyncio.Future[None],
        context: JobContext,
        interruption: Interruption,
    ) -> None:
        super().__init__(seconds, lambda: late.done() or late.set_result(None))
        self._pool, self._context, self._interruption = pool, context, interruption
        self._task = asyncio.current_task()
        self._is_waiting = False

    def pause(self) -> None:
        """Stand still, and let others run."""
        super().pause()
        self._is_waiting = True
        self._pool.pause(self)

    def go_on(self) -> None:
        """Count down again, and run."""
        super().go_on()
        if self._is_waiting:
            self._is_waiting = False
            self._pool.go_on()

    def give_up(self) -> None:
        """End a try that waits: its handler begins again when that for which it waits is there."""
        if self._is_waiting and self._task is not None:
            self._interruption.set(Returned("too many processes wait"))
            self._context.cancel()
            self._task.cancel()
