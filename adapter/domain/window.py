"""Windows of schedules: how far behind its time a tick may be, always as far for one schedule, as at Trigger.dev."""

from __future__ import annotations

import re
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from adapter.domain.errors import InvalidArgumentError

if TYPE_CHECKING:
    from uuid import UUID

_WINDOW = re.compile(r"(0|[1-9]\d{0,5})([mh%])")
_LONGEST = timedelta(hours=24)
_WHOLE = 100


def check_window(text: str) -> str:
    """Return a window that can be read: ``30m``, ``2h`` (up to 24 h), or ``50%`` of the time to the next tick.

    Raises:
        InvalidArgumentError: it is none of these.
    """
    found = _WINDOW.fullmatch(text)
    if found is None:
        msg = f"{text!r} is no window: whole minutes or hours (30m, 2h), or a percentage (30%)."
        raise InvalidArgumentError(msg)
    if (found[2] == "%" and int(found[1]) > _WHOLE) or (found[2] != "%" and _length(found) > _LONGEST):
        msg = f"{text!r} is too long a window: 24h or 100% is the longest."
        raise InvalidArgumentError(msg)
    return text


def offset_in(window: str, schedule_id: UUID, interval: timedelta) -> timedelta:
    """Return how long after its nominal time a tick is due, in whole seconds.

    ``interval``: from this tick to the next, which bounds the window. The place within the window follows
    from the id alone: schedules of one expression spread over it, and each of them keeps its distance.
    """
    found = _WINDOW.fullmatch(window)
    assert found is not None
    width = interval * int(found[1]) / _WHOLE if found[2] == "%" else min(_length(found), interval)
    place = int.from_bytes(sha256(schedule_id.bytes).digest()[:8]) / 2**64
    return timedelta(seconds=int(width.total_seconds() * place))


def _length(found: re.Match[str]) -> timedelta:
    return timedelta(minutes=int(found[1])) if found[2] == "m" else timedelta(hours=int(found[1]))
