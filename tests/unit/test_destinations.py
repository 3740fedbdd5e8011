"""Where the jobs of a task go as a whole."""

from typing import Any

import pytest

from adapter.domain.destinations import Share, destination
from adapter.domain.routing import Flags, Request, Rollout, decide
from adapter.domain.task import TaskPolicy

TASK = TaskPolicy(id="t", runs_locally=True, remote_ids={"trigger": "t", "other": "t"})


def rollout(executor: str, percent: float, **over: Any) -> Rollout:
    given: dict[str, Any] = {"task": "t", "executor": executor, "percent": percent, "salt": executor, **over}
    return Rollout(**given)


@pytest.mark.parametrize(
    ("flags", "shown", "rule"),
    [
        ({}, "local", "default"),
        ({"rollouts": (rollout("trigger", 25),)}, "trigger 25%, local 75%", "rollout by tag; else default"),
        ({"rollouts": (rollout("trigger", 100),)}, "trigger", "rollout by tag"),
        ({"rollouts": (rollout("trigger", 0),)}, "local", "default"),
        ({"rollouts": (rollout("local", 30),)}, "local", "rollout by tag; else default"),
        ({"rollouts": (rollout("nowhere", 30),)}, "local", "default"),
        (
            {"rollouts": (rollout("trigger", 0, allow=frozenset({"a"})),)},
            "trigger 0%, local 100%",
            "rollout by tag (allow); else default",
        ),
        (
            {"rollouts": (rollout("trigger", 10, task="*"),)},
            "trigger 10%, local 90%",
            "rollout by tag, all tasks; else default",
        ),
        (
            {"rollouts": (rollout("trigger", 10, task="*"), rollout("other", 50))},
            "other 50%, local 50%",
            "rollout by tag; else default",
        ),
        (
            {"rollouts": (rollout("trigger", 50),), "kill_runtime": {"*": "local"}},
            "local",
            "kill switch: runtime, all tasks",
        ),
    ],
)
def test_shares_and_their_rule(flags: dict[str, Any], shown: str, rule: str) -> None:
    found = destination(TASK, Flags(**flags))
    assert (str(found), found.rule) == (shown, rule)


def test_what_one_rollout_leaves_is_dealt_by_the_next() -> None:
    flags = Flags(rollouts=(rollout("trigger", 40), rollout("other", 50)))
    shares = destination(TASK, flags).shares
    assert shares == (Share("other", 50), Share("trigger", 20), Share("local", 30))
    jobs = 4000
    routes = [decide(TASK, Request(job_id=f"j{n}"), flags).executor for n in range(jobs)]
    for each in shares:
        assert abs(routes.count(each.executor) / jobs * 100 - each.percent) < 3


def test_a_disabled_task_goes_nowhere() -> None:
    off = TaskPolicy(id="t", runs_locally=True, enabled=False)
    assert str(destination(off, Flags())) == "nowhere"
