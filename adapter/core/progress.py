"""A job's metadata while it runs: changed by its handler, visible to everybody soon after."""

from __future__ import annotations

import copy
import json
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic_core import PydanticSerializationError, to_jsonable_python

from adapter.domain.errors import InvalidArgumentError
from adapter.domain.job import Job
from adapter.domain.json import problems
from adapter.domain.metadata_operations import MOST_BYTES
from adapter.domain.outcome import Lease
from adapter.store.job_metadata import MetadataPatch

#: The key of what `JobContext.progress` says.
PROGRESS = "progress"


class JobMetadata:
    """The metadata of a running job, from any thread. What a try has set it sees at once, others soon.

    Values are JSON; what is returned is a copy. Everything together may take 256 KB.
    """

    def __init__(self, job: Job, lease: Lease, changed: Callable[[JobMetadata], object]) -> None:
        self._job, self._lease = job, lease
        self._changed = changed
        self._lock = threading.Lock()
        self._values: dict[str, Any] = dict(job.metadata or {})
        self._sizes = {key: _size(key, value) for key, value in self._values.items()}
        self._touched: dict[str, None] = {}
        self._version = self._written = 0
        self._is_closed = False

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""
        with self._lock:
            return copy.deepcopy(self._values.get(key, default))

    def current(self) -> dict[str, Any]:
        """Return all of it."""
        with self._lock:
            return copy.deepcopy(self._values)

    def set(self, key: str, value: Any) -> None:
        """Set a value.

        Raises:
            InvalidArgumentError: it is no JSON that PostgreSQL can keep, or there is too much of it.
        """
        self._apply(key, lambda _: value)

    def update(self, values: Mapping[str, Any]) -> None:
        """Set several values."""
        for key, value in values.items():
            self.set(key, value)

    def increment(self, key: str, by: float = 1) -> float:
        """Add to a number, from 0; returns the sum."""
        return self._apply(key, lambda old: _number(key, old) + by)

    def decrement(self, key: str, by: float = 1) -> float:
        """Subtract from a number, from 0; returns the difference."""
        return self.increment(key, -by)

    def append(self, key: str, value: Any) -> None:
        """Add to the end of a list, which is made when there is none."""
        self._apply(key, lambda old: [*_list(key, old), value])

    def remove(self, key: str, value: Any) -> None:
        """Take every such value out of a list."""
        self._apply(key, lambda old: [each for each in _list(key, old) if each != value])

    def delete(self, key: str) -> None:
        """Take a key away."""
        with self._lock:
            if self._values.pop(key, None) is None and key not in self._sizes:
                return
            self._sizes.pop(key, None)
            self._touch(key)

    def _apply(self, key: str, change: Callable[[Any], Any]) -> Any:
        with self._lock:
            value = _kept(key, change(self._values.get(key)))
            size = _size(key, value)
            if sum(self._sizes.values()) - self._sizes.get(key, 0) + size > MOST_BYTES:
                msg = f"Metadata may take {MOST_BYTES} bytes; with {key!r} it would be more. Keep large things elsewhere."
                raise InvalidArgumentError(msg)
            self._values[key], self._sizes[key] = value, size
            self._touch(key)
            return value

    def _touch(self, key: str) -> None:
        self._touched[key] = None
        is_first = self._version == self._written
        self._version += 1
        if is_first and not self._is_closed:
            self._changed(self)

    # ---- for the worker --------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether the try is over: what is set from then on is written no more."""
        return self._is_closed

    def patch(self) -> tuple[MetadataPatch, int]:
        """Return all that was changed so far, and the version that this is."""
        with self._lock:
            changed = {key: self._values[key] for key in self._touched if key in self._values}
            removed = tuple(key for key in self._touched if key not in self._values)
            patch = MetadataPatch(self._job.id, self._job.epoch, self._lease, changed, removed)
            return patch, self._version

    def wrote(self, version: int) -> bool:
        """Remember that a version is written; whether there is a newer one."""
        with self._lock:
            self._written = version
            return self._version > version

    def close(self) -> MetadataPatch | None:
        """Take no more; returns what has to be written before the outcome."""
        with self._lock:
            self._is_closed = True
            is_written = self._version == self._written
        return None if is_written else self.patch()[0]


def progress_value(fraction: float, message: str | None) -> dict[str, Any]:
    """Return what stands under ``progress``.

    Raises:
        InvalidArgumentError: the fraction is not between 0 and 1.
    """
    if not (math.isfinite(fraction) and 0 <= fraction <= 1):
        msg = f"Progress is a number from 0 to 1, not {fraction}."
        raise InvalidArgumentError(msg)
    return {"value": float(fraction)} | ({} if message is None else {"message": message})


def _number(key: str, value: Any) -> float:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"Metadata {key!r} is no number; it cannot be incremented."
        raise InvalidArgumentError(msg)
    return value


def _list(key: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        msg = f"Metadata {key!r} is no list."
        raise InvalidArgumentError(msg)
    return cast("list[Any]", value)


def _kept(key: str, value: Any) -> Any:
    try:
        kept = to_jsonable_python(value)
    except PydanticSerializationError as error:
        msg = f"Metadata {key!r} is no JSON: {error}."
        raise InvalidArgumentError(msg) from None
    if found := next(problems({key: kept}, "metadata"), None):
        raise InvalidArgumentError(f"{found}.")
    return kept


def _size(key: str, value: Any) -> int:
    return len(json.dumps({key: value}, ensure_ascii=False).encode("utf-8", "replace"))
