"""The JSON that PostgreSQL can keep: less than JSON allows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

#: Python writes no integer of more than 4300 digits.
_MOST_BITS = 14_000


def problems(value: Any, path: str = "payload") -> Iterator[str]:
    """Yield where a JSON value has what jsonb refuses: NaN, infinities, U+0000 and lone surrogates.

    Also an integer of so many digits that it cannot be written at all.
    """
    if isinstance(value, str):
        if "\x00" in value:
            yield f"{path}: PostgreSQL cannot keep the character U+0000"
        if _has_surrogate(value):
            yield f"{path}: a lone surrogate is no Unicode text"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{path}: JSON has no {value}"
    elif isinstance(value, int):
        if value.bit_length() > _MOST_BITS:
            yield f"{path}: an integer of so many digits cannot be written"
    elif isinstance(value, Mapping):
        for key, item in cast("Mapping[Any, Any]", value).items():
            yield from problems(key, f"{path} (a key)")
            yield from problems(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(cast("list[Any]", value)):
            yield from problems(item, f"{path}[{place}]")


def keepable(value: Any) -> Any:
    """Return the value with what jsonb refuses replaced: by U+FFFD in text, by null for a number.

    For what others send us: their end of a job counts, whatever characters are in it.
    """
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(keepable(key)): keepable(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [keepable(item) for item in cast("list[Any]", value)]
    return value


def encode_json(value: Any) -> bytes:
    """Return compact JSON in UTF-8.

    Raises:
        ValueError: NaN, an infinity or a lone surrogate is in it.
        TypeError: something that is not JSON is in it.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
