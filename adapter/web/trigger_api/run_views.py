"""A whole run, as a retrieve answers it: itself, its schedule, and those around it (Trigger.dev's API contract, 7.1)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from adapter.domain.errors import ScheduleNotFoundError
from adapter.web.trigger_api.access import sees
from adapter.web.trigger_api.run_packets import is_large, packet_url
from adapter.web.trigger_api.wire import run_details, run_summary

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.domain.job import Job
    from adapter.web.auth import Principal
    from adapter.web.trigger_api.context import ApiContext

_MOST_CHILDREN = 100


async def run_view(context: ApiContext, request: Request, principal: Principal, job: Job) -> dict[str, Any]:
    """Return all that is shown of a run. A payload or output that is large becomes a URL, signed with the key of ``principal``."""
    view = run_details(job)
    for field in ("payload", "output"):
        if field in view and is_large(view[field]):
            del view[field]
            view[f"{field}PresignedUrl"] = packet_url(context, request, principal.key, job, field)
    around = await context.adapter.relatives(job, _MOST_CHILDREN)
    related: dict[str, Any] = {
        "children": [run_summary(child) for child in around.children if sees(principal, child)]
    }
    for name, relative in (("root", around.root), ("parent", around.parent)):
        if relative is not None and sees(principal, relative):
            related[name] = run_summary(relative)
    view["relatedRuns"] = related
    if job.schedule_id is not None:
        # A run outlives its schedule.
        with contextlib.suppress(ScheduleNotFoundError):
            view["schedule"] = await _schedule(context, principal.key, job)
    return view


async def _schedule(context: ApiContext, key: str, job: Job) -> dict[str, Any]:
    # What says an expression in words is loaded by whoever needs it.
    from adapter.web.trigger_api.schedule_wire import shown  # noqa: PLC0415

    adapter = context.adapter
    assert job.schedule_id is not None
    schedule = shown(await adapter.get_schedule(job.schedule_id), adapter.clock.now(), key)
    fields = ("id", "externalId", "deduplicationKey", "generator")
    return {name: schedule[name] for name in fields if schedule[name] is not None}
