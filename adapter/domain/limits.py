"""How much of a queue may run at once and how often it may start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from adapter.domain.errors import InvalidArgumentError

#: A window is kept in hundredths, so a shorter one would be finer than a millisecond.
SHORTEST_PERIOD = timedelta(milliseconds=100)
LONGEST_PERIOD = timedelta(days=31)
#: What PostgreSQL's integer holds.
_MOST = 2_147_483_647

_COUNTS = ("concurrency_limit", "key_limit")
_RATES = ("rate", "key_rate")
#: The names of all limits a queue can have.
LIMITS = _COUNTS + _RATES


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` starts in any window of ``per``, wherever it begins.

    Raises:
        InvalidArgumentError: no start at all, or a period outside of 100 ms to 31 days.
    """

    count: int
    per: timedelta

    def __post_init__(self) -> None:
        if not 1 <= self.count <= _MOST:
            msg = f"A rate needs a count of at least 1, not {self.count}. To let nothing start, pause the queue."
            raise InvalidArgumentError(msg)
        if not SHORTEST_PERIOD <= self.per <= LONGEST_PERIOD:
            msg = f"A rate's period must be from 100 ms to 31 days, not {self.per}."
            raise InvalidArgumentError(msg)

    def wait(self, starts: Iterable[tuple[int, int]], *, now: int) -> timedelta:
        """Return how long until one more may start; nothing when it may now.

        ``starts``: (until the end of which hundredth of the period, how many), in microseconds like ``now``.
        One from the future, which a clock that was set back leaves, counts as one of now.
        """
        period = self.per // timedelta(microseconds=1)
        hundredth = max(period // 100, 1)
        newest = (now // hundredth + 1) * hundredth
        counting = sorted((min(at, newest), n) for at, n in starts if at > now - period)
        left, free_at = sum(n for _, n in counting), now
        for at, n in counting:
            if left < self.count:
                break
            left, free_at = left - n, at + period
        return timedelta(microseconds=free_at - now)

    def __str__(self) -> str:
        return f"{self.count} per {self.per.total_seconds():g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What holds for a queue; None: no such limit.

    ``concurrency_limit``: how many run at once. Each value of ``concurrency_key`` has its own copy of it,
    unless there is a ``key_limit``: then that holds per key, and ``concurrency_limit`` for the queue as a
    whole. ``rate``: starts of the whole queue; ``key_rate``: starts per key.

    Raises:
        InvalidArgumentError: a negative limit.
    """

    concurrency_limit: int | None = None
    key_limit: int | None = None
    rate: Rate | None = None
    key_rate: Rate | None = None

    def __post_init__(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= _MOST:
                msg = f"{name} must be 0 or more, not {value}."
                raise InvalidArgumentError(msg)

    def as_json(self) -> dict[str, Any]:
        """Return the limits there are, as they are stored."""
        return {name: stored(getattr(self, name)) for name in LIMITS if getattr(self, name) is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Limits:
        """Read what `as_json` wrote; a null is no limit."""
        counts = {name: value.get(name) for name in _COUNTS}
        rates = {name: _rate(value.get(name)) for name in _RATES}
        return cls(**counts, **rates)  # pyright: ignore[reportArgumentType] - each name has its own type

    def __str__(self) -> str:
        shown = {name: getattr(self, name) for name in LIMITS}
        return ", ".join(f"{name} {value}" for name, value in shown.items() if value is not None) or "none"


def stored(value: int | Rate | None) -> Any:
    """Return one limit as it is stored; None is a limit that was lifted."""
    if isinstance(value, Rate):
        return {"count": value.count, "period_us": value.per // timedelta(microseconds=1)}
    return value


def _rate(value: Mapping[str, Any] | None) -> Rate | None:
    return None if value is None else Rate(value["count"], timedelta(microseconds=value["period_us"]))
