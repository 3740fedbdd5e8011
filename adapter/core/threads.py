"""Threads for what is not async. One that does not end is given up and replaced; how many is bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

#: Threads of handlers have this prefix; a process that stops leaves them behind (`adapter.cli.signals`).
PREFIX = "adapter-job"


class _Call:
    """A function on its way through a thread."""

    __slots__ = ("function", "future", "is_abandoned")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.future: Future[Any] = Future()
        self.is_abandoned = False


class HandlerThreads:
    """``size`` threads at most do the work; beside them up to ``most_abandoned`` hang in what does not end.

    Threads are made when they are needed, and are daemons: none keeps the process from ending.
    """

    def __init__(self, size: int, most_abandoned: int) -> None:
        self._size, self._most_abandoned = size, most_abandoned
        self._lock = threading.Lock()
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._serving = self._idle = self._queued = self._made = 0
        #: How many hang.
        self.abandoned = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether so many hang that nothing more should be begun here."""
        return self.abandoned >= self._most_abandoned

    async def run(
        self,
        function: Callable[[], Any],
        *,
        grace: float,
        on_cancel: Callable[[], object],
        on_abandoned: Callable[[], object],
    ) -> Any:
        """Run a function in a thread.

        When the caller is canceled, ``on_cancel()`` tells the function, which then has ``grace`` seconds to
        end before it is abandoned, with a call of ``on_abandoned()``. Either way the cancellation goes on;
        what the function returns is lost.
        """
        call = self._submit(function)
        ended = asyncio.wrap_future(call.future)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            if ended.done():
                # The function itself let it out.
                raise
            on_cancel()
            try:
                if not call.future.cancel():
                    await asyncio.wait({ended}, timeout=grace)
            finally:
                if self._abandon(call):
                    on_abandoned()
            raise

    def shutdown(self) -> None:
        """Let threads end once they have nothing to do."""
        with self._lock:
            for _ in range(self._serving):
                self._calls.put(None)

    def _submit(self, function: Callable[[], Any]) -> _Call:
        call = _Call(function)
        with self._lock:
            self._queued += 1
            self._calls.put(call)
            if self._idle < self._queued:
                self._make_thread()
        return call

    def _make_thread(self) -> None:
        if self._serving < self._size:
            self._serving += 1
            self._made += 1
            threading.Thread(target=self._serve, name=f"{PREFIX}-{self._made}", daemon=True).start()

    def _abandon(self, call: _Call) -> bool:
        with self._lock:
            if call.future.done():
                return False
            call.is_abandoned = True
            self.abandoned += 1
            self._serving -= 1
            if self._queued:
                self._make_thread()
            return True

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            call = self._calls.get()
            with self._lock:
                self._idle -= 1
                if call is None:
                    self._serving -= 1
                    return
                self._queued -= 1
            if call.future.set_running_or_notify_cancel() and self._is_given_up(call):
                return
            del call

    def _is_given_up(self, call: _Call) -> bool:
        """Run the call; whether it was abandoned meanwhile, so that another thread has taken this one's place."""
        result, fault = None, None
        try:
            result = call.function()
        except BaseException as error:  # noqa: BLE001 - whatever it raises is for whoever waits
            fault = error
        with self._lock:
            # Under the lock: it is either done or abandoned, never both.
            if call.is_abandoned:
                self.abandoned -= 1
                return True
            if fault is None:
                call.future.set_result(result)
            else:
                call.future.set_exception(fault)
        return False
