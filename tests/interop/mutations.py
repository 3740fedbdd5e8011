"""Requests with a fault in them: made of real ones, the same again for the same seed."""

import json
import string
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, cast

from tests.interop.recording import Recorded

#: Stands in a value's place until the text is made, for `json.dumps` would not write everything.
_PLACE = "(something strange)"
_STRANGE = json.dumps(_PLACE)
#: JSON texts that somebody's code is not prepared for.
_TEXTS = (
    *("null", "true", "false", "0", "-1", "1.5", '""', '" "', "[]", "{}", "[null]", '{"": null}'),
    *("2147483648", "-2147483649", "9223372036854775808", "-9223372036854775809", "1" * 400, "1" * 5000),
    *("1e308", "-1e308", "1e400", "-1e400", "1e-400", "NaN", "Infinity", "-Infinity", '"NaN"', '"Infinity"'),
    *(r'"\u0000"', r'"a\u0000b"', r'"\ud800"', r'"\udc00\ud800"', '"\U0001f600"', r'"\\u0000"', '"\x7f"'),
    *(
        '"2026-13-45T99:99:99Z"',
        '"0001-01-01T00:00:00Z"',
        '"9999-12-31T23:59:59+23:59"',
        '"-271821-04-20T00:00:00Z"',
    ),
    *('"999999999999d"', '"0s"', '"-1h"', '"1y"', '"P1D"', '"99999999999999999999"'),
    *('"application/store"', '"application/super+json"', '"run_"', '"../../etc/passwd"', '"%00"', '"$1; --"'),
    *(
        f'"{"x" * 70_000}"',
        f'"{"☂" * 300}"',
        json.dumps(["t"] * 2000),
        json.dumps({str(n): n for n in range(500)}),
    ),
    *(
        "[" * 300 + "]" * 300,
        "[" * 900 + "]" * 900,
        "[" * 20_000 + "]" * 20_000,
        '{"a":' * 900 + "1" + "}" * 900,
    ),
    *('{"json":null,"meta":{"values":{"":["Date"]}}}', '{"__proto__":{}}', '{"$ref":"#"}'),
)
_SEGMENTS = (
    *(
        b"%00",
        b"a%00b",
        b"%2F",
        b"a%2Fb",
        b"..",
        b".",
        b"%2e%2e",
        b"%",
        b"%zz",
        b"%ff%fe",
        b"%ed%a0%80",
        b"%F0%9F%98%80",
    ),
    *(
        "☂".encode(),
        b"x" * 5000,
        b"*",
        b"-1",
        b"0",
        b"99999999999999999999",
        b"null",
        b"undefined",
        b"[object%20Object]",
    ),
    *(
        b"run_",
        b"run_" + b"z" * 25,
        b"run_" + b"9" * 200,
        b"batch_%00",
        b"sched_..",
        b"queue_%20",
        b"waitpoint_%F0",
        b"",
    ),
    *(
        b"00000000-0000-0000-0000-000000000000",
        b"%0d%0aX-Y:%201",
        b"a;b",
        b"a%3Fb",
        b"%E2%80%AE",
        b"%25%30%30",
    ),
)
_VALUES = (
    *(
        b"",
        b"%00",
        b"-1",
        b"0",
        b"1e9",
        b"NaN",
        b"99999999999999999999",
        b"x" * 5000,
        b"%ff",
        b"%ed%a0%80",
        b"%F0%9F%98%80",
    ),
    *(
        b",",
        b",,",
        b"a,b",
        b"[]",
        b"{}",
        b"null",
        b"true",
        b"1.5",
        b"2026-13-45",
        b"run_x",
        b"1d",
        b"999999999999d",
    ),
)
_FIELDS = (
    *(
        b"page[size]",
        b"page[after]",
        b"page[before]",
        b"page",
        b"perPage",
        b"limit",
        b"filter[status]",
        b"filter[tag]",
    ),
    *(
        b"filter[createdAt][period]",
        b"filter[createdAt][from]",
        b"filter[createdAt][to]",
        b"filter[batch]",
        b"type",
    ),
    *(
        b"filter[schedule]",
        b"filter[isTest]",
        b"filter[",
        b"%00",
        b"__proto__",
        b"after",
        b"status",
        b"tags",
        b"",
    ),
)
_HEADERS = (
    *(
        b"content-type",
        b"content-encoding",
        b"accept",
        b"accept-encoding",
        b"origin",
        b"cookie",
        b"range",
        b"expect",
    ),
    *(b"idempotency-key", b"idempotency-key-ttl", b"x-trigger-jwt", b"x-trigger-client", b"trigger-version"),
    *(
        b"x-trigger-worker",
        b"x-trigger-branch",
        b"x-trigger-span-parent-as-link",
        b"traceparent",
        b"tracestate",
    ),
    *(
        b"x-trigger-realtime-streams-version",
        b"if-none-match",
        b"last-event-id",
        b"forwarded",
        b"x-forwarded-proto",
    ),
    *(b"x-http-method-override", b"sec-fetch-site", b"x-trigger-api-version", b"x-forwarded-host"),
)
_HEADER_VALUES = (
    *(
        b"",
        b" ",
        b"\xff\xfe",
        "☂".encode(),
        b"x" * 5000,
        b"null",
        b"-1",
        b"0",
        b"99999999999999999999",
        b"gzip",
        b"{}",
    ),
    *(
        b"application/xml",
        b"application/json; charset=utf-16",
        b"multipart/form-data",
        b"text/plain; =",
        b"1h",
        b"999999999999d",
    ),
    *(
        b"Bearer",
        b"Bearer  ",
        b"Bearer a.b.c",
        b"Basic eDp5",
        b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01",
        b"bytes=5-1",
    ),
)
_METHODS = (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"HEAD", b"TRACE", b"BREW")

Mutation = Callable[[Random, Recorded], Recorded]


def mutated(dice: Random, request: Recorded) -> Recorded:
    """Return the request with one to three faults."""
    kinds: list[Mutation] = (
        [_path, _query, _header, _method] if not request.body else [_path, _query, _header]
    )
    kinds += [_json, _json, _json, _json, _json, _json, _bytes, _lines] if request.body else [_sudden_body]
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        request = dice.choice(kinds)(dice, request)
    return request


def _json(dice: Random, request: Recorded) -> Recorded:
    """Put another value at a random path, leave a member out, or add one."""
    lines = request.body.split(b"\n")
    at = dice.randrange(len(lines))
    try:
        line = json.dumps(_changed(dice, json.loads(lines[at])))
    except (ValueError, RecursionError):
        # A fault before this one.
        return _bytes(dice, request)
    lines[at] = line.replace(_STRANGE, dice.choice(_TEXTS)).encode()
    return replace(request, body=b"\n".join(lines))


def _changed(dice: Random, value: Any) -> Any:
    if not value or not isinstance(value, dict | list) or dice.random() < 0.1:
        return _PLACE
    whole = cast("dict[str, Any] | list[Any]", value)
    key: Any = dice.choice(list(whole)) if isinstance(whole, dict) else dice.randrange(len(whole))
    roll = dice.random()
    if roll < 0.1:
        del whole[key]
    elif roll < 0.2 and isinstance(whole, dict):
        whole[dice.choice(("", "\x00", "x" * 300, "options", "payloadType", "constructor"))] = _PLACE
    elif roll < 0.25 and isinstance(whole, list):
        whole *= 3
    elif roll < 0.4:
        whole[key] = _PLACE
    elif isinstance(whole[key], str) and whole[key].startswith(("{", "[")) and roll < 0.7:
        # A payload is JSON within JSON.
        whole[key] = dice.choice(_TEXTS)
    else:
        whole[key] = _changed(dice, whole[key])
    return whole


def _bytes(dice: Random, request: Recorded) -> Recorded:
    body = bytearray(request.body)
    at = dice.randrange(len(body)) if body else 0
    match dice.randrange(5):
        case 0:
            body = body[:at]
        case 1 if body:
            body[at] ^= 1 << dice.randrange(8)
        case 2:
            body[at:at] = dice.choice((b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b'"', b"}", b"\r"))
        case 3:
            body *= 2
        case _:
            body = bytearray(dice.randbytes(dice.randrange(1, 200)))
    return replace(request, body=bytes(body))


def _lines(dice: Random, request: Recorded) -> Recorded:
    """Break what is one object a line: also where the server expects no lines."""
    lines = request.body.split(b"\n")
    match dice.randrange(5):
        case 0:
            lines.insert(
                dice.randrange(len(lines) + 1), dice.choice((b"", b"null", b"[]", b"{", b"1", b"{}", b"\x00"))
            )
        case 1:
            lines = lines[: dice.randrange(len(lines) + 1)]
        case 2:
            lines.append(dice.choice(lines))
        case 3:
            lines = [b"".join(lines)]
        case _:
            lines = [line + b"\r" for line in reversed(lines)]
    return replace(request, body=b"\n".join(lines))


def _path(dice: Random, request: Recorded) -> Recorded:
    path, mark, query = request.target.partition(b"?")
    segments = path.split(b"/")
    # The first three say which API it is.
    at = dice.randrange(min(3, len(segments) - 1), len(segments))
    match dice.randrange(4):
        case 0:
            segments.insert(at, dice.choice(_SEGMENTS))
        case 1:
            segments[at] += dice.choice(_SEGMENTS)
        case _:
            segments[at] = dice.choice(_SEGMENTS)
    return replace(request, target=b"/".join(segments) + mark + query)


def _query(dice: Random, request: Recorded) -> Recorded:
    path, _, query = request.target.partition(b"?")
    fields = [each for each in query.split(b"&") if each]
    at = dice.randrange(len(fields)) if fields else 0
    match dice.randrange(4 if fields else 1):
        case 0:
            fields.append(dice.choice(_FIELDS) + b"=" + dice.choice(_VALUES))
        case 1:
            fields.append(fields[at])
        case 2:
            fields[at] = dice.choice(_VALUES)
        case _:
            fields[at] = fields[at].partition(b"=")[0] + b"=" + dice.choice(_VALUES)
    return replace(request, target=path + b"?" + b"&".join(fields))


def _header(dice: Random, request: Recorded) -> Recorded:
    headers = list(request.headers)
    at = dice.randrange(len(headers))
    match dice.randrange(4):
        case 0:
            del headers[at]
        case 1:
            headers.append(headers[at])
        case 2:
            headers[at] = (headers[at][0], dice.choice(_HEADER_VALUES))
        case _:
            headers.append((dice.choice(_HEADERS), dice.choice(_HEADER_VALUES)))
    return replace(request, headers=tuple(headers))


def _method(dice: Random, request: Recorded) -> Recorded:
    return replace(request, method=dice.choice(_METHODS))


def _sudden_body(dice: Random, request: Recorded) -> Recorded:
    letters = "".join(dice.choices(string.printable, k=40))
    return replace(request, body=dice.choice((b"{}", b"[]", b"null", b"{", b"\x00\xff", letters.encode())))
