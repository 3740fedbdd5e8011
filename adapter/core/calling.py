"""How what an application declares is called: async functions on the event loop, others in threads."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor as ThreadPool
from datetime import timedelta
from typing import Any


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await; an object with an async ``__call__`` counts."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


class Caller:
    """Calls handlers and hooks for one worker. ``counts`` are the process's counters."""

    def __init__(self, threads: ThreadPool, hook_timeout: timedelta, counts: Counter[str]) -> None:
        self._threads = threads
        self._hook_timeout = hook_timeout.total_seconds()
        self.counts = counts

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function that is not async; it sees the context variables of its caller."""
        call = functools.partial(contextvars.copy_context().run, _in_thread, function, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def hook(self, hook: Callable[..., Any], *arguments: Any) -> Any:
        """Call a hook, for as long as hooks may take.

        Raises:
            TimeoutError: it took longer.
        """
        async with asyncio.timeout(self._hook_timeout):
            if is_async(hook):
                return await hook(*arguments)
            return await self.in_thread(hook, *arguments)


def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except StopIteration as error:
        # No future can carry it: whoever awaits would wait forever.
        raise RuntimeError("The handler raised StopIteration.") from error
