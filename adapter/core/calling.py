"""How what an application declares is called: async functions on the event loop, others in threads."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from adapter.core.batching import Batches
from adapter.core.threads import HandlerThreads

if TYPE_CHECKING:
    from adapter.core.context import JobContext
    from adapter.core.isolation.pool import ProcessPool

logger = logging.getLogger("adapter.worker")


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await; an object with an async ``__call__`` counts."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


class Caller:
    """Calls handlers and hooks for one worker, in at most ``threads`` threads at once.

    ``counts`` are the process's counters. ``cancel_grace``: how long something has to end once it is told to. ``hook_timeout``: how long a hook may
    take.
    """

    def __init__(
        self, threads: int, cancel_grace: timedelta, hook_timeout: timedelta, counts: Counter[str]
    ) -> None:
        #: Where isolated handlers run; None in a child, which is where they run.
        self.processes: ProcessPool | None = None
        # As many again may hang before it takes no more.
        self._threads = HandlerThreads(threads, most_abandoned=threads)
        self._cancel_grace = cancel_grace.total_seconds()
        self._hook_timeout = hook_timeout.total_seconds()
        self.counts = counts
        #: Where jobs of batch handlers meet.
        self.batches = Batches()

    @property
    def is_exhausted(self) -> bool:
        """Whether so many threads hang that nothing more should be begun in one."""
        return self._threads.is_exhausted

    @property
    def problem(self) -> str | None:
        """What is wrong with the threads, for people; None when nothing is."""
        if not self.is_exhausted:
            return None
        hang = self._threads.abandoned
        return f"{hang} threads hang; handlers that are not async are refused. Restart it, and see the log for which."

    async def close(self) -> None:
        """Let its threads end once they have nothing to do, and end its processes."""
        self.batches.close()
        self._threads.shutdown()
        if self.processes is not None:
            await self.processes.close()

    async def in_thread(self, context: JobContext, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function that is not async; it sees the context variables of its caller."""
        call = functools.partial(contextvars.copy_context().run, _in_thread, function, *arguments)
        return await self._threads.run(
            call,
            grace=self._cancel_grace,
            on_cancel=context.cancel,
            on_abandoned=functools.partial(self._say_abandoned, context),
        )

    def _say_abandoned(self, context: JobContext) -> None:
        self.counts["abandoned"] += 1
        logger.error(
            "a thread does not end although it was told to: left behind, with %d in all",
            self._threads.abandoned,
            extra={"job_id": str(context.job.id), "type": context.job.type},
        )

    async def hook(self, hook: Callable[..., Any], context: JobContext, *arguments: Any) -> Any:
        """Call a hook, for as long as hooks may take.

        Raises:
            TimeoutError: it took longer.
        """
        async with asyncio.timeout(self._hook_timeout):
            if is_async(hook):
                return await hook(*arguments)
            return await self.in_thread(context, hook, *arguments)


def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except StopIteration as error:
        # No future can carry it: whoever awaits would wait forever.
        raise RuntimeError("The handler raised StopIteration.") from error
