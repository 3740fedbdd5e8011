from types import ModuleType
from typing import Any

import pytest

from tests.cli.commands import adapter
from tests.cli.test_jobs import schedule, work


def letters(*options: str) -> list[dict[str, Any]]:
    answer = adapter("--json", "dead", "list", *options)
    assert answer.code == 0, answer.err
    return answer.document["dead_letters"]


def redrive(*options: str) -> Any:
    answer = adapter("--json", "dead", "redrive", "--reason", "mended", *options)
    assert answer.code == 0, answer.err
    return answer.document


def test_what_ended_badly_is_listed_shown_and_redriven_once(shop: ModuleType) -> None:
    bad = schedule("fail", "secret payload")["id"]
    good = schedule("send-email", {"to": "ann"})["id"]
    work()
    (letter,) = letters("--type", "fail", "--error", "ValueError", "--status", "failed")
    assert (letter["id"], letter["error"]["name"], letter["redriven_as"]) == (bad, "ValueError", None)
    assert "data" not in letter
    assert letters("--error", "KeyError") == letters("--until", "2020-01-01T00:00:00+0000") == []
    assert adapter("--json", "dead", "show", bad).document["job"]["data"] == "secret payload"
    assert adapter("dead", "show", good).code == 5
    assert redrive("--type", "fail", "--dry-run")["redriven"] == {bad: None}
    new = redrive("--type", "fail")["redriven"][bad]
    assert redrive(bad)["skipped"] == [bad]
    assert letters("--waiting") == []
    assert letters()[0]["redriven_as"] == new
    assert adapter("--json", "jobs", "show", new).document["job"]["extra"]["replay_of"] == bad
    assert list(redrive(bad, "--again")["redriven"]) == [bad]


def test_people_get_a_table(shop: ModuleType) -> None:
    assert "No dead letters" in adapter("dead", "list").err
    bad = schedule("fail", 1)["id"]
    work()
    answer = adapter("dead", "list")
    assert bad in answer.out
    assert "ValueError" in answer.out
    answer = adapter("dead", "redrive", "--all", "--reason", "r", "--dry-run")
    assert "would be redriven" in answer.out


@pytest.mark.parametrize(
    "options", [[], ["--all", "--type", "fail"], ["00000000-0000-0000-0000-000000000000", "--all"]]
)
def test_a_redrive_needs_to_be_told_which(shop: ModuleType, options: list[str]) -> None:
    answer = adapter("dead", "redrive", "--reason", "r", *options)
    assert answer.code == 2
    assert "Say which" in answer.err
