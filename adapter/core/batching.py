"""Batch handlers: one call for several jobs of a task, each with an outcome of its own.

Every job of a batch is a try of its own: its payload is validated, its hooks are called, its time runs and
it is canceled by itself. All that the tries share is the call of the handler.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections import abc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, get_args, get_origin, get_type_hints

from adapter.core.left_behind import leave_behind
from adapter.domain.errors import InvalidArgumentError, RetryJobError, SnoozeJobError, TaskDefinitionError
from adapter.domain.task import Batch

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from types import TracebackType

    from adapter.core.calling import Caller
    from adapter.core.context import JobContext
    from adapter.core.registry import TaskDefinition
    from adapter.domain.job import Job

P = TypeVar("P")


class BatchItem(Generic[P]):
    """One job of a batch. What is said of it first counts; unsaid, it ends as the handler does.

    For handlers in threads as well.
    """

    def __init__(self, payload: P, ctx: JobContext) -> None:
        self.payload = payload
        #: What a handler of this job alone would be given: logger, progress, metadata, being canceled.
        self.ctx = ctx
        self._loop = asyncio.get_running_loop()
        #: What is to be raised, or None and the result.
        self.ending: asyncio.Future[tuple[BaseException | None, Any]] = self._loop.create_future()
        self._said: tuple[BaseException | None, Any] | None = None
        #: Where an error was raised; every try that raises it would add to that.
        self.traceback: TracebackType | None = None

    @property
    def job(self) -> Job:
        """The job as it was claimed; ``job.attempt`` is this try's number."""
        return self.ctx.job

    @property
    def is_canceled(self) -> bool:
        """Whether nobody wants this job's result any more: canceled, out of time, or the worker stops."""
        return self.ctx.is_canceled

    def complete(self, result: Any = None) -> None:
        """Complete this job now, whatever becomes of the others.

        Raises:
            InvalidArgumentError: it has an outcome already. The same is true of the three below.
        """
        self._say(None, result)

    def fail(self, error: BaseException) -> None:
        """Let this job alone come to what raising ``error`` would come to.

        It is tried again as the task says; an `AbortJobError` fails it for good.
        """
        self._say(error, None)

    def retry(self, message: str = "", *, delay: timedelta | None = None, at: datetime | None = None) -> None:
        """Try this job again after ``delay`` or ``at`` a time. The attempt is spent."""
        self._say(RetryJobError(message, delay=delay, at=at), None)

    def snooze(self, delay: timedelta, reason: str = "") -> None:
        """Give this job back until ``delay`` is over; no attempt is spent."""
        self._say(SnoozeJobError(reason, delay=delay), None)

    def _say(self, error: BaseException | None, result: Any) -> None:
        if self._said is not None:
            msg = f"Job {self.job.id} of this batch has an outcome already."
            raise InvalidArgumentError(msg)
        self._said = (error, result)
        self._loop.call_soon_threadsafe(self.settle)

    def settle(self, error: BaseException | None = None, result: Any = None) -> None:
        """End the item, as was said of it, else like this. On the event loop."""
        said = self._said = self._said or (error, result)
        if not self.ending.done():
            self.traceback = said[0].__traceback__ if said[0] is not None else None
            self.ending.set_result(said)


def batch_signature(task: str, handler: Callable[..., Any]) -> tuple[Any, Any]:
    """Return (payload type, result type) of one job of a batch handler.

    Raises:
        TaskDefinitionError: the handler does not take a list of items.
    """
    arguments = list(inspect.signature(handler).parameters.values())
    wanted = f"The handler of {task!r} must take (items: list[BatchItem[Payload]]), since it has batch=."
    if len(arguments) != 1:
        raise TaskDefinitionError(wanted)
    try:
        hints = get_type_hints(handler, include_extras=True)
    except NameError as error:
        msg = f"An annotation of the handler of {task!r} cannot be resolved: {error}. Import it at module level."
        raise TaskDefinitionError(msg) from error
    items = hints.get(arguments[0].name, list[BatchItem[Any]])
    (item,) = get_args(items) if get_origin(items) is list else (None,)
    if item is not BatchItem and get_origin(item) is not BatchItem:
        raise TaskDefinitionError(wanted)
    (payload,) = get_args(item) or (Any,)
    results = hints.get("return", Any)
    each = get_args(results)
    return payload, each[0] if get_origin(results) in {list, abc.Sequence} and len(each) == 1 else results


class Batches:
    """Gathers the jobs of one worker, which runs ``most`` at once, into calls of their handlers."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._gathering: dict[str, _Gathering] = {}
        self._calls: set[asyncio.Task[None]] = set()
        # A handler of many jobs sees the context variables of none of them.
        self._variables = contextvars.copy_context()

    async def call(
        self, definition: TaskDefinition[Any, Any], payload: Any, ctx: JobContext, caller: Caller
    ) -> Any:
        """Be part of the next call of a batch handler; returns or raises what it said of this job."""
        item = BatchItem(payload, ctx)
        gathering = self._gathering.get(definition.id)
        if gathering is None:
            then = functools.partial(self._begin, definition, caller)
            batch = definition.policy.batch or Batch()
            # More cannot come while these wait.
            size = batch.size if self._most is None else min(batch.size, self._most)
            gathering = self._gathering[definition.id] = _Gathering(size, batch.wait, then)
        gathering.add(item)
        error, result = await item.ending
        if error is not None:
            raise error.with_traceback(item.traceback)
        return result

    def close(self) -> None:
        """Leave calls behind that go on though none of their jobs wants them any more."""
        for call in self._calls:
            leave_behind(call)

    def _begin(self, definition: TaskDefinition[Any, Any], caller: Caller) -> None:
        gathering = self._gathering.pop(definition.id)
        items = [item for item in gathering.items if not item.ending.done()]
        if not items:
            return
        call = _call(definition, items, caller)
        task = asyncio.get_running_loop().create_task(call, context=self._variables.copy())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        for item in items:
            item.ending.add_done_callback(lambda _: task.cancel() if _is_unwanted(items) else None)


class _Gathering:
    """Items that will be one call: when there are enough, or the first has waited long enough."""

    def __init__(self, size: int, wait: timedelta, begin: Callable[[], None]) -> None:
        self._size, self._begin = size, begin
        self.items: list[BatchItem[Any]] = []
        self._timer = asyncio.get_running_loop().call_later(wait.total_seconds(), begin)

    def add(self, item: BatchItem[Any]) -> None:
        self.items.append(item)
        if len(self.items) >= self._size:
            self._timer.cancel()
            self._begin()


def _is_unwanted(items: list[BatchItem[Any]]) -> bool:
    """Whether every job has ended and not by what the handler said: there is nothing to go on for."""
    return all(item.ending.done() for item in items) and any(item.ending.cancelled() for item in items)


async def _call(definition: TaskDefinition[Any, Any], items: list[BatchItem[Any]], caller: Caller) -> None:
    handler = cast("Callable[..., Any]", definition.handler)
    try:
        if definition.is_async:
            said = await handler(list(items))
        else:
            said = await caller.in_thread(items[0].ctx, handler, list(items))
        results = _results(definition.id, said, len(items))
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is the outcome of its jobs
        for item in items:
            item.settle(error, None)
        return
    for item, result in zip(items, results, strict=True):
        item.settle(None, result)


def _results(task: str, said: Any, count: int) -> Sequence[Any]:
    if said is None:
        return [None] * count
    if not isinstance(said, (list, tuple)):
        msg = f"The batch handler of {task!r} returned {type(said).__name__}; it must return a list or None."
        raise TypeError(msg)
    results = cast("Sequence[Any]", said)
    if len(results) != count:
        msg = f"The batch handler of {task!r} returned {len(results)} results for {count} jobs."
        raise ValueError(msg)
    return results
