"""Debouncing: calls under one key put one job off, until no more come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

from adapter.domain.errors import InvalidArgumentError

_LONGEST_KEY = 512
_LONGEST_READABLE = 100
_SHORTEST = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Debounce:
    """The job starts ``delay`` after the last call of its task and ``key``.

    ``trailing``: with the payload, metadata, tags, attempts and duration of the last call, else with the first
    one's. ``longest``: a call that would put it off beyond this time after the first one makes a new job.

    Raises:
        InvalidArgumentError: a key that is empty or too long, a delay below a second, or one that ``longest`` does not exceed.
    """

    key: str
    delay: timedelta
    trailing: bool = False
    longest: timedelta | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.key) <= _LONGEST_KEY:
            msg = f"The key of a debounce has 1 to {_LONGEST_KEY} characters."
            raise InvalidArgumentError(msg)
        if self.delay < _SHORTEST:
            msg = "The delay of a debounce is a second at least."
            raise InvalidArgumentError(msg)
        if self.longest is not None and self.longest <= self.delay:
            msg = "The longest wait of a debounce must exceed its delay."
            raise InvalidArgumentError(msg)

    @property
    def tag(self) -> str:
        """The tag that the job holds until it starts: readable where it is short enough."""
        key = self.key if len(self.key) <= _LONGEST_READABLE else sha256(self.key.encode()).hexdigest()
        return f"debounce:{key}"
