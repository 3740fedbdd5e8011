"""What a scheduling call says that cannot be meant or cannot be kept: refused before anything is written."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, cast, get_args

from adapter.domain.errors import InvalidArgumentError, TooManyTagsError
from adapter.domain.job import OnConflict
from adapter.domain.json import problems
from adapter.domain.task import LONGEST_KEY, LONGEST_TAG, MOST_TAGS

if TYPE_CHECKING:
    from adapter.core.planning import ScheduleOptions

_NOT_DEBOUNCED = ("tag", "due", "delay", "throttle", "debounce_max")
_POSITIVE = ("max_duration", "idempotency_ttl", "debounce_max", "throttle")
#: What is kept as text or JSON as it was said.
_KEPT = (
    "queue",
    "concurrency_key",
    "user_id",
    "tag",
    "tags",
    "idempotency_key",
    "request_key",
    "metadata",
    "extra",
)
#: What has a place in an index, and how many bytes it may have: PostgreSQL refuses a row whose entry is longer than
#: 2,704 with all that is beside it there, even when that row is one that ends a job.
_INDEXED, _INDEXED_EXTRA, _LONGEST_INDEXED = (
    ("queue", "concurrency_key", "user_id"),
    ("machine", "region", "version"),
    1000,
)
#: PostgreSQL's integer.
_LEAST, _MOST = -(2**31), 2**31 - 1


def check(options: ScheduleOptions) -> None:
    """Refuse it.

    Raises:
        InvalidArgumentError, TooManyTagsError: saying which option, and what is wrong with it.
    """
    _check_moments(options)
    for name in (*_POSITIVE, "delay", "ttl", "keep_for"):
        value: timedelta | None = options.get(name)
        if value is not None and (value < timedelta(0) or (value == timedelta(0) and name in _POSITIVE)):
            msg = f"{name}= must be positive."
            raise InvalidArgumentError(msg)
    _check_conflicts(options)
    # An untyped caller may say anything.
    priority = cast("object", options.get("priority"))
    if priority is not None and not (isinstance(priority, int) and _LEAST <= priority <= _MOST):
        msg = f"priority= is a whole number from {_LEAST} to {_MOST}."
        raise InvalidArgumentError(msg)
    tags = options.get("tags") or ()
    if isinstance(tags, str):
        msg = "tags= is a list of labels; the label that deduplicates is tag=."
        raise InvalidArgumentError(msg)
    if len(tags) > MOST_TAGS:
        raise TooManyTagsError(len(tags), MOST_TAGS)
    texts = {"tag": options.get("tag"), **{f"tags[{n}]": tag for n, tag in enumerate(tags)}}
    for name, text in texts.items():
        if text is not None and not 0 < len(text) <= LONGEST_TAG:
            msg = f"{name} must have 1 to {LONGEST_TAG} characters."
            raise InvalidArgumentError(msg)
    for name in ("idempotency_key", "request_key"):
        check_key(name, options.get(name))
    _check_texts(options)


def check_key(name: str, key: str | None) -> None:
    """Refuse a key that is empty or too long."""
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        msg = f"{name} must have 1 to {LONGEST_KEY} characters."
        raise InvalidArgumentError(msg)


def check_moment(name: str, moment: datetime | None) -> None:
    """Refuse a moment that does not say when."""
    if moment is not None and moment.tzinfo is None:
        msg = f"{name}= needs a time zone: a naive datetime does not say when."
        raise InvalidArgumentError(msg)


def _check_texts(options: ScheduleOptions) -> None:
    """Refuse texts and JSON that PostgreSQL cannot keep, or not in an index."""
    for name in _KEPT:
        said = options.get(name)
        if said is not None and (found := list(islice(problems(said, name), 5))):
            raise InvalidArgumentError(f"{'; '.join(found)}.")
    extra = options.get("extra") or {}
    indexed = {name: options.get(name) for name in _INDEXED} | {
        name: extra.get(name) for name in _INDEXED_EXTRA
    }
    for name, said in indexed.items():
        if said is not None and len(str(said).encode()) > _LONGEST_INDEXED:
            msg = f"{name} must have at most {_LONGEST_INDEXED} bytes."
            raise InvalidArgumentError(msg)


def _check_moments(options: ScheduleOptions) -> None:
    """Refuse moments that exclude each other or do not say when."""
    due, delay = options.get("due"), options.get("delay")
    if due is not None and delay is not None:
        msg = "due= and delay= exclude each other."
        raise InvalidArgumentError(msg)
    for name in ("due", "remove_at"):
        check_moment(name, options.get(name))
    if options.get("remove_at") is not None and (
        options.get("keep_for") is not None or options.get("persistent")
    ):
        msg = "remove_at= says when a finished job may go: it excludes keep_for= and persistent=True."
        raise InvalidArgumentError(msg)


def _check_conflicts(options: ScheduleOptions) -> None:
    """Refuse what cannot be meant of keys and tags together."""
    on_conflict, throttle = options.get("on_conflict") or "keep", options.get("throttle")
    said = [name for name in _NOT_DEBOUNCED if options.get(name) is not None]
    if options.get("debounce") is not None and (said or on_conflict != "keep"):
        msg = f"debounce= says by itself when the job starts and what is one: it excludes {', '.join(_NOT_DEBOUNCED)} and on_conflict=."
        raise InvalidArgumentError(msg)
    if on_conflict not in get_args(OnConflict):
        msg = f"on_conflict= is one of {', '.join(get_args(OnConflict))}."
        raise InvalidArgumentError(msg)
    names = [name for name in ("tag", "idempotency_key") if options.get(name) is not None]
    if on_conflict == "replace" and len(names) != 1:
        msg = "on_conflict='replace' needs a tag= or an idempotency_key=, and not both: it says what is replaced."
        raise InvalidArgumentError(msg)
    if options.get("debounce_max") is not None and on_conflict != "replace":
        msg = "debounce_max= is the longest wait of on_conflict='replace'."
        raise InvalidArgumentError(msg)
    if throttle is not None and (len(names) != 1 or on_conflict == "replace"):
        msg = "throttle= needs a tag= or an idempotency_key=, and not both, and keeps the first: it excludes 'replace'."
        raise InvalidArgumentError(msg)
