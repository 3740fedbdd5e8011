"""The rule by which an executor is left: Wilson's bound, and what it does over many runs."""

import random
import statistics
from collections import deque
from itertools import pairwise

import pytest

from adapter.domain.failback import LEAST, WINDOW, over_budget, wilson_lower


@pytest.mark.parametrize(
    ("failures", "outcomes", "z", "lower"),
    [
        # The worked values of R's prop.test(correct=FALSE) and of the binom package's "wilson".
        (0, 10, 1.959964, 0.0),
        (1, 10, 1.959964, 0.01787),
        (5, 10, 1.959964, 0.23659),
        (10, 10, 1.959964, 0.72247),
        (15, 148, 1.959964, 0.06238),
    ],
)
def test_the_bound_is_wilsons(failures: int, outcomes: int, z: float, lower: float) -> None:
    assert wilson_lower(failures, outcomes, z) == pytest.approx(lower, abs=5e-5)


def test_the_bound_rises_with_failures_and_is_nothing_without_outcomes() -> None:
    assert wilson_lower(0, 0) == 0.0
    assert all(wilson_lower(a, 50) < wilson_lower(b, 50) for a, b in pairwise(range(51)))
    assert not over_budget(LEAST - 1, LEAST - 1)
    assert over_budget(LEAST, LEAST)


#: How many failures among so many outcomes are too many.
TOO_MANY = [
    next((failures for failures in range(outcomes + 1) if over_budget(failures, outcomes)), outcomes + 1)
    for outcomes in range(WINDOW + 1)
]


def outcomes_until_left(share: float, most: int, seed: int) -> int | None:
    """How many runs an executor that fails this often gets, None: all of them."""
    chance, window, failures = random.Random(seed), deque[bool](), 0
    for place in range(1, most + 1):
        failed = chance.random() < share
        window.append(failed)
        failures += failed
        if place > WINDOW:
            failures -= window.popleft()
        if failures >= TOO_MANY[min(place, WINDOW)]:
            return place
    return None


def test_the_executor_that_is_well_is_kept_and_one_that_is_not_is_left_soon() -> None:
    """The budget is 2 %: what was found when the rule was chosen, found again."""
    well = [outcomes_until_left(0.01, 20_000, seed) for seed in range(100)]
    assert sum(each is not None for each in well) / len(well) <= 0.05
    found: dict[float, float] = {}
    for share in (0.05, 0.10, 0.50):
        runs = [outcomes_until_left(share, 20_000, seed) for seed in range(400)]
        left = [each for each in runs if each is not None]
        assert len(left) == len(runs)
        found[share] = statistics.median(left)
    assert 60 <= found[0.05] <= 140
    assert 12 <= found[0.10] <= 35
    assert 10 <= found[0.50] <= 12
