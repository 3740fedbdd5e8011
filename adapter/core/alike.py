"""Which specs of a call ask for the same, so that their jobs can share what that comes to."""

from __future__ import annotations

from datetime import timedelta
from types import NoneType
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

if TYPE_CHECKING:
    from adapter.core.planning import JobSpec

#: What is the same when it is equal and of one type: neither 1 and True nor 1 and 1.0 are.
_SCALARS = frozenset({str, int, bool, timedelta, UUID, NoneType})


def are_alike(one: JobSpec, other: JobSpec) -> bool:
    """Whether two specs surely ask for the same but for their payloads."""
    return (
        one.task == other.task
        and one.parent is other.parent
        and one.undeclared == other.undeclared
        and (not (one.options or other.options) or _are_same(one.options, other.options))
    )


def _are_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        entries = cast("dict[str, Any]", one)
        return entries.keys() == other.keys() and all(
            _are_same(value, other[name]) for name, value in entries.items()
        )
    if isinstance(one, (list, tuple)):
        items = cast("list[Any]", one)
        return len(items) == len(other) and all(map(_are_same, items, other))
    return type(one) in _SCALARS and one == other
