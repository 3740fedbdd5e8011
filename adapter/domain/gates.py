"""Gates: questions of which each is passed, failed, or cannot be answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a gate came to."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Gate:
    """One question with its answer, and the reason in words."""

    name: str
    verdict: Verdict
    says: str


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return what several answers come to: failed if one is, else unknown if one is."""
    found = set(verdicts)
    for verdict in (Verdict.FAILED, Verdict.UNKNOWN):
        if verdict in found:
            return verdict
    return Verdict.PASSED
