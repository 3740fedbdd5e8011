"""Whether two outcomes of a job are the same, but for what nobody expects to be."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, TypeAlias, cast

from adapter.domain.errors import TaskDefinitionError

#: So many paths of a difference are kept.
MOST_PATHS: Final = 20
_LONGEST_PATH: Final = 200

#: The parts of a pointer, without its escapes.
_Parts: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ignore:
    """A place in a result that may differ: a JSON pointer, in which ``*`` stands for any one part.

    ``until``: the first day on which it is compared again.
    """

    pointer: str
    until: date | None = None

    def __post_init__(self) -> None:
        if not self.pointer.startswith("/"):
            msg = (
                f"{self.pointer!r} is no JSON pointer into a result: it begins with '/', as in '/rows/*/id'."
            )
            raise TaskDefinitionError(msg)

    @property
    def parts(self) -> _Parts:
        """The parts of the pointer."""
        return tuple(
            part.replace("~1", "/").replace("~0", "~") for part in self.pointer.removeprefix("/").split("/")
        )

    def __str__(self) -> str:
        """Return the pointer, and how long it holds."""
        return self.pointer if self.until is None else f"{self.pointer} (until {self.until})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How the outcomes of a task's jobs are compared: as canonical JSON, after what is ignored is taken out.

    ``tolerance``: how much numbers may differ, relative to the larger. ``errors``: whether failures have to be
    of one name, too; not where the executors speak different languages. ``equal``: a function of both results
    that decides instead. ``keep_values``: keep results that differ, for a person to look at.
    """

    ignore: Sequence[str | Ignore] = ()
    tolerance: float = 0.0
    errors: bool = True
    equal: Callable[[Any, Any], bool] | None = None
    keep_values: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.ignore, str) or not 0 <= self.tolerance < 1:
            msg = "Comparison: ignore is a list of JSON pointers, and tolerance at least 0 and below 1."
            raise TaskDefinitionError(msg)
        _ = self.rules

    @property
    def rules(self) -> list[Ignore]:
        """What is ignored, each as an `Ignore`."""
        return [each if isinstance(each, Ignore) else Ignore(each) for each in self.ignore]

    def expired(self, on: date) -> list[Ignore]:
        """Return the rules that do not hold any more."""
        return [each for each in self.rules if each.until is not None and each.until <= on]


#: Nothing may differ.
EXACTLY: Final = Comparison()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job came to. ``error``: the name of its error."""

    status: str
    error: str | None
    result: Any


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison came to: equal without ``paths``, which are those that differ, `MOST_PATHS` at most.

    A path is a JSON pointer into ``{"status", "error", "result"}``. The hashes are of what was compared.
    """

    paths: list[str]
    hashes: tuple[str, str]


def compare(record: Outcome, shadow: Outcome, rules: Comparison, on: date) -> Compared:
    """Compare two outcomes as the rules are on a day. Errors are those of ``rules.equal``."""
    expired = rules.expired(on)
    ignored = [each.parts for each in rules.rules if each not in expired]
    first, second = (_document(each, rules, ignored) for each in (record, shadow))
    if rules.equal is not None and record.status == shadow.status == "COMPLETED":
        paths = [] if rules.equal(record.result, shadow.result) else ["/result"]
    else:
        found = (
            _pointer(parts)[:_LONGEST_PATH] for parts in _differences(first, second, (), rules.tolerance)
        )
        paths = list(itertools.islice(found, MOST_PATHS))
    return Compared(paths, (digest(first), digest(second)))


def _document(outcome: Outcome, rules: Comparison, ignored: list[_Parts]) -> dict[str, Any]:
    return {
        "status": outcome.status,
        "error": outcome.error if rules.errors else None,
        "result": _without(outcome.result, ignored),
    }


def digest(value: Any) -> str:
    """Return a short hash of a JSON value's canonical form: keys in order, numbers as they are, not as written."""
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(each) for name, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_canonical(each) for each in cast("list[Any]", value)]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _without(value: Any, ignored: list[_Parts]) -> Any:
    """Return a value without the places that are ignored; a list keeps its length."""
    if not ignored or not isinstance(value, (dict, list)):
        return value
    if isinstance(value, dict):
        kept: dict[str, Any] = {}
        for name, each in cast("dict[str, Any]", value).items():
            below = _below(ignored, name)
            if () not in below:
                kept[name] = _without(each, below)
        return kept
    items: list[Any] = []
    for place, each in enumerate(cast("list[Any]", value)):
        below = _below(ignored, str(place))
        items.append(None if () in below else _without(each, below))
    return items


def _below(ignored: list[_Parts], name: str) -> list[_Parts]:
    return [parts[1:] for parts in ignored if parts[0] in {name, "*"}]


def _differences(first: Any, second: Any, at: _Parts, tolerance: float) -> Iterator[_Parts]:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        one, other = cast("Mapping[str, Any]", first), cast("Mapping[str, Any]", second)
        for name in sorted({*one, *other}):
            if name in one and name in other:
                yield from _differences(one[name], other[name], (*at, name), tolerance)
            else:
                yield (*at, name)
    elif isinstance(first, list) and isinstance(second, list):
        ours, theirs = cast("list[Any]", first), cast("list[Any]", second)
        for place, (each, its) in enumerate(zip(ours, theirs, strict=False)):
            yield from _differences(each, its, (*at, str(place)), tolerance)
        for place in range(min(len(ours), len(theirs)), max(len(ours), len(theirs))):
            yield (*at, str(place))
    elif not _same(first, second, tolerance):
        yield at


def _same(first: Any, second: Any, tolerance: float) -> bool:
    if _is_number(first) and _is_number(second):
        return first == second or (tolerance > 0 and math.isclose(first, second, rel_tol=tolerance))
    # For JSON true is not 1.
    return type(first) is type(second) and first == second


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _pointer(parts: _Parts) -> str:
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)
