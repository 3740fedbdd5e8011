"""Changes of a job's metadata as operations (Trigger.dev's API contract, 7.7).

A key is a name at the top, or a path: ``$.stage``, ``$.list[0].name``, ``$['a key']``. What stands in the way
of a path is replaced by what the path needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from adapter.domain.errors import InvalidArgumentError, MetadataTooLargeError

#: Trigger.dev's bound of a run's metadata.
MOST_BYTES = 262_144
#: Names by which JavaScript reaches what is not the object's own; whoever reads the metadata there is not to be hit.
FORBIDDEN = frozenset({"__proto__", "constructor", "prototype"})

_MOST_STEPS = 32
#: A place far behind the end of a list would fill it with nulls.
_LARGEST_INDEX = 10_000
_STEP = re.compile(
    r"""\.(?P<name>[^.\[\]]+)|\[(?P<index>\d{1,6})\]|\[(?P<quote>["'])(?P<quoted>.*?)(?P=quote)\]"""
)

_NOTHING: Any = object()

Kind: TypeAlias = Literal["set", "increment", "append", "remove", "delete", "update"]
_Step: TypeAlias = "str | int"


@dataclass(frozen=True, slots=True)
class MetadataOperation:
    """One change. ``key``: a name or a path, none for ``update``, which replaces everything by ``value``."""

    type: Kind
    key: str = ""
    value: Any = None


def apply_operations(metadata: Mapping[str, Any], operations: Iterable[MetadataOperation]) -> dict[str, Any]:
    """Return the metadata after the operations, in their order; what was given is left alone.

    ``increment`` counts from 0 where there is no number. ``append`` makes a list of what is none. ``remove`` of what
    is no list, and ``delete`` of what is not there, change nothing.

    Raises:
        InvalidArgumentError: a path cannot be read, or a name is forbidden.
        MetadataTooLargeError: the result takes more than `MOST_BYTES`.
    """
    result: Any = dict(metadata)
    for operation in operations:
        result = _after(result, operation)
    checked_metadata(result)
    return result


def checked_metadata(metadata: Mapping[str, Any]) -> None:
    """Refuse metadata that cannot be kept.

    Raises:
        InvalidArgumentError: it has a forbidden name.
        MetadataTooLargeError: it takes more than `MOST_BYTES`.
    """
    _check_names(metadata)
    size = len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
    if size > MOST_BYTES:
        raise MetadataTooLargeError(size, MOST_BYTES)


def _after(metadata: Any, operation: MetadataOperation) -> Any:
    if operation.type == "update":
        return dict(operation.value)
    steps, value = _steps(operation.key), operation.value
    old = _at(metadata, steps)
    match operation.type:
        case "set":
            pass
        case "increment":
            value += old if isinstance(old, int | float) and not isinstance(old, bool) else 0
        case "append":
            listed = cast("list[Any]", old) if isinstance(old, list) else [] if old is _NOTHING else [old]
            value = [*listed, value]
        case "remove":
            if not isinstance(old, list):
                return metadata
            value = [each for each in cast("list[Any]", old) if not _same(each, value)]
        case "delete":
            return metadata if old is _NOTHING else _without(metadata, steps)
    return _with(metadata, steps, value)


def _steps(key: str) -> list[_Step]:
    if not key.startswith(("$.", "$[")):
        _check_name(key)
        return [key]
    steps: list[_Step] = []
    at = 1
    while at < len(key):
        found = _STEP.match(key, at)
        if found is None or len(steps) == _MOST_STEPS:
            msg = f"{key[:80]!r} is no path in metadata: write it as in $.stage or $.list[0].name."
            raise InvalidArgumentError(msg)
        if found["index"] is not None:
            steps.append(_index(int(found["index"])))
        else:
            name = found["name"] if found["name"] is not None else found["quoted"]
            _check_name(name)
            steps.append(name)
        at = found.end()
    return steps


def _index(index: int) -> int:
    if index > _LARGEST_INDEX:
        msg = f"A list in metadata has no place {index}: at most {_LARGEST_INDEX}."
        raise InvalidArgumentError(msg)
    return index


def _place(step: _Step) -> int | None:
    """Return the place in a list that a step names, None when it names none. A path may write it as $.list.0."""
    if isinstance(step, int):
        return step
    return _index(int(step)) if step.isascii() and step.isdecimal() and len(step) < 7 else None


def _at(value: Any, steps: list[_Step]) -> Any:
    """Return what is at the end of the steps, `_NOTHING` when there is nothing."""
    for step in steps:
        if isinstance(value, dict):
            value = cast("dict[str, Any]", value).get(str(step), _NOTHING)
        elif isinstance(value, list) and (place := _place(step)) is not None:
            items = cast("list[Any]", value)
            value = items[place] if place < len(items) else _NOTHING
        else:
            return _NOTHING
    return value


def _with(old: Any, steps: list[_Step], value: Any) -> Any:
    """Return a copy with the value at the end of the steps."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    place = (
        None
        if isinstance(old, dict) or (isinstance(step, str) and not isinstance(old, list))
        else _place(step)
    )
    if place is not None:
        items = [*cast("list[Any]", old)] if isinstance(old, list) else []
        items.extend([None] * (place + 1 - len(items)))
        items[place] = _with(items[place], rest, value)
        return items
    fields = {**cast("dict[str, Any]", old)} if isinstance(old, dict) else {}
    fields[str(step)] = _with(fields.get(str(step)), rest, value)
    return fields


def _without(old: Any, steps: list[_Step]) -> Any:
    """Return a copy without what is at the end of the steps, which is there."""
    step, rest = steps[0], steps[1:]
    if isinstance(old, list):
        items, place = [*cast("list[Any]", old)], cast("int", _place(step))
        items[place : place + 1] = [_without(items[place], rest)] if rest else []
        return items
    fields = {**cast("dict[str, Any]", old)}
    inner = fields.pop(str(step))
    return fields | {str(step): _without(inner, rest)} if rest else fields


def _same(one: Any, other: Any) -> bool:
    """Whether two are one value; true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _check_name(name: str) -> None:
    if name in FORBIDDEN:
        msg = f"{name!r} cannot be a key of metadata."
        raise InvalidArgumentError(msg)


def _check_names(value: Any) -> None:
    if isinstance(value, dict):
        for name, inner in cast("dict[str, Any]", value).items():
            _check_name(name)
            _check_names(inner)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            _check_names(inner)
