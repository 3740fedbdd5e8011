"""The job of one tick: what it is asked for, and what its payload says of the tick."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from adapter.core.planning import JobSpec, ScheduleOptions
from adapter.domain.identity import SCHEDULE_PREFIX, public_id
from adapter.domain.window import offset_in
from adapter.domain.wire import moment
from adapter.store.schedules import Schedule

_UPCOMING = 5


def spec_of(schedule: Schedule, at: datetime, last: datetime | None) -> JobSpec:
    """Return the job of one tick.

    ``at``: its nominal time, which the job carries as ``ctx.tick``. ``last``: that of the tick before.
    A schedule with a window makes its job at that time too, to be due some time later.
    """
    extra: dict[str, Any] = {"tick": at.isoformat()}
    data = schedule.data
    if schedule.sends_tick:
        data, extra["superjson"] = _told(schedule, at, last)
    options = ScheduleOptions(schedule_id=schedule.id, extra=extra)
    if schedule.tag is not None:
        options["tag"] = schedule.tag
    if schedule.user_id is not None:
        options["user_id"] = schedule.user_id
    if schedule.executor is not None:
        options["executor"] = schedule.executor
    if schedule.persistent:
        options["persistent"] = True
    delay = offset_of(schedule, at)
    if delay:
        options["due"] = at + delay
    return JobSpec(schedule.task, data, options)


def offset_of(schedule: Schedule, at: datetime) -> timedelta:
    """Return how long after ``at``, one of its nominal times, the job of a tick is due."""
    if schedule.window is None:
        return timedelta(0)
    return offset_in(schedule.window, schedule.id, schedule.times.next_after(at) - at)


def _told(schedule: Schedule, at: datetime, last: datetime | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what Trigger.dev tells a scheduled task (its API contract, 9.5), and superjson's word on what are dates."""
    told: dict[str, Any] = {
        "scheduleId": public_id(SCHEDULE_PREFIX, schedule.id),
        "type": "DECLARATIVE" if schedule.is_declared else "IMPERATIVE",
        "timestamp": moment(at),
        "timezone": schedule.timezone,
        "upcoming": [moment(each) for each in islice(schedule.times.after(at), _UPCOMING)],
    }
    if last is not None:
        told["lastTimestamp"] = moment(last)
    if schedule.external_id is not None:
        told["externalId"] = schedule.external_id
    dates = [name for name in ("timestamp", "lastTimestamp") if name in told]
    dates += [f"upcoming.{place}" for place in range(len(told["upcoming"]))]
    return told, {"values": {name: ["Date"] for name in dates}}
