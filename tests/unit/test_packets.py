"""Packets: what the SDK writes is read; what has no JSON is reduced to the nearest."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.domain.errors import InvalidArgumentError
from adapter.domain.packets import JSON, STORED, SUPERJSON, TEXT, decode_packet, encode_packet


def superjson(value: Any, values: Any = None, **meta: Any) -> Any:
    packet = {"json": value} if values is None else {"json": value, "meta": {"values": values, **meta}}
    return decode_packet(json.dumps(packet), SUPERJSON)


@pytest.mark.parametrize(
    ("text", "content_type", "value"),
    [
        ('{"a":1}', JSON, {"a": 1}),
        ('"text"', "application/json; charset=utf-8", "text"),
        ("null", "Application/JSON", None),
        (None, JSON, None),
        ("plain string", TEXT, "plain string"),
        ("", TEXT, ""),
        (None, SUPERJSON, None),
        ('{"json":{"hello":"world","n":1}}', SUPERJSON, {"hello": "world", "n": 1}),
        ('{"json":null}', SUPERJSON, None),
        ('{"json":42}', SUPERJSON, 42),
        ('{"json":{"json":1}}', SUPERJSON, {"json": 1}),
        ('{"json":1,"meta":null}', SUPERJSON, 1),
    ],
)
def test_a_packet_is_read_by_its_type(text: str | None, content_type: str, value: Any) -> None:
    assert decode_packet(text, content_type) == value


def test_what_the_sdk_sent_on_the_wire() -> None:
    text = (
        '{"json":{"d":"1970-01-01T00:00:00.000Z","b":"10","m":[["a",1]],"u":null},'
        '"meta":{"values":{"d":["Date"],"b":["bigint"],"m":["map"],"u":["undefined"]}}}'
    )
    assert decode_packet(text, SUPERJSON) == {"d": "1970-01-01T00:00:00.000Z", "b": 10, "m": {"a": 1}}


@pytest.mark.parametrize(
    ("value", "values", "expected"),
    [
        ("12345678901234567890", ["bigint"], 12_345_678_901_234_567_890),
        (None, ["undefined"], None),
        ([1, 2], ["set"], [1, 2]),
        ([[1, "a"]], ["map"], [[1, "a"]]),
        ([["k", None]], ["map", {"0.1": ["undefined"]}], {}),
        ([["k", "7"]], ["map", {"0.1": ["bigint"]}], {"k": 7}),
        ({"a": [None, 1]}, {"a.0": ["undefined"]}, {"a": [None, 1]}),
        ({"a": {"b": "1", "c": "2"}}, {"a.b": ["bigint"], "a.c": ["bigint"]}, {"a": {"b": 1, "c": 2}}),
        ({"a.b": "1"}, {"a\\.b": ["bigint"]}, {"a.b": 1}),
        ({"n": "NaN", "i": "-Infinity", "z": "-0"}, {n: ["number"] for n in "niz"}, {"n": None, "i": None, "z": 0}),
        ({"r": "/a/g", "u": "https://x.test/"}, {"r": ["regexp"], "u": ["URL"]}, {"r": "/a/g", "u": "https://x.test/"}),
        ({"t": [1]}, {"t": [["typed-array", "Uint8Array"]]}, {"t": [1]}),
        ({"c": {"d": "x"}}, {"c": [["class", "Point"], {"d": ["Date"]}]}, {"c": {"d": "x"}}),
        ({"s": [["1"]]}, {"s": ["set", {"0": ["set", {"0": ["bigint"]}]}]}, {"s": [[1]]}),
    ],
)  # fmt: skip
def test_what_json_lacks_is_reduced(value: Any, values: Any, expected: Any) -> None:
    assert superjson(value, values) == expected


def test_backslashes_in_paths_mean_two_things() -> None:
    assert superjson({"a\\": {"b": "1"}}, {"a\\\\.b": ["bigint"]}, v=1) == {"a\\": {"b": 1}}
    assert superjson({"a\\\\b": "1"}, {"a\\\\b": ["bigint"]}) == {"a\\\\b": 1}


@pytest.mark.parametrize(
    "values", [{"gone": ["bigint"]}, {"a.0.b": ["bigint"]}, {"": ["map"]}, {"a": 7}, {"a": []}, 7, "x", []]
)
def test_notes_about_nothing_are_passed_over(values: Any) -> None:
    assert superjson({"a": ["1"]}, values) == {"a": ["1"]}


@pytest.mark.parametrize(
    ("text", "content_type"),
    [
        ("{", JSON),
        ("", JSON),
        ("NaN", JSON),
        ("{}", SUPERJSON),
        ("[]", SUPERJSON),
        ('{"json":"x","meta":{"values":["bigint"]}}', SUPERJSON),
        ('{"json":"' + "9" * 9999 + '","meta":{"values":["bigint"]}}', SUPERJSON),
        ("[" * 100_000, JSON),
        ("path", STORED),
        ("x", "image/png"),
        ("x", ""),
    ],
)
def test_what_cannot_be_read_is_said(text: str, content_type: str) -> None:
    with pytest.raises(InvalidArgumentError):
        decode_packet(text, content_type)


@pytest.mark.parametrize("value", [float("nan"), {"a": float("inf")}, object(), {1, 2}])
def test_what_is_no_json_is_not_written(value: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        encode_packet(value)


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(documents)
def test_what_is_written_is_read_back(value: Any) -> None:
    text, content_type = encode_packet(value)
    assert content_type == JSON
    assert decode_packet(text, content_type) == value


@given(documents)
def test_plain_superjson_is_its_json(value: Any) -> None:
    assert superjson(value) == value


kinds = st.sampled_from(["Date", "bigint", "map", "set", "undefined", "number", "regexp", "?"])
trees = st.recursive(
    kinds.map(lambda kind: [kind]),
    lambda inner: (
        st.dictionaries(st.text("01ab.\\", max_size=4), inner, max_size=3)
        | st.tuples(kinds, st.dictionaries(st.text("01ab.", max_size=4), inner, max_size=3)).map(list)
    ),
    max_leaves=6,
)


@given(value=documents, values=trees | documents, v=st.sampled_from([None, 1]))
def test_any_notes_are_survived(value: Any, values: Any, v: int | None) -> None:
    try:
        decoded = superjson(value, values, v=v)
    except InvalidArgumentError:
        return
    json.dumps(decoded, allow_nan=False)
