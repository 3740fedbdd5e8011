"""Reading request bodies: never more than is allowed, never JSON that PostgreSQL cannot keep."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NoReturn, cast

from adapter.domain.errors import BodyTooLargeError

if TYPE_CHECKING:
    from starlette.requests import Request


#: What is nested more often than some 250 times can be read, and is not written by all who would show it.
_DEEPEST = 200


class BadJsonError(ValueError):
    """The text is no JSON, or JSON that cannot be stored."""


async def read_body(request: Request, limit: int) -> bytes:
    """Return the raw body.

    A declared length above ``limit`` is refused before a byte is read; a false or missing one does not
    help, since the bytes are counted as they come.

    Raises:
        BodyTooLargeError: it is longer than ``limit`` bytes.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdecimal() and int(declared[:19]) > limit:
        raise BodyTooLargeError(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BodyTooLargeError(limit)
    return bytes(body)


def load_json(body: bytes) -> Any:
    """Return the value.

    Raises:
        BadJsonError: it is no JSON in UTF-8, or holds NaN, a number beyond all floats, U+0000 or a lone surrogate,
            or is nested more than `_DEEPEST` times.
    """
    try:
        value = _DECODER.decode(body.decode())
        if b"\\u" in body:
            _storable(value)
        if body.count(b"[") + body.count(b"{") > _DEEPEST:
            _shallow(value)
    except (ValueError, RecursionError) as error:
        raise BadJsonError(str(error)) from None
    return value


def load_object(body: bytes) -> dict[str, Any]:
    """Return the object.

    Raises:
        BadJsonError: it is no JSON object.
    """
    value = load_json(body)
    if not isinstance(value, dict):
        raise BadJsonError("not an object")
    return cast("dict[str, Any]", value)


def is_text(value: str) -> bool:
    """Whether PostgreSQL can keep it: no U+0000, no lone surrogate."""
    return "\x00" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


#: Made once: `json.loads` would make one for each body.
_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def _storable(value: Any) -> None:
    """Refuse what only an escape can bring in; the dump shows every text and every key at once."""
    text = json.dumps(value, ensure_ascii=False)
    text.encode()
    # Without its doubled backslashes, what is left of them in front of a u is an escape.
    if "\\u0000" in text.replace("\\\\", ""):
        raise ValueError("U+0000 cannot be stored")


def _shallow(value: Any) -> None:
    """Refuse what is nested too deeply, level by level: what would recurse is what is to be kept out."""
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(_DEEPEST):
        level = [
            inner
            for each in level
            for inner in (cast("dict[str, Any]", each).values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {_DEEPEST} times")
