from types import ModuleType
from typing import Any

import psycopg
import pytest

from adapter.cli.invocation import actor
from tests.cli.commands import adapter


def flags() -> list[dict[str, Any]]:
    answer = adapter("--json", "cutover", "status")
    assert answer.code == 0, answer.err
    return answer.document["flags"]


def test_a_kill_switch_is_set_listed_and_cleared(shop: ModuleType) -> None:
    done = adapter("cutover", "kill", "*", "--to", "internal", "--reason", "INC-7")
    assert (done.code, done.out) == (0, "every new job of every task goes to local now\n")
    (flag,) = flags()
    assert (flag["kind"], flag["task"], flag["executor"]) == ("kill", "*", "local")
    assert (flag["reason"], flag["actor"]) == ("INC-7", actor())
    cleared = adapter("--json", "cutover", "unkill", "*", "--reason", "over")
    assert (cleared.document["before"]["reason"], cleared.document["after"]) == ("INC-7", None)
    assert flags() == []


def test_who_turned_a_flag_from_where_is_written_down(shop: ModuleType, database: str) -> None:
    adapter("cutover", "kill", "index", "--reason", "INC-7")
    with psycopg.connect(database) as conn:
        rows = conn.execute("SELECT actor, source, reason FROM adapter.flag_changes").fetchall()
    assert rows == [(actor(), "cli", "INC-7")]


def test_a_kill_switch_warns_of_tasks_that_cannot_go_there(shop: ModuleType) -> None:
    done = adapter("cutover", "kill", "*", "--to", "trigger", "--reason", "test")
    assert done.code == 0
    assert "send-email cannot run at trigger" in done.err


def test_a_rollout_is_set_listed_and_cleared(shop: ModuleType) -> None:
    options = ("--to", "trigger", "--percent", "25", "--by", "tag", "--allow", "vip", "--when", "plan=pro")
    done = adapter("--json", "cutover", "rollout", "index", *options, "--reason", "week 2")
    assert done.code == 0, done.err
    assert done.document["after"]["percent"] == 25
    (flag,) = flags()
    assert (flag["percent"], flag["hash_by"]) == (25, "tag")
    assert flag["detail"] == {"allow": ["vip"], "when": {"plan": "pro"}}
    table = adapter("cutover", "status").out
    assert "trigger 25%, local 75%" in table
    assert "rollout by tag (allow, when); else default" in table
    said = adapter("cutover", "status").err
    assert "Can we still go back to local? NO for index: no worker is alive" in said
    (way,) = adapter("--json", "cutover", "status").document["ways_back"]
    assert (way["task"], way["executor"], way["verdict"]) == ("index", "local", "failed")
    assert adapter("cutover", "withdraw", "index", "--reason", "done").code == 0
    assert flags() == []


def test_a_switch_of_the_environment_is_listed(shop: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTER_EXECUTOR", "local")
    monkeypatch.delenv("ADAPTER_APP")
    found = adapter("--json", "cutover", "status").document
    assert found["switches"] == [{"source": "environment", "task": "*", "executor": "local"}]
    assert adapter("cutover", "status").out.splitlines()[1].split()[:5] == [
        "*",
        "local",
        "kill",
        "switch:",
        "environment",
    ]


def test_without_flags_the_list_says_so(database: str) -> None:
    answer = adapter("cutover", "status")
    assert (answer.code, answer.out) == (0, "")
    assert "nothing is switched" in answer.err


@pytest.mark.parametrize("verb", ["unkill", "withdraw", "resume"])
def test_a_flag_that_is_not_there_cannot_be_cleared(database: str, verb: str) -> None:
    answer = adapter("cutover", verb, "index", "--reason", "x")
    assert (answer.code, "[flag_not_found]" in answer.err) == (6, True)


def test_a_flag_that_somebody_changed_meanwhile_is_left_alone(shop: ModuleType) -> None:
    turn = ("cutover", "kill", "index", "--to", "local", "--reason", "x")
    assert adapter(*turn, "--if-version", "0").code == 0
    answer = adapter(*turn, "--if-version", "0")
    assert (answer.code, "[flag_conflict]" in answer.err) == (5, True)
    assert adapter(*turn, "--if-version", str(flags()[0]["version"])).code == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("kill", "*", "--to", "mars", "--reason", "x"), 2),
        (("kill", "*", "--reason", " "), 2),
        (("kill", "nope", "--reason", "x"), 6),
        (("rollout", "index", "--to", "trigger", "--percent", "101", "--reason", "x"), 2),
        (("rollout", "send-email", "--to", "trigger", "--percent", "1", "--reason", "x"), 2),
        (("rollout", "index", "--to", "trigger", "--percent", "1", "--when", "plan", "--reason", "x"), 2),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused(shop: ModuleType, words: tuple[str, ...], code: int) -> None:
    answer = adapter("cutover", *words)
    assert (answer.code, answer.out) == (code, "")
    assert flags() == []


def test_tasks_are_listed_with_where_they_run_and_go(shop: ModuleType) -> None:
    found = {each["id"]: each for each in adapter("--json", "tasks", "list").document["tasks"]}
    assert found["index"]["can_run"] == ["local", "trigger"]
    assert (found["report"]["goes_to"], found["report"]["reason"]) == ("trigger", "registry")
    assert (found["off"]["goes_to"], found["off"]["reason"]) == ("nowhere", "disabled in the registry")
    assert (found["send-email"]["queue"], found["send-email"]["queue_limit"]) == ("mail", 5)
    assert "mail (5)" in adapter("tasks", "list").out


def test_a_list_of_tasks_names_both_sides_of_a_rollout(shop: ModuleType) -> None:
    options = ("--to", "trigger", "--percent", "25", "--reason", "x")
    adapter("cutover", "rollout", "index", *options)
    found = {each["id"]: each for each in adapter("--json", "tasks", "list").document["tasks"]}
    assert found["index"]["goes_to"] == "trigger 25%, local 75%"
    assert found["index"]["reason"] == "rollout by tag; else default"
    adapter("cutover", "kill", "index", "--reason", "x")
    found = {each["id"]: each for each in adapter("--json", "tasks", "list").document["tasks"]}
    assert (found["index"]["goes_to"], found["index"]["reason"]) == (
        "local",
        "kill switch: runtime, this task",
    )


def test_an_explanation_marks_the_rule_that_decides(shop: ModuleType) -> None:
    rollout = ("--to", "trigger", "--percent", "0", "--allow", "vip", "--reason", "x")
    adapter("cutover", "rollout", "index", *rollout)
    found = adapter("--json", "cutover", "explain", "index", "--tag", "vip", "--data", "[1]").document
    assert (found["executor"], found["blocked"]) == ("trigger", False)
    assert [each["rule"] for each in found["steps"] if each["deciding"]] == ["rollout"]
    other = adapter("cutover", "explain", "index", "--tag", "someone", "--context", "plan=pro").out
    assert other.splitlines()[0] == "index goes to local: default"
    assert [line.split()[1] for line in other.splitlines() if "▶" in line] == ["default"]


def test_an_explanation_may_assume_what_the_call_says(shop: ModuleType) -> None:
    found = adapter("--json", "cutover", "explain", "index", "--executor", "trigger").document
    assert (found["executor"], found["reason"]) == ("trigger", "call")
    assert adapter("--json", "jobs", "list").document["jobs"] == []
