"""Numbers of rounds, and what they come to: medians, ranges, and ratios taken within the same round."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from bench.contenders import OURS, RAW
from bench.meter import Costs


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of one round.

    ``of`` names measures it is compared with in the same round: who has them too, else `RAW`, else we.
    ``better`` None: it is not a contest, and no best peer is looked for.
    """

    measure: str
    value: float
    unit: str
    who: str = OURS
    better: Literal["more", "less"] | None = "more"
    of: tuple[str, ...] = ()
    costs: Costs = field(default_factory=Costs)


class Line(TypedDict):
    """One contender in one measure, over all rounds. ``ratios``: to the measures of `Sample.of`.

    ``peers``: how many times as good as each peer of the same round, for our own lines; ``best_peer``: as the
    best of them.
    """

    measure: str
    who: str
    unit: str
    median: float
    low: float
    high: float
    rounds: int
    best_peer: float | None
    peers: dict[str, float]
    ratios: dict[str, float]
    costs: dict[str, float]


def against_peers(ours: Sample, others: Iterable[Sample]) -> dict[str, float]:
    """How many times as good as each of the others ours is; above 1 is better whatever the unit."""
    if ours.who != OURS or ours.better is None:
        return {}
    return {
        each.who: ours.value / each.value if ours.better == "more" else each.value / ours.value
        for each in others
        if each.measure == ours.measure and each.who not in (OURS, RAW)
    }


def _ratios(sample: Sample, known: dict[tuple[str, str], float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for measure in sample.of:
        for who in (sample.who, RAW, OURS):
            if (measure, who) in known:
                found[measure] = sample.value / known[measure, who]
                break
    return found


def summary(rounds: Sequence[Sequence[Sample]]) -> list[Line]:
    """What all rounds come to, in the order of the measures."""
    samples: dict[tuple[str, str], list[Sample]] = {}
    ratios: dict[tuple[str, str], list[dict[str, float]]] = {}
    contests: dict[tuple[str, str], list[dict[str, float]]] = {}
    for found in rounds:
        known = {(each.measure, each.who): each.value for each in found}
        for each in found:
            key = each.measure, each.who
            samples.setdefault(key, []).append(each)
            ratios.setdefault(key, []).append(_ratios(each, known))
            if beaten := against_peers(each, found):
                contests.setdefault(key, []).append(beaten)
    return [
        Line(
            measure=key[0],
            who=key[1],
            unit=found[0].unit,
            median=statistics.median(each.value for each in found),
            low=min(each.value for each in found),
            high=max(each.value for each in found),
            rounds=len(found),
            best_peer=statistics.median(min(each.values()) for each in contests[key])
            if key in contests
            else None,
            peers=medians(contests.get(key, [])),
            ratios=medians(ratios[key]),
            costs=medians([{**each.costs} for each in found]),
        )
        for key, found in samples.items()
    ]


def medians(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each name over those that have it."""
    names = dict.fromkeys(name for each in found for name in each)
    return {name: statistics.median(each[name] for each in found if name in each) for name in names}


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
