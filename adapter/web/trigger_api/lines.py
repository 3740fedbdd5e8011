"""The items of a batch as they stream in: one JSON object a line (Trigger.dev's API contract, 6.1)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

from adapter.web.bodies import BadJsonError, load_object
from adapter.web.errors import ApiError
from adapter.web.trigger_api.tasks import task_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

MOST_ITEM_BYTES = 3 * 1024 * 1024
_TYPES = frozenset({"application/x-ndjson", "application/ndjson"})
#: Of a line that is too large, so much is looked at for its index and task, which the SDK writes first.
_HEAD = 4096
_INDEX = re.compile(rb'"index"\s*:\s*(\d{1,9})\b')
_TASK = re.compile(rb'"task"\s*:\s*("(?:[^"\\]|\\.)*")')


class Line:
    """An item's place, task and text. ``fields`` is None when it is larger than an item may be."""

    __slots__ = ("fields", "place", "task", "text")

    def __init__(self, place: int, task: str, text: str, fields: dict[str, Any] | None) -> None:
        self.place = place
        self.task = task
        self.text = text
        self.fields = fields


async def lines(request: Request) -> AsyncIterator[Line]:
    """Yield the items as they come. Blank lines are passed over; the last one needs no end.

    Raises:
        ApiError: 415 for another content type, 422 for a line that is no item.
        ClientDisconnect: the stream was cut; what was a whole line has been yielded.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _TYPES:
        raise ApiError(415, f"Content-Type must be one of {', '.join(sorted(_TYPES))}")
    rest, dropped = bytearray(), 0
    number = 0
    async for chunk in request.stream():
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            number += 1
            rest += chunk[start:end]
            line = _read(bytes(rest), number, dropped)
            rest.clear()
            start, dropped = end + 1, 0
            if line is not None:
                yield line
        rest += chunk[start:]
        if len(rest) > MOST_ITEM_BYTES:
            # Nobody wants the rest of it, however long it is.
            dropped += len(rest) - _HEAD
            del rest[_HEAD:]
    line = _read(bytes(rest), number + 1, dropped)
    if line is not None:
        yield line


def read_line(text: str) -> dict[str, Any] | None:
    """Return the fields of a line that was held; None for one that was too large."""
    value: Any = json.loads(text)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _read(raw: bytes, number: int, dropped: int) -> Line | None:
    if dropped or len(raw) > MOST_ITEM_BYTES:
        return _too_large(raw[:_HEAD], number)
    if not raw.strip():
        return None
    try:
        fields = load_object(raw)
    except BadJsonError as error:
        raise ApiError(422, f"Invalid JSON at line {number}: {error}") from None
    place, task, options = fields.get("index"), fields.get("task"), fields.get("options")
    if not isinstance(place, int) or isinstance(place, bool) or place < 0:
        raise ApiError(422, f"Invalid item at line {number}: its index is no number from 0")
    if options is not None and not isinstance(options, dict):
        raise ApiError(422, f"Invalid item at line {number}: its options are no object")
    return Line(place, _task(task, number), raw.decode(), fields)


def _task(task: Any, number: int) -> str:
    try:
        return task_id(task if isinstance(task, str) else "")
    except ApiError:
        raise ApiError(422, f"Invalid item at line {number}: its task is no id") from None


def _too_large(head: bytes, number: int) -> Line:
    index, named = _INDEX.search(head), _TASK.search(head)
    if index is None or named is None:
        raise ApiError(422, f"Item at line {number} exceeds the maximum size of {MOST_ITEM_BYTES} bytes")
    try:
        task = _task(json.loads(named[1]), number)
    except ValueError as error:
        raise ApiError(422, f"Invalid JSON at line {number}: {error}") from None
    # No item is a list, so this cannot be mistaken for one.
    return Line(int(index[1]), task, json.dumps([task]), None)
