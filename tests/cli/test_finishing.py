"""Leaving an executor on the command line."""

from types import ModuleType

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
