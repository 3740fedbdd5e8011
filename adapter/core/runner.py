"""One try: call the handler and say what it came to. Never raises for what a handler does."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from adapter.core.calling import Caller
from adapter.core.context import JobContext
from adapter.core.hooks import within
from adapter.core.judging import describe_error, judge
from adapter.core.registry import TaskDefinition
from adapter.domain.errors import InvalidPayloadError
from adapter.domain.outcome import Errored, Returned, Stopped, Succeeded, TimedOut, TryOutcome


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
    caller: Caller,
) -> TryOutcome:
    """Run the handler once.

    Async handlers are canceled when they are out of time; a sync one is told by ``ctx.is_canceled`` and
    abandoned: its thread goes on, but nothing it does can touch the row any more.
    """
    duration = context.job.max_duration
    limit: asyncio.Timeout | None = None
    payload: Any = context.job.data
    try:
        payload = definition.load_payload(context.job.data)
        async with asyncio.timeout(duration.total_seconds() if duration else None) as limit:
            if definition.hooks is None:
                result = await _call(definition, payload, context, caller)
            else:
                call = functools.partial(_call, definition, payload, context, caller)
                result = await within(definition.hooks, payload, context, caller, call)
        if limit.expired():
            # It was told to end, and went on to a result: too late is too late.
            context.cancel()
            return interruption.outcome or _too_long(duration)
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
            return interruption.outcome or await judge(error, definition, payload, context, caller)
        return _too_long(duration)
    except InvalidPayloadError as error:
        return Errored({"name": "InvalidPayloadError", "message": str(error)}, retryable=False)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its outcome
        if limit is not None and limit.expired():
            return interruption.outcome or _too_long(duration)
        return interruption.outcome or await judge(error, definition, payload, context, caller)


def _is_being_canceled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _too_long(duration: timedelta | None) -> TimedOut:
    seconds = duration.total_seconds() if duration else 0
    message = f"It ran longer than its max_duration of {seconds:g} s."
    return TimedOut({"name": "TimedOut", "message": message})


async def _call(
    definition: TaskDefinition[Any, Any], payload: Any, context: JobContext, caller: Caller
) -> Any:
    handler: Callable[..., Any] | None = definition.handler
    if handler is None:
        msg = f"{definition.id} has no handler here"
        raise RuntimeError(msg)
    arguments = (payload, context) if definition.takes_context else (payload,)
    if definition.is_async:
        return await handler(*arguments)
    return await caller.in_thread(handler, *arguments)
