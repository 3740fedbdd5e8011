"""Leaving an executor on the command line."""

from types import ModuleType

import pytest

from tests.cli.commands import adapter


def test_what_an_executor_holds_is_shown(shop: ModuleType) -> None:
    assert adapter("jobs", "schedule", "report", "{}").code == 0
    found = adapter("--json", "cutover", "drain", "trigger").document
    (report,) = found["tasks"]
    assert (found["drained"], report["executor"], report["task"]) == (False, "trigger", "report")
    assert (sum(report["open"].values()), report["remote"]) == (1, 1)
    shown = adapter("cutover", "drain")
    assert (shown.code, "not drained" in shown.err) == (0, True)
    assert "open by its own count" in shown.out


def test_waiting_for_a_drained_executor_ends_with_0_or_with_4(shop: ModuleType, database: str) -> None:
    assert adapter("cutover", "wait-drained", "trigger").code == 0
    assert adapter("jobs", "schedule", "report", "{}").code == 0
    assert adapter("cutover", "wait-drained", "trigger", "--timeout", "0s").code == 4
    assert adapter("cutover", "wait-drained", "local", "--timeout", "0s").code == 0


def test_an_executor_or_a_time_that_makes_no_sense(shop: ModuleType) -> None:
    assert adapter("cutover", "drain", "mars").code == 2
    assert adapter("cutover", "drain", "--quiet", "soon").code == 2


def test_whether_one_can_go_back_is_an_exit_code(shop: ModuleType, database: str) -> None:
    refused = adapter("cutover", "can-go-back", "index")
    assert (refused.code, "no worker is alive" in refused.out) == (3, True)
    assert adapter("cutover", "can-go-back", "index", "--to", "trigger").code == 0
    document = adapter("--json", "cutover", "can-go-back", "index").document
    assert [each["verdict"] for each in document["ways"]] == ["failed"]
    assert adapter("cutover", "can-go-back", "nope").code == 6


def test_a_way_back_needs_the_tasks(database: str) -> None:
    assert adapter("cutover", "can-go-back").code == 2


def test_the_doctor_asks_for_the_way_back_of_what_runs_elsewhere(shop: ModuleType) -> None:
    def findings() -> list[str]:
        checks = adapter("--json", "doctor").document["checks"]
        return [each["finding"] for each in checks if each["name"] == "way back"]

    assert findings() == []
    options = ("--to", "trigger", "--percent", "50", "--reason", "x")
    assert adapter("cutover", "rollout", "index", *options).code == 0
    (finding,) = findings()
    assert finding.startswith("index could not come back to local now: no worker is alive")


def test_what_still_ties_one_there_is_shown_with_the_gates(
    shop: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert adapter("jobs", "schedule", "report", "{}").code == 0
    monkeypatch.setenv("TRIGGER_DEV_API_KEY", "not-to-be-shown")
    shown = adapter("cutover", "finalize", "trigger", "--check")
    assert (shown.code, "not every gate has passed" in shown.err) == (3, True)
    assert "TRIGGER_DEV_API_KEY" in shown.out
    assert "not-to-be-shown" not in shown.out + shown.err
    found = adapter("--json", "cutover", "finalize", "trigger", "--check").document
    assert (found["ready"], found["executor"], found["task"]) == (False, "trigger", "*")


def test_an_executor_is_left_for_good_and_reopened(shop: ModuleType) -> None:
    refused = adapter("cutover", "finalize", "trigger", "--reason", "done")
    assert (refused.code, "[not_finalized]" in refused.err) == (5, True)
    words = [f"--accept={gate}=not needed" for gate in ("elsewhere", "drill", "parity")]
    done = adapter("cutover", "finalize", "trigger", *words, "--reason", "done")
    assert (done.code, done.out) == (0, "trigger is left for good by every task\n"), done.err
    turned = adapter("cutover", "kill", "index", "--to", "trigger", "--reason", "x")
    assert (turned.code, "[executor_finalized]" in turned.err) == (5, True)
    assert adapter("cutover", "reopen", "trigger", "--reason", "too early").code == 0
    assert adapter("cutover", "reopen", "trigger", "--reason", "again").code == 6
    assert adapter("cutover", "finalize", "trigger", "--accept", "drill", "--reason", "x").code == 2
    assert adapter("cutover", "finalize", "trigger", "--reason", " ").code == 2


def test_a_drill_answers_with_what_it_measured(shop: ModuleType) -> None:
    words = ("cutover", "drill", "index", "--for", "1s", "--reason", "monthly")
    made = adapter("--json", *words)
    assert made.code == 3, made.err
    assert made.document["state"] == "inconclusive"
    assert made.document["measured"]["checks"][0]["name"] == "stopped"
    assert adapter("--json", "cutover", "status").document["flags"] == []
    assert "inconclusive" in adapter("cutover", "drills").out
    assert adapter("cutover", "drill", "report", "--for", "1s", "--reason", "x").code == 2
    assert adapter("cutover", "drill", "index", "--for", "soon", "--reason", "x").code == 2
