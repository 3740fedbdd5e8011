"""Statements and their values, as libpq sends them."""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Mapping, Sequence
from typing import LiteralString, TypeAlias
from uuid import UUID

import psycopg

#: What a parameter may be; PostgreSQL takes its type from where it stands, so a cast says it where that is unclear.
#: Bytes are in PostgreSQL's binary format, everything else travels as text.
Value: TypeAlias = "str | int | UUID | bytes | Sequence[str | int | None] | None"
#: A statement with its parameters.
Given: TypeAlias = "tuple[LiteralString, Mapping[str, Value]]"

_PARAMETER = re.compile(r"%(?:%|\((\w+)\)s)")
#: Of the binary format: dimensions, flags, the element's type, how many, the first one's number; an element's length.
_ARRAY_HEAD, _LENGTH = struct.Struct(">iiIii"), struct.Struct(">i")


def array(texts: Sequence[str | None]) -> str:
    """Return an array of texts as PostgreSQL reads it."""
    quoted = [
        "NULL" if each is None else '"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for each in texts
    ]
    return "{" + ",".join(quoted) + "}"


def binary_array(element: int, items: Sequence[bytes]) -> bytes:
    """Return an array of values in the binary format, whose type has this oid, in that format."""
    head = _ARRAY_HEAD.pack(1, 0, element, len(items), 1)
    return head + b"".join([part for item in items for part in (_LENGTH.pack(len(item)), item)])


def _encoded(value: Value) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, (str, int, UUID)):
        text = str(value)
    else:
        text = array([None if each is None else str(each) for each in value])
    if "\x00" in text:
        # libpq would take it for the end of the text, and keep what is before.
        msg = "PostgreSQL text fields cannot contain NUL (0x00) bytes"
        raise psycopg.DataError(msg)
    return text.encode()


@functools.lru_cache(maxsize=1024)
def _numbered(statement: LiteralString) -> tuple[bytes, tuple[str, ...]]:
    """Return the statement with ``$1`` for the first name, and the names in that order."""
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        name = found[1]
        return f"${names.setdefault(name, len(names) + 1)}" if name else "%"

    return _PARAMETER.sub(number, statement).encode(), tuple(names)


def ready(
    statement: LiteralString, parameters: Mapping[str, Value]
) -> tuple[bytes, list[bytes | None], list[int]]:
    """Return the statement as it is sent, its values, and which of them are binary."""
    text, names = _numbered(statement)
    given = [parameters[name] for name in names]
    return text, [_encoded(each) for each in given], [int(isinstance(each, bytes)) for each in given]
