"""One try: call the handler and say what it came to. Never raises for what a handler does."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import traceback
from collections.abc import Callable
from concurrent.futures import Executor as ThreadPool
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from adapter.core.context import JobContext
from adapter.core.registry import TaskDefinition
from adapter.domain.errors import AbortJobError, InvalidPayloadError, RetryJobError
from adapter.domain.json import keepable
from adapter.domain.outcome import Errored, Returned, Stopped, Succeeded, TimedOut, TryOutcome

_LONGEST_STACK = 10_000
_LONGEST_MESSAGE = 2_000


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return an exception as the JSON that is kept on the row."""
    stack = "".join(traceback.format_exception(error))[-_LONGEST_STACK:]
    try:
        message = str(error)[:_LONGEST_MESSAGE]
    except Exception:  # noqa: BLE001 - an error that cannot speak is an error all the same
        message = "The error cannot say what it is."
    kept = {"name": type(error).__name__, "message": message, "stack": stack}
    # What PostgreSQL cannot keep must not cost us the outcome.
    return keepable(kept)


@dataclass(slots=True)
class Interruption:
    """Why a try is being stopped from outside; the first reason wins."""

    outcome: TryOutcome | None = None

    def set(self, outcome: TryOutcome) -> None:
        """Give the reason unless there is one."""
        if self.outcome is None:
            self.outcome = outcome


async def run_try(  # noqa: PLR0911 - one return per way a try can end
    definition: TaskDefinition[Any, Any],
    context: JobContext,
    interruption: Interruption,
    threads: ThreadPool,
) -> TryOutcome:
    """Run the handler once.

    Async handlers are canceled when they are out of time; a sync one is told by ``ctx.is_canceled`` and
    abandoned: its thread goes on, but nothing it does can touch the row any more.
    """
    duration = context.job.max_duration
    limit: asyncio.Timeout | None = None
    try:
        payload = definition.load_payload(context.job.data)
        async with asyncio.timeout(duration.total_seconds() if duration else None) as limit:
            result = await _call(definition, payload, context, threads)
        return Succeeded(definition.dump_result(result))
    except asyncio.CancelledError as error:
        context.cancel()
        if interruption.outcome is None and not _is_being_canceled():
            # The handler let the cancellation of something else out: an error like any other.
            return Errored(describe_error(error))
        if interruption.outcome is None:
            interruption.set(Returned("the worker was stopped"))
        return interruption.outcome or Stopped("canceled")
    except TimeoutError as error:
        context.cancel()
        if duration is None or limit is None or not limit.expired():
            return interruption.outcome or Errored(describe_error(error))
        return TimedOut(_too_long(duration))
    except InvalidPayloadError as error:
        return Errored({"name": "InvalidPayloadError", "message": str(error)}, retryable=False)
    except AbortJobError as error:
        return Errored(describe_error(error), retryable=False)
    except RetryJobError as error:
        return Errored(describe_error(error), retry_after=error.delay)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its outcome
        return interruption.outcome or Errored(describe_error(error))


def _is_being_canceled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _too_long(duration: timedelta) -> dict[str, Any]:
    seconds = duration.total_seconds()
    return {"name": "TimedOut", "message": f"It ran longer than its max_duration of {seconds:g} s."}


async def _call(
    definition: TaskDefinition[Any, Any], payload: Any, context: JobContext, threads: ThreadPool
) -> Any:
    handler: Callable[..., Any] | None = definition.handler
    if handler is None:
        msg = f"{definition.id} has no handler here"
        raise RuntimeError(msg)
    arguments = (payload, context) if definition.takes_context else (payload,)
    if definition.is_async:
        return await handler(*arguments)
    call = functools.partial(contextvars.copy_context().run, _in_thread, handler, *arguments)
    return await asyncio.get_running_loop().run_in_executor(threads, call)


def _in_thread(handler: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return handler(*arguments)
    except StopIteration as error:
        # No future can carry it: whoever awaits would wait forever.
        raise RuntimeError("The handler raised StopIteration.") from error
