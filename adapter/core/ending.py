"""What is called once it is certain that a try was the last of its job."""

from __future__ import annotations

from typing import Any

from adapter.core.calling import Caller
from adapter.core.completion import Done, plan_write
from adapter.core.context import JobContext
from adapter.core.hooks import end_of, tell_end
from adapter.core.registry import Registry, TaskDefinition
from adapter.domain.errors import InvalidPayloadError
from adapter.store.endings import Ending


async def end_try(
    done: Done,
    definition: TaskDefinition[Any, Any],
    context: JobContext,
    registry: Registry,
    caller: Caller,
) -> None:
    """Call the hooks of the end that ``done`` comes to; none when the job stays open."""
    plan = plan_write(done, registry)
    hooks = definition.hooks
    if hooks is None or not isinstance(plan, Ending):
        return
    try:
        payload = definition.load_payload(done.job.data)
    except InvalidPayloadError:
        # The end of a job whose payload does not fit has to be told as well.
        payload = done.job.data
    end = end_of(context.job, plan.status, done.outcome, definition.load_result)
    await tell_end(hooks, payload, context, end, caller)
