"""What calls say of schedules, and the schedule that they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypedDict

from adapter.domain.cron import Cron, Missed
from adapter.domain.job import LOCAL
from adapter.domain.window import check_window
from adapter.store.schedules import Schedule

#: What a call says, and a second one of the same key changes.
SAID = (
    "task",
    "cron",
    "timezone",
    "missed",
    "data",
    "tag",
    "user_id",
    "executor",
    "description",
    "persistent",
    "external_id",
    "window",
    "sends_tick",
)
#: What an audit shows of a schedule; a payload is not among it.
_SHOWN = (
    "cron",
    "timezone",
    "missed",
    "tag",
    "user_id",
    "executor",
    "description",
    "persistent",
    "key",
    "owner",
    "window",
)


class CronOptions(TypedDict, total=False):
    """What can be said of a schedule; see `KeepsSchedules.schedule_cron`."""

    tz: str | None
    tag: str | None
    user_id: str | int | None
    executor: str | None
    persistent: bool
    description: str | None
    missed: Missed
    key: str | None
    external_id: str | None
    window: str | None
    sends_tick: bool


class ScheduleChanges(TypedDict, total=False):
    """What can be changed of a schedule; see `KeepsSchedules.change_schedule`."""

    task: str
    cron: str | Cron
    tz: str
    external_id: str | None
    window: str | None


@dataclass(frozen=True, slots=True)
class SchedulePage:
    """Some of all schedules, the newest first, and how many there are."""

    schedules: list[Schedule]
    total: int


def changed(schedule: Schedule, changes: ScheduleChanges) -> Schedule:
    """Return the schedule as a change wants it.

    Raises:
        InvalidCronError, InvalidArgumentError: an expression, a zone or a window cannot be read.
    """
    given = changes.get("cron", schedule.cron)
    cron = Cron(given) if isinstance(given, str) else given
    times = Cron(cron.expression, changes.get("tz") or cron.tz or schedule.timezone)
    window = changes.get("window", schedule.window)
    return replace(
        schedule,
        task=changes.get("task", schedule.task),
        cron=times.expression,
        timezone=times.tz,
        external_id=changes.get("external_id", schedule.external_id),
        window=None if window is None else check_window(window),
    )


def shown(schedule: Schedule) -> dict[str, Any]:
    """Return what an audit shows of a schedule."""
    return {name: value for name in _SHOWN if (value := getattr(schedule, name)) is not None}


def as_made(values: Mapping[str, Any], now: datetime) -> Schedule:
    """Return the schedule that values would become, for a look at its ticks."""
    rest = {
        "active": True,
        "owner": LOCAL,
        "last_at": None,
        "created_at": now,
        "updated_at": now,
        "problem": None,
    }
    remote = dict.fromkeys(("remote_schedule_id", "handover_state", "handover_to", "handover_cut"))
    return Schedule(**values, **rest, **remote)
