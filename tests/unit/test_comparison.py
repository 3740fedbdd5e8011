"""What counts as equal, where a difference is said to be, and which rules hold on which day."""

from datetime import date
from typing import Any

import pytest

from adapter.domain.comparison import MOST_PATHS, Compared, Comparison, Ignore, Outcome, compare, digest
from adapter.domain.errors import TaskDefinitionError

TODAY = date(2026, 11, 27)


def done(result: Any) -> Outcome:
    return Outcome("COMPLETED", None, result)


def compared(first: Any, second: Any, **rules: Any) -> Compared:
    return compare(done(first), done(second), Comparison(**rules), TODAY)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": 1, "b": [None, "x"]}, {"b": [None, "x"], "a": 1}),
        (1, 1.0),
        ([0], [-0.0]),
        ({}, {}),
    ],
)
def test_json_that_says_the_same_is_equal_and_has_one_hash(first: Any, second: Any) -> None:
    found = compared(first, second)
    assert found.paths == []
    assert (
        found.hashes[0] == found.hashes[1] == digest({"status": "COMPLETED", "error": None, "result": first})
    )


@pytest.mark.parametrize(
    ("first", "second", "paths"),
    [
        (1, True, ["/result"]),
        (1, "1", ["/result"]),
        (None, {}, ["/result"]),
        ([], {}, ["/result"]),
        ([1, 2], [1], ["/result/1"]),
        ({"a": {"b": 1}}, {"a": {"c": 1}}, ["/result/a/b", "/result/a/c"]),
        ({"a/b": 1, "~": 1}, {"a/b": 2, "~": 2}, ["/result/a~1b", "/result/~0"]),
    ],
)
def test_a_difference_has_a_place(first: Any, second: Any, paths: list[str]) -> None:
    found = compared(first, second)
    assert found.paths == paths
    assert found.hashes[0] != found.hashes[1]


def test_so_many_places_are_kept_and_none_is_long() -> None:
    found = compared({str(n) * 300: n for n in range(9)} | {f"k{n}": n for n in range(100)}, {})
    assert len(found.paths) == MOST_PATHS
    assert max(map(len, found.paths)) == 200


@pytest.mark.parametrize(
    ("pointer", "first", "second"),
    [
        ("/at", {"at": 1, "a": 1}, {"at": 2, "a": 1}),
        ("/at", {"at": 1}, {}),
        ("/rows/*/id", {"rows": [{"id": 1, "v": 1}, {"id": 2}]}, {"rows": [{"id": 3, "v": 1}, {}]}),
        ("/rows/1", {"rows": [1, 2]}, {"rows": [1, 3]}),
        ("/*/at", {"a": {"at": 1}}, {"a": {"at": 2}}),
        ("/a~1b", {"a/b": 1}, {"a/b": 2}),
    ],
)
def test_what_is_ignored_may_differ(pointer: str, first: Any, second: Any) -> None:
    assert compared(first, second, ignore=[pointer]).paths == []
    assert compared(first, second).paths != []


def test_a_list_that_is_longer_differs_though_its_items_are_ignored() -> None:
    assert compared([1], [1, 2], ignore=["/*"]).paths == ["/result/1"]


def test_a_rule_ends_on_its_day_and_is_told() -> None:
    rules = Comparison(ignore=[Ignore("/a", until=TODAY), Ignore("/b", until=date(2026, 11, 28)), "/c"])
    found = compare(done({"a": 1, "b": 1, "c": 1}), done({"a": 2, "b": 2, "c": 2}), rules, TODAY)
    assert found.paths == ["/result/a"]
    assert [str(each) for each in rules.expired(TODAY)] == ["/a (until 2026-11-27)"]


def test_numbers_may_be_near() -> None:
    assert compared({"x": 100.0}, {"x": 101}, tolerance=0.01).paths == []
    assert compared({"x": 100.0}, {"x": 102}, tolerance=0.01).paths == ["/result/x"]
    assert compared({"x": 1}, {"x": True}, tolerance=0.01).paths == ["/result/x"]


def test_ends_and_errors_are_compared() -> None:
    value, kind = Outcome("FAILED", "ValueError", None), Outcome("FAILED", "TypeError", None)
    assert compare(value, kind, Comparison(), TODAY).paths == ["/error"]
    assert compare(value, kind, Comparison(errors=False), TODAY).paths == []
    assert compare(value, done(None), Comparison(errors=False), TODAY).paths == ["/status"]


def test_a_function_of_ones_own_decides_only_between_two_results() -> None:
    rules = Comparison(equal=lambda _first, _second: True)
    assert compare(done(1), done(2), rules, TODAY).paths == []
    assert compare(done(1), Outcome("FAILED", "E", None), rules, TODAY).paths == [
        "/error",
        "/result",
        "/status",
    ]


@pytest.mark.parametrize(
    "rules", [{"ignore": ["at"]}, {"ignore": "/at"}, {"tolerance": 1}, {"tolerance": -0.1}]
)
def test_rules_that_cannot_be_meant_are_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(TaskDefinitionError):
        Comparison(**rules)
