"""When schedules fire: cron expressions in a time zone, read as Trigger.dev reads them.

Fire times are cronsim's, but for wall times that do not exist: Trigger.dev's library fires at the shifted
time (02:30 becomes 03:30 on the day the clocks jump), cronsim at the end of the gap. We do as Trigger.dev,
so that a schedule that moves between the two keeps its times; a test pins its vectors.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from adapter.domain.errors import InvalidCronError

#: What becomes of ticks that nobody fired in time.
Missed: TypeAlias = Literal["all", "last", "skip"]

#: A tick that is later than this was missed.
LATE = timedelta(minutes=1)
#: Of missed ticks that are all to be fired, so many at once.
MOST_AT_ONCE = 100
_FIELDS = 5
#: From here every expression that can fire at all does so within cronsim's horizon.
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Cron:
    """A cron expression of five fields and an IANA zone; ``tz`` None: the one of ``JOBS_CRON_TZ``.

    Names, lists, ranges, steps, ``?``, ``L`` and ``1#2`` are read; seconds, ``W``, ``H`` and ``@daily`` are
    not, as at Trigger.dev. Day of month and day of week, both restricted, fire when either matches.

    Raises:
        InvalidCronError: it cannot be read, or would never fire; or there is no such zone.
    """

    expression: str
    tz: str | None = None

    def __post_init__(self) -> None:
        fields = self.expression.split()
        if len(fields) != _FIELDS:
            raise InvalidCronError(self.expression, f"it has {len(fields)} fields, and 5 are needed")
        if "W" in fields[2].upper():
            raise InvalidCronError(self.expression, "W is not known; Trigger.dev does not know it either")
        try:
            next(CronSim(self._sim, _SOME_DAY))
        except CronSimError as error:
            raise InvalidCronError(self.expression, str(error).lower()) from None
        except StopIteration:
            raise InvalidCronError(self.expression, "it would never fire") from None
        if self.tz is not None:
            zone(self.tz)

    @property
    def _sim(self) -> str:
        minute, hour, day, month, weekday = self.expression.split()
        return " ".join((minute, hour, day.replace("?", "*"), month, weekday.replace("?", "*")))

    @cached_property
    def _is_of_wall_times(self) -> bool:
        """Whether it names hours, which a change of the clocks may skip or repeat."""
        minute, hour, *_ = self.expression.split()
        return not minute.startswith("*") and not hour.startswith("*")

    def in_zone(self, default: str) -> Cron:
        """Return the same with a zone: its own, or else ``default``."""
        return self if self.tz is not None else Cron(self.expression, default)

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the fire times after ``moment``, in UTC, ascending."""
        local = moment.astimezone(zone(self.tz or "UTC"))
        if not self._is_of_wall_times:
            yield from (each.astimezone(UTC) for each in CronSim(self._sim, local))
            return
        last = moment
        # A time that the clocks show twice is the first one, and one they skip is as far behind the gap.
        for naive in CronSim(self._sim, local.replace(tzinfo=None) - timedelta(hours=3)):
            fire = naive.replace(tzinfo=local.tzinfo, fold=0).astimezone(UTC)
            if fire > last:
                last = fire
                yield fire

    def next_after(self, moment: datetime) -> datetime:
        """Return the first fire time after ``moment``, in UTC."""
        return next(self.after(moment))


def zone(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        InvalidCronError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidCronError(name, "there is no such IANA time zone") from None


def due(cron: Cron, next_at: datetime, now: datetime, missed: Missed) -> tuple[list[datetime], datetime]:
    """Return the ticks to fire now, of which ``next_at`` is the first that may be due, and the one to wait for.

    ``all``: every tick, `MOST_AT_ONCE` at once. ``last``: of several the latest. ``skip``: none that is late.
    """
    if next_at > now:
        return [], next_at
    times = itertools.chain([next_at], cron.after(next_at))
    if missed == "all":
        fired = list(itertools.islice(itertools.takewhile(lambda each: each <= now, times), MOST_AT_ONCE))
        return fired, cron.next_after(fired[-1])
    following = cron.next_after(now)
    # Not from the start of a long outage on: only the end of it can matter.
    latest = max((each for each in _ending(cron, next_at, now)), default=next_at)
    if missed == "skip" and now - latest > LATE:
        return [], following
    return [latest], following


def _ending(cron: Cron, since: datetime, now: datetime) -> Iterator[datetime]:
    """Yield ticks up to ``now``, among them the last one, looking back ever further until there is one."""
    back = timedelta(minutes=2)
    while now - back > since:
        found = list(itertools.takewhile(lambda each: each <= now, cron.after(now - back)))
        if found:
            yield from found
            return
        back *= 4
    yield from itertools.takewhile(lambda each: each <= now, cron.after(since))
