"""Lifecycle hooks and middleware: what an application has called around the tries of its jobs.

A try is ``middleware( on_start, handler )``; what follows the last try, on_success, on_failure, on_cancel
and on_complete, comes after the middleware is left, when it is certain what the try came to.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeAlias, TypeVar

from adapter.core.calling import Caller
from adapter.core.context import JobContext
from adapter.domain.errors import JobControl, JobFailedError, TaskDefinitionError
from adapter.domain.job import Job, JobStatus
from adapter.domain.outcome import Errored, Succeeded, TimedOut, TryOutcome
from adapter.domain.shadow import is_shadow

P = TypeVar("P")
R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended: ``result`` of a COMPLETED one, ``error`` of any other."""

    status: JobStatus
    result: Any = None
    error: BaseException | None = None


StartHook: TypeAlias = Callable[[P, JobContext], Any]
SuccessHook: TypeAlias = Callable[[P, JobContext, R], Any]
FailureHook: TypeAlias = Callable[[P, JobContext, BaseException], Any]
CompleteHook: TypeAlias = Callable[[P, JobContext, JobEnd], Any]
CatchError: TypeAlias = Callable[
    [P, JobContext, BaseException], "JobControl | Awaitable[JobControl | None] | None"
]
Middleware: TypeAlias = Callable[[JobContext], contextlib.AbstractAsyncContextManager[Any]]


@dataclass(slots=True)
class Hooks:
    """The hooks of one task, or those of all tasks, in the order in which they are called."""

    middleware: list[Middleware] = field(default_factory=list[Middleware])
    on_start: list[StartHook[Any]] = field(default_factory=list[StartHook[Any]])
    on_success: list[SuccessHook[Any, Any]] = field(default_factory=list[SuccessHook[Any, Any]])
    on_failure: list[FailureHook[Any]] = field(default_factory=list[FailureHook[Any]])
    on_cancel: list[StartHook[Any]] = field(default_factory=list[StartHook[Any]])
    on_complete: list[CompleteHook[Any]] = field(default_factory=list[CompleteHook[Any]])
    catch_error: list[CatchError[Any]] = field(default_factory=list[CatchError[Any]])

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any(getattr(self, each.name) for each in fields(self))

    @property
    def watches_ends(self) -> bool:
        """Whether any is called when a job ends."""
        return bool(self.on_success or self.on_failure or self.on_cancel or self.on_complete)

    def under(self, outer: Hooks) -> Hooks | None:
        """Return these within the hooks of all tasks, None when there is none.

        Those of all tasks come first, but a task's own ``catch_error`` is asked first.
        """
        if not self and not outer:
            return None
        merged = {each.name: [*getattr(outer, each.name), *getattr(self, each.name)] for each in fields(self)}
        merged["catch_error"] = [*self.catch_error, *outer.catch_error]
        return Hooks(**merged)


#: The hooks that can be task options, and how many arguments each is called with.
ARGUMENTS: Mapping[str, int] = {
    "middleware": 1,
    "on_start": 2,
    "on_success": 3,
    "on_failure": 3,
    "on_cancel": 2,
    "on_complete": 3,
    "catch_error": 3,
}


class HookPoints(Generic[P, R]):
    """Decorators that declare hooks; each returns the function as it is."""

    def __init__(self, hooks: Hooks, is_frozen: Callable[[], bool]) -> None:
        self._hooks = hooks
        self._is_frozen = is_frozen

    def on_start(self, hook: Callable[[P, JobContext], T]) -> Callable[[P, JobContext], T]:
        """Call it before the handler of a first attempt. If it fails, the attempt fails."""
        return self.add("on_start", hook)

    def on_success(self, hook: Callable[[P, JobContext, R], T]) -> Callable[[P, JobContext, R], T]:
        """Call it with the result when a job completes."""
        return self.add("on_success", hook)

    def on_failure(
        self, hook: Callable[[P, JobContext, BaseException], T]
    ) -> Callable[[P, JobContext, BaseException], T]:
        """Call it with the last error when a job fails for good or runs out of time."""
        return self.add("on_failure", hook)

    def on_cancel(self, hook: Callable[[P, JobContext], T]) -> Callable[[P, JobContext], T]:
        """Call it when a job is canceled while it runs."""
        return self.add("on_cancel", hook)

    def on_complete(self, hook: Callable[[P, JobContext, JobEnd], T]) -> Callable[[P, JobContext, JobEnd], T]:
        """Call it at every end, after the hook of that end."""
        return self.add("on_complete", hook)

    def catch_error(
        self, hook: Callable[[P, JobContext, BaseException], T]
    ) -> Callable[[P, JobContext, BaseException], T]:
        """Ask it what an error means.

        It returns (or raises) `AbortJobError`, `RetryJobError` or `SnoozeJobError`; None: as usual.
        """
        return self.add("catch_error", hook)

    def middleware(self, manager: Middleware) -> Middleware:
        """Run every try inside the async context manager that ``manager(ctx)`` returns."""
        return self.add("middleware", manager)

    def add(self, name: str, hook: T) -> T:
        """Declare a hook by the name of its decorator.

        Raises:
            TaskDefinitionError: the adapter is open, or the hook cannot take its arguments.
        """
        if self._is_frozen():
            msg = f"{name} was declared after the adapter was opened. Declare hooks at import time."
            raise TaskDefinitionError(msg)
        _check_arguments(name, hook)
        getattr(self._hooks, name).append(hook)
        return hook


def _check_arguments(name: str, hook: Any) -> None:
    if not callable(hook):
        msg = f"{name} must be a function, not {type(hook).__name__}."
        raise TaskDefinitionError(msg)
    try:
        inspect.signature(hook).bind(*range(ARGUMENTS[name]))
    except TypeError as error:
        msg = f"{name} is called with {ARGUMENTS[name]} arguments, which {hook!r} does not take: {error}."
        raise TaskDefinitionError(msg) from None
    except ValueError:
        # A builtin that does not say what it takes.
        return


async def within(
    hooks: Hooks, payload: Any, context: JobContext, caller: Caller, handler: Callable[[], Awaitable[R]]
) -> R | None:
    """Run a handler inside the middleware, after the start hooks if this is the first attempt.

    None when a middleware swallowed the handler's error.
    """
    async with contextlib.AsyncExitStack() as stack:
        for middleware in hooks.middleware:
            await stack.enter_async_context(middleware(context))
        extra = context.job.extra
        if context.attempt == 1 and not extra.get("snoozes") and not is_shadow(extra):
            for hook in hooks.on_start:
                await caller.hook(hook, context, payload, context)
        return await handler()
    return None


def end_of(job: Job, status: JobStatus, outcome: TryOutcome, load_result: Callable[[Any], Any]) -> JobEnd:
    """Return how a job ends whose try came to ``outcome`` and thereby to ``status``."""
    match outcome:
        case Succeeded(result):
            return JobEnd(status, load_result(result))
        case Errored(error, raised=raised):
            return JobEnd(status, error=raised or JobFailedError(job.id, status, error))
        case TimedOut(error):
            return JobEnd(status, error=TimeoutError(error["message"]))
        case _:
            return JobEnd(status, error=JobFailedError(job.id, status, None))


async def tell_end(hooks: Hooks, payload: Any, context: JobContext, end: JobEnd, caller: Caller) -> None:
    """Call the hooks of an end. Whatever they do, the outcome stays what it is.

    A hook that fails or hangs is logged and counted, and the others are called all the same; only a worker
    that stops leaves out the rest.
    """
    given: tuple[Any, ...]
    if end.status is JobStatus.COMPLETED:
        first, given = hooks.on_success, (payload, context, end.result)
    elif end.status is JobStatus.CANCELED:
        first, given = hooks.on_cancel, (payload, context)
    else:
        first, given = hooks.on_failure, (payload, context, end.error)
    calls = [functools.partial(caller.hook, each, context, *given) for each in first]
    calls += [
        functools.partial(caller.hook, each, context, payload, context, end) for each in hooks.on_complete
    ]
    before = _cancels()
    for call in calls:
        try:
            await call()
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _cancels() > before:
                context.logger.warning("the worker stops: hooks of an end were cut short")
                return
            caller.counts["hook_failed"] += 1
            context.logger.exception("a hook failed; the outcome stays as it is")


def _cancels() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0
