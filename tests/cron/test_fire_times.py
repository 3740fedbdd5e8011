"""When schedules fire: Trigger.dev's own vectors, and what becomes of missed ticks."""

import json
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from adapter.domain.cron import LATE, MOST_AT_ONCE, Cron, Missed, due
from adapter.domain.errors import InvalidCronError

#: Made with cron-parser 4.9.0, which Trigger.dev uses.
VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "trigger_dev_vectors.json").read_text())
#: What that library lets pass: too few fields, on which Trigger.dev's server fails later, and a range of three ends.
LET_PASS = {"*", "* * * *", "0-5-7 * * * *"}
FIRING = [each for each in VECTORS if "next" in each and each["cron"] not in LET_PASS]
REFUSED = [each["cron"] for each in VECTORS if "error" in each or each["cron"] in LET_PASS]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize("vector", FIRING, ids=lambda each: f"{each['cron']} {each['tz']} {each['from']}")
def test_it_fires_when_trigger_dev_does(vector: dict[str, Any]) -> None:
    found = list(islice(Cron(vector["cron"], vector["tz"]).after(at(vector["from"])), len(vector["next"])))
    assert found == [at(each) for each in vector["next"]]


@pytest.mark.parametrize(
    "expression",
    [*REFUSED, "0 0 * * * *", "@daily", "", "0 0 30 2 *", "a * * * *", "0 0 L-3 * *", "* * * * 8"],
)
def test_what_cannot_be_read_or_never_fires_is_refused(expression: str) -> None:
    with pytest.raises(InvalidCronError):
        Cron(expression)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Europe/"])
def test_a_zone_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InvalidCronError, match="time zone"):
        Cron("0 9 * * *", name)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"])
@pytest.mark.parametrize("expression", ["0,30 1-3 * * *", "15 2 * * *", "*/20 * * * *", "30 */6 * * *"])
def test_times_only_go_forward_over_a_year_of_changing_clocks(zone: str, expression: str) -> None:
    times = list(islice(Cron(expression, zone).after(at("2026-01-01T00:00:00Z")), 3000))
    assert all(one < other for one, other in pairwise(times))
    # Wherever one begins in between, the next is the same.
    for one, other in islice(pairwise(times), 0, 3000, 171):
        assert Cron(expression, zone).next_after(one) == other
        assert Cron(expression, zone).next_after(other - timedelta(seconds=1)) == other


NOON = at("2026-06-01T12:00:00Z")
HOURLY = Cron("0 * * * *")


@pytest.mark.parametrize(
    ("missed", "late", "fired"),
    [
        ("all", timedelta(hours=3), [NOON + timedelta(hours=each) for each in range(4)]),
        ("last", timedelta(hours=3), [NOON + timedelta(hours=3)]),
        ("skip", timedelta(hours=3), [NOON + timedelta(hours=3)]),
        ("skip", timedelta(hours=3) + LATE, [NOON + timedelta(hours=3)]),
        ("skip", timedelta(hours=3, seconds=1) + LATE, []),
        ("last", timedelta(hours=3, minutes=59), [NOON + timedelta(hours=3)]),
        ("all", timedelta(0), [NOON]),
        ("skip", timedelta(0), [NOON]),
        ("last", -timedelta(seconds=1), []),
    ],
)
def test_what_becomes_of_missed_ticks(missed: Missed, late: timedelta, fired: list[datetime]) -> None:
    now = NOON + late
    found, following = due(HOURLY, NOON, now, missed)
    assert found == fired
    assert following > now
    assert following == (NOON if late < timedelta(0) else HOURLY.next_after(now))


def test_many_missed_ticks_are_fired_in_parts_and_none_twice() -> None:
    now, next_at, fired = NOON + timedelta(minutes=MOST_AT_ONCE * 2.5), NOON, list[datetime]()
    while next_at <= now:
        part, next_at = due(Cron("* * * * *"), next_at, now, "all")
        assert 0 < len(part) <= MOST_AT_ONCE
        fired += part
    assert fired == [NOON + timedelta(minutes=each) for each in range(MOST_AT_ONCE * 5 // 2 + 1)]


def test_the_last_tick_of_a_year_long_outage_is_found_soon() -> None:
    now = NOON + timedelta(days=366, seconds=30)
    found, following = due(Cron("* * * * *"), NOON, now, "last")
    assert (found, following) == ([now - timedelta(seconds=30)], now + timedelta(seconds=30))
    yearly, _ = due(Cron("0 0 29 2 *"), at("2020-02-29T00:00:00Z"), at("2027-01-01T00:00:00Z"), "last")
    assert yearly == [at("2024-02-29T00:00:00Z")]
