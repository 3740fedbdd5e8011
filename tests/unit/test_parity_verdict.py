"""When a verdict passes, fails, or says nothing yet."""

from typing import Any

import pytest

from adapter.domain.errors import InvalidArgumentError, TaskDefinitionError
from adapter.domain.parity import (
    ExecutorFigures,
    ParityTerms,
    ParityVerdict,
    Price,
    ShadowFigures,
    judge,
    reference_of,
    worst,
)

PASS, FAIL, OPEN = ParityVerdict.PASS, ParityVerdict.FAIL, ParityVerdict.INCONCLUSIVE
TERMS = ParityTerms()


def ran(succeeded: int, jobs: int, executor: str = "local") -> ExecutorFigures:
    return ExecutorFigures(executor=executor, jobs=jobs, succeeded=succeeded, statuses={}, errors={})


def copies(**counts: Any) -> ShadowFigures:
    return ShadowFigures(executor="local", **counts)


def verdict_on(
    jobs: ExecutorFigures | None = None,
    reference: ExecutorFigures | None = None,
    shadows: ShadowFigures | None = None,
) -> ParityVerdict:
    return judge("local", jobs, reference, shadows, TERMS).verdict


@pytest.mark.parametrize(
    ("here", "there", "verdict"),
    [
        # Two hundred of each without a failure are just enough; one less of either is not.
        ((200, 200), (200, 200), PASS),
        ((199, 199), (1000, 1000), OPEN),
        ((1000, 1000), (199, 199), OPEN),
        ((198, 200), (200, 200), OPEN),
        # Better is never worse.
        ((1000, 1000), (800, 1000), PASS),
        # Surely more than two points worse, and not surely so.
        ((900, 1000), (1000, 1000), FAIL),
        ((970, 1000), (1000, 1000), FAIL),
        ((975, 1000), (1000, 1000), OPEN),
        ((9700, 10_000), (9900, 10_000), OPEN),
        ((9850, 10_000), (9900, 10_000), PASS),
        ((9600, 10_000), (9900, 10_000), FAIL),
    ],
)
def test_jobs_of_both_are_held_against_each_other(
    here: tuple[int, int], there: tuple[int, int], verdict: ParityVerdict
) -> None:
    assert verdict_on(ran(*here), ran(*there, "trigger")) is verdict


@pytest.mark.parametrize(
    ("equal", "different", "verdict"),
    [(200, 0, PASS), (199, 0, OPEN), (0, 199, OPEN), (199, 1, OPEN), (190, 10, FAIL), (9900, 100, PASS)],
)
def test_copies_that_differ_count_like_failures(equal: int, different: int, verdict: ParityVerdict) -> None:
    assert verdict_on(shadows=copies(equal=equal, different=different)) is verdict


def test_that_copies_are_taken_can_fail_and_proves_nothing_by_itself() -> None:
    assert verdict_on(shadows=copies(taken=1000)) is OPEN
    assert verdict_on(shadows=copies(taken=900, refused=100)) is FAIL
    assert verdict_on(shadows=copies(taken=1000, equal=300)) is PASS
    assert verdict_on(shadows=copies(void=1000, open=5, dropped=7)) is OPEN


def test_one_kind_of_evidence_that_fails_is_enough_and_too_little_of_one_decides_nothing() -> None:
    well = ran(1000, 1000), ran(1000, 1000, "trigger")
    assert verdict_on(*well, copies(equal=10, different=3)) is PASS
    assert verdict_on(*well, copies(equal=900, different=100)) is FAIL
    assert verdict_on(*well, copies(equal=199, different=1)) is OPEN
    assert verdict_on() is OPEN


def test_reasons_say_what_was_weighed_and_what_there_was_too_little_of() -> None:
    found = judge("local", ran(3, 3), ran(500, 500, "trigger"), copies(equal=200), TERMS)
    assert found.reasons == [
        "too few jobs: 3 here, 500 at the reference, of 200",
        "pass: 0 of 200 copies came to something else, between 0.00% and 1.88%; up to 2.00% is well",
    ]


def test_a_report_is_as_good_as_its_worst_part() -> None:
    assert [worst(each) for each in ([PASS], [PASS, OPEN], [OPEN, FAIL], [])] == [PASS, OPEN, FAIL, OPEN]


def test_the_busiest_is_the_reference_where_there_are_two() -> None:
    assert reference_of([ran(1, 9), ran(1, 10, "trigger")], []) == "trigger"
    assert reference_of([ran(1, 9)], []) is None
    assert reference_of([ran(1, 9, "trigger")], [copies()]) == "trigger"
    assert reference_of([], [copies()]) is None


@pytest.mark.parametrize("terms", [{"margin": 0}, {"margin": 1}, {"at_least": 0}])
def test_terms_that_cannot_be_meant_are_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        ParityTerms(**terms)


def test_what_jobs_cost() -> None:
    assert Price(per_run=0.5, per_second=0.25).of(10, 8) == 7.0
    for wrong in (-1, float("nan")):
        with pytest.raises(TaskDefinitionError):
            Price(per_second=wrong)
