"""A shadow: a copy of a job that has ended, on another executor. It is looked at, and counts for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from adapter.domain.errors import InvalidArgumentError

#: Where a copy's ``extra`` names its job, and where its mode.
SHADOW_OF: Final = "shadow_of"
SHADOW_MODE: Final = "shadow"
#: What other executors call the task that takes a copy and does nothing.
ACKNOWLEDGE: Final = "adapter-shadow"
#: So many copies of one task may be open at one executor.
MOST_OPEN: Final = 1000
#: The queue of copies that run here.
SHADOW_QUEUE: Final = "shadows"


class ShadowMode(StrEnum):
    """What becomes of a copy."""

    #: It goes the whole way, and no handler of the task is called.
    ENQUEUE = "enqueue"
    #: The handler runs, and the outcomes are compared.
    EXECUTE = "execute"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowTerms:
    """What a shadow is to be. ``percent``: of the jobs that ended. ``most_open``: copies at once; more are dropped."""

    mode: ShadowMode
    percent: float = 100.0
    most_open: int = 10

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100 or abs(self.percent * 1000 - round(self.percent * 1000)) > 1e-6:
            msg = "percent must be from 0 to 100, in steps of 0.001."
            raise InvalidArgumentError(msg)
        if not 1 <= self.most_open <= MOST_OPEN:
            msg = f"most_open must be from 1 to {MOST_OPEN}."
            raise InvalidArgumentError(msg)


def is_shadow(extra: Mapping[str, Any]) -> bool:
    """Whether these are the extras of a copy."""
    return SHADOW_OF in extra


def is_only_taken(extra: Mapping[str, Any]) -> bool:
    """Whether these are the extras of a copy that is taken and not worked."""
    return SHADOW_OF in extra and extra.get(SHADOW_MODE) != ShadowMode.EXECUTE
