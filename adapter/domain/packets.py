"""Packets: the text and the content type in which Trigger.dev carries payloads and outputs.

Its API contract, section 4. ``application/super+json`` is superjson's ``{"json", "meta"}``: what plain
JSON lacks is named in ``meta.values`` and reduced here to the nearest JSON.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NoReturn, cast

from adapter.domain.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = "application/json"
SUPERJSON = "application/super+json"
TEXT = "text/plain"
#: The text is a path in the object store; the caller fetches it and decodes what lies there.
STORED = "application/store"

_UNDEFINED = object()


def decode_packet(text: str | None, content_type: str) -> Any:
    """Return the packet's value as plain JSON; None for a packet without text.

    Of superjson: undefined drops its key (in a list it is None), a Date stays an ISO string, a bigint
    is an int, a Map a dict when all its keys are strings and else a list of pairs, a Set a list, NaN
    and the infinities None; a RegExp, a URL and a class stay as superjson wrote them.

    Raises:
        InvalidArgumentError: the text is not of that type, or the type is unknown or `STORED`.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == TEXT:
        return text
    if kind not in {JSON, SUPERJSON}:
        raise InvalidArgumentError(f"A packet of type {content_type!r} cannot be decoded.")
    if text is None:
        return None
    try:
        value = _DECODER.decode(text)
        return value if kind == JSON else _plain(value)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"The packet is no {kind}: {error}") from None


def encode_packet(value: Any) -> tuple[str, str]:
    """Return (text, content type) of a JSON value.

    Raises:
        InvalidArgumentError: it is not JSON.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False), JSON
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidArgumentError(f"The value is no JSON: {error}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


#: Made once: `json.loads` would make one for each text.
_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _plain(packet: Any) -> Any:
    if not isinstance(packet, dict) or "json" not in packet:
        raise ValueError("the key 'json' is missing")
    fields = cast("dict[str, Any]", packet)
    meta: Any = fields.get("meta")
    if not isinstance(meta, dict):
        return fields["json"]
    notes = cast("dict[str, Any]", meta)
    legacy = not notes.get("v")
    # The value sits in a holder, so that its root can be replaced like any other place.
    holder: list[Any] = [fields["json"]]
    for path, kind in _walk(notes.get("values"), ["0"], legacy):
        _reduce(holder, path, kind)
    return None if holder[0] is _UNDEFINED else _without_undefined(holder[0])


def _walk(tree: Any, path: list[str], legacy: bool) -> Iterator[tuple[list[str], str]]:  # noqa: FBT001 - superjson's flag
    """Yield (path, kind) of every noted place, the inner ones first."""
    if isinstance(tree, dict):
        for key, inner in cast("dict[str, Any]", tree).items():
            yield from _walk(inner, path + _segments(key, legacy), legacy)
    elif isinstance(tree, list) and tree:
        node = cast("list[Any]", tree)
        if len(node) > 1:
            yield from _walk(node[1], path, legacy)
        if isinstance(node[0], str):
            yield path, node[0]


def _segments(key: str, legacy: bool) -> list[str]:  # noqa: FBT001 - superjson's flag
    r"""Split a path at its dots; ``\.`` is a dot within a key, and since version 1 ``\\`` a backslash."""
    segments, segment, at = [""], "", 0
    while at < len(key):
        pair = key[at : at + 2]
        if pair == "\\." or (pair == "\\\\" and not legacy):
            segment += pair[1]
            at += 1
        elif key[at] == ".":
            segments[-1] = segment
            segments.append("")
            segment = ""
        else:
            segment += key[at]
        at += 1
    segments[-1] = segment
    return segments


def _reduce(holder: list[Any], path: list[str], kind: str) -> None:
    """Replace what is at ``path``; notes about a place that is not there are passed over."""
    place: Any = holder
    for step in path[:-1]:
        place = _inside(place, step)
    old = _inside(place, path[-1])
    if isinstance(place, dict) and path[-1] in place:
        cast("dict[str, Any]", place)[path[-1]] = _reduced(old, kind)
    elif isinstance(place, list) and old is not _UNDEFINED:
        cast("list[Any]", place)[int(path[-1])] = _reduced(old, kind)


def _inside(place: Any, step: str) -> Any:
    if isinstance(place, dict):
        return cast("dict[str, Any]", place).get(step, _UNDEFINED)
    if isinstance(place, list):
        items = cast("list[Any]", place)
        if step.isascii() and step.isdecimal() and len(step) < 12 and int(step) < len(items):
            return items[int(step)]
    return _UNDEFINED


def _reduced(value: Any, kind: str) -> Any:
    if kind == "undefined":
        return _UNDEFINED
    if kind == "bigint" and isinstance(value, str):
        return int(value)
    if kind == "map" and isinstance(value, list):
        return _map(cast("list[Any]", value))
    if kind == "number" and isinstance(value, str):
        number = float(value)
        return number if math.isfinite(number) else None
    return value


def _map(pairs: list[Any]) -> Any:
    found: dict[str, Any] = {}
    for pair in pairs:
        if not isinstance(pair, list):
            return pairs
        match cast("list[Any]", pair):
            case [str() as key, value]:
                found[key] = value
            case _:
                return pairs
    return found


def _without_undefined(value: Any) -> Any:
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {key: _without_undefined(each) for key, each in fields.items() if each is not _UNDEFINED}
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [None if each is _UNDEFINED else _without_undefined(each) for each in items]
    return value
