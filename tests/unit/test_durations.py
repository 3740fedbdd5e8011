from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.domain.durations import format_duration, parse_duration
from adapter.domain.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("90s", 90),
        ("1m30s", 90),
        ("10m", 600),
        ("1h42m", 6120),
        ("2hr", 7200),
        ("1w2d3h4m5s", 788_645),
        ("1w 2d 3h 4m 5s", 788_645),
        (" 5s ", 5),
        ("1s1s", 2),
    ],
)
def test_a_duration_is_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "5", "s", "5x", "-5s", "1.5h", "5 s", "5S", "1h,2m", "1s" * 60, "9" * 40 + "w", "٣x"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(seconds=-1), "0s"),
        (timedelta(seconds=90.9), "1m30s"),
        (timedelta(days=14), "2w"),
        (timedelta(days=9, hours=3, minutes=4, seconds=5), "1w2d3h4m5s"),
    ],
)
def test_a_duration_is_written(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@given(st.timedeltas(min_value=timedelta(), max_value=timedelta(days=100_000)))
def test_what_is_written_is_read_back_to_the_second(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == timedelta(seconds=int(duration.total_seconds()))
