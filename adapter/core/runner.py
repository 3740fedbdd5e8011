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
from adapter.core.handler_errors import judge, judge_alone
from adapter.core.hooks import within
from adapter.core.registry import TaskDefinition
from adapter.domain.outcome import Returned, Succeeded, TimedOut, TryOutcome
from adapter.store.claims import Claimed

#: How long a job waits that this worker has no thread for: others shall have it.
_ELSEWHERE = timedelta(seconds=5)
_NOTHING = Succeeded(None)


@dataclass(slots=True)
class Interruption:
    """Why a try is being stopped from outside; the first reason wins."""

    outcome: TryOutcome | None = None

    def set(self, outcome: TryOutcome) -> None:
        """Give the reason unless there is one."""
        if self.outcome is None:
            self.outcome = outcome


async def run_plain(
    definition: TaskDefinition[Any, Any], job: Claimed, interruption: Interruption
) -> TryOutcome:
    """Run an async handler that takes nothing but its payload, and has no hooks and no time limit.

    What `run_try` does, without what such a handler cannot see.
    """
    handler: Callable[..., Any] | None = definition.handler
    assert handler is not None
    try:
        result = await handler(definition.load_json(job.text))
        return _NOTHING if result is None else Succeeded(definition.dump_result(result))
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its outcome
        return _stopped(error, interruption) or judge_alone(error, definition)


async def run_try(
    definition: TaskDefinition[Any, Any],
    context: JobContext,
    interruption: Interruption,
    caller: Caller,
) -> TryOutcome:
    """Run the handler once.

    Async handlers are canceled when they are out of time; a sync one is told by ``ctx.is_canceled``, given
    a grace and abandoned: its thread goes on, but nothing it does can touch the row any more.
    """
    if caller.is_exhausted and not definition.is_async and not definition.is_isolated:
        return Returned("too many threads of this worker hang", delay=_ELSEWHERE)
    duration = context.time_limit
    limit = asyncio.timeout(duration.total_seconds() if duration else None)
    payload: Any = context.job.data
    try:
        payload = definition.load_payload(context.job.data)
        if definition.is_isolated and caller.processes is not None:
            return await caller.processes.run(definition, payload, context, interruption, caller)
        context.limit = limit
        async with limit:
            if definition.hooks is None:
                result = await _call(definition, payload, context, caller)
            else:
                call = functools.partial(_call, definition, payload, context, caller)
                result = await within(definition.hooks, payload, context, caller, call)
        if not limit.expired():
            return Succeeded(definition.dump_result(result))
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its outcome
        if not limit.expired():
            return _stopped(error, interruption) or await judge(error, definition, payload, context, caller)
    # It was told to end, whatever it came to after that: too late is too late.
    context.cancel()
    return interruption.outcome or _too_long(duration)


def _stopped(error: BaseException, interruption: Interruption) -> TryOutcome | None:
    """Return what a try comes to that was stopped; None when its error is its own."""
    if isinstance(error, asyncio.CancelledError) and _is_being_canceled():
        return interruption.outcome or Returned("the worker was stopped")
    return interruption.outcome


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
    if definition.policy.batch is not None:
        return await caller.batches.call(definition, payload, context, caller)
    arguments = (payload, context) if definition.takes_context else (payload,)
    if definition.is_async:
        return await handler(*arguments)
    return await caller.in_thread(context, handler, *arguments)
