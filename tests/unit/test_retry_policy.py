"""The wait before the next attempt is Trigger.dev's formula."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapter.domain.task import RetryPolicy


def test_the_defaults_are_theirs() -> None:
    assert RetryPolicy().model_dump(by_alias=True) == {
        "maxAttempts": 3,
        "factor": 2.0,
        "minTimeoutInMs": 1000,
        "maxTimeoutInMs": 60_000,
        "randomize": True,
    }


@pytest.mark.parametrize(
    ("over", "attempt", "draw", "milliseconds"),
    [
        ({}, 1, 0.0, 1000),
        ({}, 2, 0.0, 2000),
        ({}, 1, 0.5, 1500),
        ({}, 2, 0.25, 2500),
        ({}, 3, 0.0, None),
        ({}, 4, 0.0, None),
        ({"max_attempts": 1}, 1, 0.0, None),
        ({"randomize": False}, 2, 0.9, 2000),
        ({"max_attempts": 10}, 7, 0.0, 60_000),
        ({"max_attempts": 10}, 6, 0.9, 60_000),
        ({"max_attempts": 10}, 6, 0.5, 48_000),
        ({"factor": 1.8, "min_timeout_in_ms": 500}, 2, 0.0, 900),
        ({"factor": 1.5, "min_timeout_in_ms": 333, "randomize": False}, 2, None, 500),
        ({"min_timeout_in_ms": 0}, 1, 0.5, 0),
        ({"max_attempts": 250, "factor": 100}, 249, 0.0, 60_000),
    ],
)
def test_the_wait_after_an_attempt(
    over: dict[str, Any], attempt: int, draw: float | None, milliseconds: int | None
) -> None:
    expected = None if milliseconds is None else timedelta(milliseconds=milliseconds)
    assert RetryPolicy(**over).delay_after(attempt, draw) == expected


@given(
    attempt=st.integers(1, 249),
    factor=st.floats(1, 100),
    smallest=st.integers(0, 10_000),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_the_wait_stays_between_its_bounds(attempt: int, factor: float, smallest: int, draw: float) -> None:
    policy = RetryPolicy(max_attempts=250, factor=factor, min_timeout_in_ms=smallest)
    wait = policy.delay_after(attempt, draw)
    assert wait is not None
    assert timedelta(milliseconds=smallest) <= wait <= timedelta(minutes=1)


def test_both_spellings_are_read() -> None:
    guide = RetryPolicy.model_validate({"maxAttempts": 5, "minTimeoutInMs": 10, "maxTimeoutInMs": 20})
    assert guide == RetryPolicy(max_attempts=5, min_timeout_in_ms=10, max_timeout_in_ms=20)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": 251},
        {"factor": 0.5},
        {"factor": float("nan")},
        {"min_timeout_in_ms": -1},
        {"min_timeout_in_ms": 2, "max_timeout_in_ms": 1},
        {"attempts": 3},
    ],
)
def test_a_policy_that_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RetryPolicy(**wrong)
