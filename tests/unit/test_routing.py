"""Where a job goes: the percentage contract, the order of the rules, and that nothing can upset it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.domain.errors import InvalidArgumentError
from adapter.domain.routing import (
    Flags,
    Request,
    Rollout,
    Route,
    bucket,
    check_unit,
    decide,
    environment_spelling,
    explain,
    threshold,
)
from adapter.domain.task import TaskPolicy

JOB = "01890a5d-ac96-774b-bcce-b302099a8057"
TASK = TaskPolicy(id="t", runs_locally=True, remote_ids={"trigger": "t"})

percents = st.integers(0, 100_000).map(lambda thousandths: thousandths / 1000)
units = st.text(max_size=30)


@pytest.mark.parametrize(
    ("salt", "unit", "place"),
    [
        ("s1", "dataset-1", 52_025),
        ("s1", "dataset-2", 60_184),
        ("s2", "dataset-1", 36_099),
        ("", "", 90_496),
        ("Salz", "Größe", 34_054),
    ],
)
def test_buckets_are_pinned(salt: str, unit: str, place: int) -> None:
    assert bucket(salt, unit) == place


@given(salt=units, unit=units)
def test_every_unit_has_one_bucket_in_range(salt: str, unit: str) -> None:
    assert 0 <= bucket(salt, unit) < 100_000
    assert bucket(salt, unit) == bucket(salt, unit)


def rolled(percent: float, tag: str, salt: str = "s") -> bool:
    rollout = Rollout(task="t", executor="trigger", percent=percent, salt=salt)
    return decide(TASK, Request(job_id=JOB, tag=tag), Flags(rollouts=(rollout,))).executor == "trigger"


@given(lower=percents, higher=percents, tag=units, salt=units)
def test_raising_only_adds(lower: float, higher: float, tag: str, salt: str) -> None:
    lower, higher = sorted((lower, higher))
    assert rolled(higher, tag, salt) or not rolled(lower, tag, salt)


@given(lower=percents, higher=percents, tags=st.sets(units, max_size=30))
def test_lowering_removes_what_was_added_last(lower: float, higher: float, tags: set[str]) -> None:
    lower, higher = sorted((lower, higher))
    stay = {bucket("s", tag) for tag in tags if rolled(lower, tag)}
    leave = {bucket("s", tag) for tag in tags if rolled(higher, tag)} - stay
    assert not stay or not leave or max(stay) < min(leave)


@given(tag=units, salt=units)
def test_none_is_nobody_and_all_is_everybody(tag: str, salt: str) -> None:
    assert not rolled(0, tag, salt)
    assert rolled(100, tag, salt)


@pytest.mark.parametrize(("percent", "count"), [(0.001, 1), (0.1, 100), (33.333, 33_333), (99.999, 99_999)])
def test_steps_are_thousandths_of_a_percent(percent: float, count: int) -> None:
    assert threshold(percent) == count


def test_a_quarter_is_about_a_quarter() -> None:
    assert 2350 <= sum(rolled(25, f"tag-{number}") for number in range(10_000)) <= 2650


@pytest.mark.parametrize(
    ("task", "spelled"),
    [
        ("process-large-dataset", "PROCESS_LARGE_DATASET"),
        ("processLargeDataset", "PROCESS_LARGE_DATASET"),
        ("process_large.dataset", "PROCESS_LARGE_DATASET"),
        ("parseHTMLPage", "PARSE_HTML_PAGE"),
        ("ns/task v2", "NS_TASK_V2"),
        ("step2Run", "STEP2_RUN"),
        ("--a--", "A"),
    ],
)
def test_a_task_in_the_environment(task: str, spelled: str) -> None:
    assert environment_spelling(task) == spelled


ROLLOUT = Rollout(task="t", executor="trigger", percent=100, salt="s")


@pytest.mark.parametrize(
    ("flags", "over", "expected"),
    [
        ({}, {}, Route("local", "default")),
        ({"rollouts": (ROLLOUT,)}, {"executor": "local"}, Route("local", "call")),
        (
            {"kill_environment": {"t": "local"}, "kill_runtime": {"t": "trigger"}},
            {"executor": "trigger"},
            Route("local", "kill switch: environment, this task"),
        ),
        (
            {"kill_file": {"*": "local"}, "rollouts": (ROLLOUT,)},
            {},
            Route("local", "kill switch: file, all tasks"),
        ),
        (
            {"kill_runtime": {"*": "local", "t": "trigger"}},
            {},
            Route("trigger", "kill switch: runtime, this task"),
        ),
        (
            {"open_circuits": frozenset({("t", "trigger")})},
            {"executor": "trigger"},
            Route("trigger", "call; circuit open", blocked=True),
        ),
        (
            {"open_circuits": frozenset({("*", "trigger")})},
            {"executor": "trigger", "strict": True},
            Route("trigger", "call"),
        ),
    ],
)
def test_the_highest_rule_wins(flags: dict[str, Any], over: dict[str, Any], expected: Route) -> None:
    assert decide(TASK, Request(job_id=JOB, **over), Flags(**flags)) == expected


def test_lists_come_before_the_percentage() -> None:
    def route(tag: str, **over: Any) -> str:
        given: dict[str, Any] = {"task": "t", "executor": "trigger", "percent": 50, "salt": "s", **over}
        rollout = Rollout(**given)
        return decide(TASK, Request(job_id=JOB, tag=tag), Flags(rollouts=(rollout,))).executor

    assert route("vip", percent=0, allow=frozenset({"vip"})) == "trigger"
    assert route("vip", percent=100, deny=frozenset({"vip"})) == "local"
    assert route("vip", percent=100, allow=frozenset({"vip"}), deny=frozenset({"vip"})) == "local"


class Hostile:
    """A value that fails at whatever is asked of it."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __str__(self) -> str:
        raise RuntimeError("no text")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.builds(Hostile),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    data=values,
    context=st.dictionaries(st.sampled_from(["plan", "a", "a.b"]), values),
    hash_by=st.sampled_from(["tag", "user_id", "data", "data.a.b", "context.plan", "context.", "?", ""]),
    when=st.dictionaries(st.sampled_from(["plan", "a"]), values, max_size=1),
    percent=percents | st.floats(),
)
def test_deciding_never_raises(
    data: Any, context: dict[str, Any], hash_by: str, when: dict[str, Any], percent: float
) -> None:
    rollout = Rollout(task="*", executor="trigger", percent=percent, salt="s", hash_by=hash_by, when=when)
    request = Request(job_id=JOB, data=data, context=context)
    flags = Flags(rollouts=(rollout,))
    route = decide(TASK, request, flags)
    assert route.executor in {"local", "trigger"}
    assert route.reason
    assert explain(TASK, request, flags)[0] == route


def test_a_fault_goes_to_the_safe_executor_and_says_so() -> None:
    rollout = Rollout(task="t", executor="trigger", percent=50, salt="s", hash_by="context.plan")
    request = Request(job_id=JOB, context={"plan": Hostile()})
    route, steps = explain(TASK, request, Flags(rollouts=(rollout,)))
    assert route == Route("local", "error: RuntimeError")
    assert (steps[-1].rule, steps[-1].decided) == ("error", "local")
    remote = TaskPolicy(id="t", remote_ids={"trigger": "t"}, executor="trigger")
    assert decide(remote, request, Flags(rollouts=(rollout,))).executor == "trigger"
    safe = TaskPolicy(id="t", runs_locally=True, remote_ids={"trigger": "t"}, safe_executor="trigger")
    assert decide(safe, request, Flags(rollouts=(rollout,))).executor == "trigger"


@pytest.mark.parametrize(
    ("when", "context", "matches"),
    [
        ({"plan": "pro"}, {"plan": "pro"}, True),
        ({"plan": "pro"}, {"plan": "free"}, False),
        ({"plan": "pro"}, {}, False),
        ({"plan": ["pro", "team"]}, {"plan": "team"}, True),
        ({"plan": ["pro", "team"]}, {"plan": "free"}, False),
        ({"plan": []}, {"plan": "pro"}, False),
        ({"plan": "pro", "region": ["eu"]}, {"plan": "pro", "region": "us"}, False),
        ({"plan": "pro", "region": ["eu"]}, {"plan": "pro", "region": "eu"}, True),
        ({"beta": True}, {"beta": 1}, False),
        ({"beta": True}, {"beta": True}, True),
        ({"plan": None}, {}, False),
        ({"plan": None}, {"plan": None}, True),
    ],
)
def test_conditions_are_equal_or_one_of(when: dict[str, Any], context: dict[str, Any], matches: bool) -> None:
    rollout = Rollout(task="t", executor="trigger", percent=100, salt="s", when=when)
    route = decide(TASK, Request(job_id=JOB, context=context), Flags(rollouts=(rollout,)))
    assert (route.executor == "trigger") is matches


@pytest.mark.parametrize("unit", ["tag", "user_id", "data.a", "data.a.b", "context.plan"])
def test_a_unit_is_named(unit: str) -> None:
    check_unit(unit)


@pytest.mark.parametrize("unit", ["", "plan", "data", "data.", "context", "tags", "data..a", "user_id.x"])
def test_what_names_no_unit_is_refused(unit: str) -> None:
    with pytest.raises(InvalidArgumentError, match="names no unit"):
        check_unit(unit)
