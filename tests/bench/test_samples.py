"""The arithmetic behind the tables: medians, ranges, and ratios that are taken within a round."""

import pytest

from bench.contenders import OURS, RAW
from bench.goals import Goal, verdict
from bench.meter import Costs
from bench.report import Outcome, markdown
from bench.samples import Line, Sample, quantile, summary


def one_line(rounds: list[list[Sample]], measure: str, who: str = OURS) -> Line:
    (line,) = [each for each in summary(rounds) if (each["measure"], each["who"]) == (measure, who)]
    return line


def rate(value: float, who: str = OURS, measure: str = "drain", of: tuple[str, ...] = ()) -> Sample:
    return Sample(measure, value, "jobs/s", who, of=of)


def lag(value: float, who: str = OURS) -> Sample:
    return Sample("lag", value, "ms", who, "less")


def test_the_median_and_the_range_of_all_rounds() -> None:
    line = one_line([[rate(30)], [rate(10)], [rate(200)]], "drain")
    assert (line["median"], line["low"], line["high"], line["rounds"]) == (30, 10, 200, 3)


def test_a_ratio_is_taken_within_each_round_and_then_the_median() -> None:
    rounds = [
        [rate(10), rate(10, RAW, "limit")],
        [rate(60), rate(100, RAW, "limit")],
        [rate(400), rate(500, RAW, "limit")],
    ]
    rounds = [[Sample("drain", a.value, "", of=("limit",)), b] for a, b in rounds]
    # Of the medians it would be 60 / 100.
    assert one_line(rounds, "drain")["ratios"] == {"limit": 0.8}


def test_a_contender_is_compared_with_its_own_measure_where_it_has_one() -> None:
    stressed = [rate(50, of=("drain",), measure="stress"), rate(30, "peer", "stress", of=("drain",))]
    rounds = [[rate(100), rate(40, "peer"), *stressed]]
    assert one_line(rounds, "stress")["ratios"] == {"drain": 0.5}
    assert one_line(rounds, "stress", "peer")["ratios"] == {"drain": 0.75}


def test_the_best_peer_is_the_best_of_each_round() -> None:
    rounds = [[rate(100), rate(50, "a"), rate(80, "b")], [rate(100), rate(200, "a"), rate(10, "b")]]
    line = one_line(rounds, "drain")
    assert line["best_peer"] == pytest.approx((100 / 80 + 100 / 200) / 2)
    assert line["peers"] == {"a": pytest.approx((2 + 0.5) / 2), "b": pytest.approx((1.25 + 10) / 2)}


def test_less_is_better_where_it_is_said() -> None:
    line = one_line([[lag(2), lag(4, "a"), lag(3, "b")]], "lag")
    assert line["peers"] == {"a": 2.0, "b": 1.5}
    assert line["best_peer"] == 1.5


def test_only_our_lines_have_peers_and_raw_limits_are_none() -> None:
    rounds = [[rate(10), rate(20, "a"), rate(999, RAW)]]
    assert one_line(rounds, "drain")["peers"] == {"a": 0.5}
    assert one_line(rounds, "drain", "a")["best_peer"] is None


def test_a_measure_of_one_round_only_is_summed_up_as_well() -> None:
    rounds = [[rate(10), rate(1, measure="once")], [rate(20)]]
    assert one_line(rounds, "once")["rounds"] == 1
    assert one_line(rounds, "drain")["median"] == 15


def test_costs_are_medians_of_those_that_are_known() -> None:
    known = Sample("drain", 1, "", costs=Costs(client_us=10, server_us=4))
    unknown = Sample("drain", 1, "", costs=Costs(client_us=30))
    assert one_line([[known], [unknown]], "drain")["costs"] == {"client_us": 20, "server_us": 4}


@pytest.mark.parametrize(("share", "value"), [(0.5, 51), (0.95, 96), (0.99, 100), (1.0, 100)])
def test_quantiles(share: float, value: float) -> None:
    assert quantile([float(each) for each in range(100, 0, -1)], share) == value


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        (Goal("", "drain", 1.2, peers=("a",)), (2.0, True)),
        (Goal("", "drain", 1.2, peers=("a", "b")), (0.5, False)),
        (Goal("", "drain", 1.2, peers=("absent",)), (None, None)),
        (Goal("", "stress *", 0.9, of="dr*"), (0.4, False)),
        (Goal("", "lag", most=3), (3, True)),
        (Goal("", "lag", most=2.9), (3, False)),
        (Goal("", "absent", most=1), (None, None)),
    ],
)
def test_goals(goal: Goal, expected: tuple[float | None, bool | None]) -> None:
    stress = rate(40, measure="stress 500", of=("drain",))
    detail = rate(90, measure="stress 500: a detail", of=("drain",))
    rounds = [[detail, rate(100), rate(50, "a"), rate(200, "b"), stress, lag(3)]]
    assert verdict(goal, summary(rounds)) == expected


def test_the_tables_show_everybody_and_say_who_was_disturbed() -> None:
    disturbed = Sample("drain", 1234.5, "jobs/s", "a", costs=Costs(foreign_cores=1.5, wal_bytes=640.4))
    outcome = Outcome(machine={"cores": "2 cores"}, summary=summary([[rate(617.25), disturbed]]))
    text = markdown(outcome)
    assert "| measure | adapter | a | raw | to the best peer | ratios in the same round |" in text
    assert "| drain (jobs/s) | 617 | 1,234 ! |  | 0.50 |  |" in text
    assert "| drain | a |  |  | 640 |  |  |  | 1.5 |" in text
