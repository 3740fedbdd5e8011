"""Durations as Trigger.dev writes them: ``1w2d3h4m5s`` (its API contract, 8.3)."""

from __future__ import annotations

import re
from datetime import timedelta

from adapter.domain.errors import InvalidArgumentError

_UNITS = {"w": 604800, "d": 86400, "hr": 3600, "h": 3600, "m": 60, "s": 1}
_PART = re.compile(r"(\d+)(hr|[wdhms])")
_WHOLE = re.compile(r"(?:\s*\d+(?:hr|[wdhms])\s*)+")
_LONGEST = 100


def parse_duration(text: str) -> timedelta:
    """Read ``"1h42m"`` as a timedelta.

    Raises:
        InvalidArgumentError: the text is no such duration.
    """
    if len(text) > _LONGEST or not _WHOLE.fullmatch(text):
        msg = f"{text!r} is not a duration. Write for example '90s', '10m' or '1d12h'."
        raise InvalidArgumentError(msg)
    try:
        return timedelta(seconds=sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
    except OverflowError as error:
        msg = f"{text!r} is longer than a duration can be."
        raise InvalidArgumentError(msg) from error


def format_duration(duration: timedelta) -> str:
    """Write whole seconds the way `parse_duration` reads them: 90 s is ``1m30s``."""
    left = max(int(duration.total_seconds()), 0)
    parts: list[str] = []
    for unit in ("w", "d", "h", "m", "s"):
        number, left = divmod(left, _UNITS[unit])
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"
