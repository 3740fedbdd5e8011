"""What an exception means that a try let out: fail, try again, or put it off."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

from adapter.domain.errors import (
    AbortJobError,
    InvalidPayloadError,
    JobControl,
    RetryJobError,
    SnoozeJobError,
)
from adapter.domain.json import keepable
from adapter.domain.outcome import Errored, Snoozed, TryOutcome

if TYPE_CHECKING:
    from adapter.core.calling import Caller
    from adapter.core.context import JobContext
    from adapter.core.hooks import CatchError
    from adapter.core.registry import TaskDefinition

logger = logging.getLogger("adapter.worker")

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


async def judge(
    error: BaseException,
    definition: TaskDefinition[Any, Any],
    payload: Any,
    context: JobContext,
    caller: Caller,
) -> TryOutcome:
    """Return what an error comes to: by its own word, by ``catch_error``, by the task's classes, by the policy."""
    hooks = definition.hooks
    speaks_for_itself = isinstance(error, (JobControl, InvalidPayloadError))
    for catch in hooks.catch_error if hooks is not None and not speaks_for_itself else ():
        control = await _asked(catch, payload, context, error, caller)
        if control is not None:
            return _controlled(control, error)
    return judge_alone(error, definition)


def judge_alone(error: BaseException, definition: TaskDefinition[Any, Any]) -> TryOutcome:
    """Return what an error comes to where nobody is asked."""
    if isinstance(error, JobControl):
        return _controlled(error, error)
    if isinstance(error, InvalidPayloadError):
        return Errored({"name": "InvalidPayloadError", "message": str(error)}, retryable=False, raised=error)
    return _by_class(error, definition)


async def _asked(
    catch: CatchError[Any], payload: Any, context: JobContext, error: BaseException, caller: Caller
) -> JobControl | None:
    try:
        said = await caller.hook(catch, context, payload, context, error)
    except JobControl as control:
        return control
    except Exception:
        caller.counts["hook_failed"] += 1
        context.logger.exception("catch_error failed; the error counts as it is")
        return None
    if said is not None and not isinstance(said, JobControl):
        caller.counts["hook_failed"] += 1
        context.logger.error("catch_error answered %s; the error counts as it is", type(said).__name__)
        return None
    return said


def _controlled(control: JobControl, error: BaseException) -> TryOutcome:
    match control:
        case SnoozeJobError():
            return Snoozed(control.delay, str(control))
        case AbortJobError():
            return Errored(describe_error(error), retryable=False, raised=error)
        case RetryJobError():
            return Errored(
                describe_error(error), retry_after=control.delay, retry_at=control.at, raised=error
            )
        case _:
            return Errored(describe_error(error), raised=error)


def _by_class(error: BaseException, definition: TaskDefinition[Any, Any]) -> Errored:
    policy = definition.policy
    retryable = not isinstance(error, policy.abort_on)
    if retryable and policy.retry_on is not None:
        retryable = isinstance(error, policy.retry_on)
    return Errored(describe_error(error), retryable=retryable, raised=error)
