"""`adapter cron`: what a person types, and what it answers."""

from types import ModuleType

import pytest

from tests.cli.commands import adapter


def test_a_schedule_is_added_listed_paused_resumed_and_canceled(shop: ModuleType) -> None:
    done = adapter(
        "cron",
        "add",
        "index",
        "0 9 * * 1-5",
        "--tz",
        "Europe/Berlin",
        "--data",
        "{}",
        "--window",
        "30m",
        "--reason",
        "daily",
    )
    assert done.code == 0, done.err
    assert "fires next at" in done.out
    (schedule,) = adapter("--json", "cron", "list").document["schedules"]
    assert (schedule["task"], schedule["cron"], schedule["timezone"], schedule["window"]) == (
        "index",
        "0 9 * * 1-5",
        "Europe/Berlin",
        "30m",
    )
    short = schedule["id"][-12:]
    table = adapter("cron", "list").out
    assert all(word in table for word in (short, "index", "0 9 * * 1-5", "local"))
    assert "rests" in adapter("cron", "pause", short, "--reason", "quiet").out
    assert "paused" in adapter("cron", "list").out
    assert "fires next" in adapter("cron", "resume", short, "--reason", "over").out
    assert len(adapter("cron", "next", short, "--count", "3").out.splitlines()) >= 3
    assert "is gone" in adapter("cron", "cancel", short, "--reason", "done").out
    assert adapter("--json", "cron", "list").document["schedules"] == []
    said = [each["kind"] for each in adapter("--json", "cutover", "history").document["changes"]]
    assert said == ["schedule canceled", "schedule resumed", "schedule paused", "schedule made"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("cron", "add", "index", "61 * * * *", "--reason", "x"), 2, "is no schedule"),
        (("cron", "add", "index", "* * * * *", "--data", "{", "--reason", "x"), 2, "--data is no JSON"),
        (("cron", "pause", "nothing", "--reason", "x"), 6, "no schedule"),
        (("cron", "next", "* * *"), 2, "fields"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    shop: ModuleType, words: tuple[str, ...], code: int, said: str
) -> None:
    done = adapter(*words)
    assert (done.code, said in done.err) == (code, True), done.err


def test_an_expression_can_be_tried(shop: ModuleType) -> None:
    ticks = adapter("--json", "cron", "next", "0 0 1 1 *", "--count", "2").document["ticks"]
    assert [each[4:10] for each in ticks] == ["-01-01", "-01-01"]
