"""What is to be reached, in numbers and in ratios of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bench.contenders import GRAPHILE_WORKER, OURS, PEERS, PG_BOSS, PGQUEUER, PROCRASTINATE
from bench.samples import Line

_ALL = tuple(each.name for each in PEERS)


@dataclass(frozen=True, slots=True)
class Goal:
    """``least`` or ``most`` is for how many times as good as ``peers`` we are; or for the ratio to the measure
    ``of``; or, without either, for the number itself. Measures are named by patterns.
    """

    says: str
    measure: str
    least: float | None = None
    most: float | None = None
    peers: tuple[str, ...] = ()
    of: str | None = None


_DRAIN, _LAG = "drain no-ops, one worker process", "from call to handler at 50/s, "
_ONE, _TEN = "schedule one by one, 1 connection", "schedule one by one, 10 connections"
_LIMITED = "drain no-ops, global limit *"
_STRESSES = (
    "drain with * finished jobs kept",
    "drain with * jobs waiting",
    "drain while an old snapshot is held",
)

GOALS: tuple[Goal, ...] = (
    Goal("drain ≥ 1.2 times pg-boss and graphile-worker", _DRAIN, 1.2, peers=(PG_BOSS.name, GRAPHILE_WORKER.name)),
    Goal("drain ≥ 2.5 times the best Python peer", _DRAIN, 2.5, peers=(PGQUEUER.name, PROCRASTINATE.name)),
    *(Goal(f"{each}: ≥ the best peer", each, 1.0, peers=_ALL) for each in (_ONE, _TEN)),
    Goal(f"{_ONE}: ≥ 85 % of the same row's bare INSERT", _ONE, 0.85, of="INSERT and commit, our row, 1 *"),
    Goal(f"{_TEN}: ≥ 85 % of the same row's bare INSERT", _TEN, 0.85, of="INSERT and commit, our row, 10 *"),
    Goal("bulk schedule ≥ 1.5 times the best peer", "schedule, 1000 per call", 1.5, peers=_ALL),
    Goal("pick-up p50 ≤ 3 ms", f"{_LAG}p50", most=3.0),
    Goal("pick-up p99 ≤ 6 ms", f"{_LAG}p99", most=6.0),
    *(Goal(f"pick-up {each}: no peer better", f"{_LAG}{each}", 1.0, peers=_ALL) for each in ("p50", "p99")),
    *(Goal(f"{each}: ≥ 90 % of the plain rate", each, 0.9, of=_DRAIN) for each in _STRESSES),
    *(Goal(f"{each}: no peer better", each, 1.0, peers=_ALL) for each in _STRESSES),
    Goal("global limit of 100: ≥ 30 % of the unlimited rate", _LIMITED, 0.3, of="drain no-ops, no limit, *"),
    Goal("global limit of 100: no-ops at once", f"{_LIMITED}: most at once", most=100),
    Goal("global limit of 100: handlers of 5 ms at once", "drain handlers of *, global limit *: most at once", most=100),
    Goal("… and without it more, or the proof is void", "drain handlers of *, no limit, *: most at once", 101),
    Goal("two worker processes ≥ 1.5 times one", "drain no-ops, two worker processes", 1.5, of=_DRAIN),
    Goal("memory of a worker ≤ 100 MB", "memory of a worker, *: most", most=100),
    Goal("… and flat: a drift ≤ 2 MB", "memory of a worker, *: drift *", most=2),
)  # fmt: skip


def verdict(goal: Goal, lines: Sequence[Line]) -> tuple[float | None, bool | None]:
    """What was measured and whether it is enough; None when it was not measured."""
    for line in lines:
        if line["who"] != OURS or not _means(goal.measure, line["measure"]):
            continue
        value = _measured(goal, line)
        if value is None:
            return None, None
        enough = (goal.least is None or value >= goal.least) and (goal.most is None or value <= goal.most)
        return value, enough
    return None, None


def _means(pattern: str, measure: str) -> bool:
    # A pattern ends where the measure's name does: that of "most at once" is another measure.
    return fnmatchcase(measure, pattern) and pattern.count(":") == measure.count(":")


def _measured(goal: Goal, line: Line) -> float | None:
    if goal.peers:
        return min((line["peers"][name] for name in goal.peers if name in line["peers"]), default=None)
    if goal.of is not None:
        found = [value for name, value in line["ratios"].items() if fnmatchcase(name, goal.of)]
        return found[0] if found else None
    return line["median"]
