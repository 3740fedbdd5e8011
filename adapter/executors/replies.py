"""Reading what an HTTP API answers: JSON, its words for an error, its hints when to come back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NoReturn, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_WORDS = 500
#: A larger number of an ``x-ratelimit-reset`` is milliseconds, a smaller one seconds (contract, 2.4).
_SECONDS_END = 1e11
#: A wrong header must not pause an executor for years.
_LONGEST_PAUSE = timedelta(hours=1)


class BadJsonError(ValueError):
    """The text is no JSON."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A definite answer. ``value`` is the parsed body, None when it had none."""

    status: int
    value: Any


def _no_constant(name: str) -> NoReturn:
    raise BadJsonError(f"{name} is no JSON")


def parse_json(text: bytes | str) -> Any:
    """Return the value.

    Raises:
        BadJsonError: also for NaN and the infinities, which Python reads and PostgreSQL refuses.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadJsonError(str(error)) from None


def words_of(status: int, value: Any, body: bytes, content_type: str) -> str:
    """Return what the remote said, for a person: its error text, its plain text, or the bare status."""
    words: Any = None
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        words = fields.get("error")
        if isinstance(words, dict):
            words = cast("dict[str, Any]", words).get("message")
        words = words or fields.get("message") or fields.get("title")
    elif value is None and content_type.startswith("text/plain"):
        words = body.decode(errors="replace")
    if not isinstance(words, str) or not words.strip():
        return f"HTTP {status}"
    return f"HTTP {status}: {words.strip()[:_LONGEST_WORDS]}"


def server_says(headers: Mapping[str, str]) -> bool | None:
    """Return the remote's ``x-should-retry``, None when it does not say."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", ""))


def retry_in(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds of ``retry-after`` (a number or an HTTP date), None when it does not say."""
    text = headers.get("retry-after", "").strip()
    seconds = _number(text)
    if seconds is None and text:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    if seconds is None:
        return None
    return min(max(seconds, 0.0), _LONGEST_PAUSE.total_seconds())


def retry_at(headers: Mapping[str, str], now: datetime) -> datetime | None:
    """Return when a throttled caller may come back, at most an hour from now."""
    reset = _number(headers.get("x-ratelimit-reset", "").strip())
    if reset is None:
        wait = retry_in(headers, now)
        return None if wait is None else now + timedelta(seconds=wait)
    seconds = reset / 1000 if reset >= _SECONDS_END else reset
    wait = min(max(seconds - now.timestamp(), 0.0), _LONGEST_PAUSE.total_seconds())
    return now + timedelta(seconds=wait)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
