"""Metadata as operations change it (Trigger.dev's API contract, 7.7)."""

from typing import Any

import pytest

from adapter.domain.errors import InvalidArgumentError, MetadataTooLargeError
from adapter.domain.metadata_operations import MOST_BYTES, Kind, MetadataOperation, apply_operations

BEFORE: dict[str, Any] = {
    "stage": "a",
    "n": 2,
    "log": ["x", "y", 1, True],
    "deep": {"list": [{"name": "one"}, {"name": "two"}], "a key": 1},
}


@pytest.mark.parametrize(
    ("kind", "key", "value", "changed"),
    [
        ("set", "stage", None, {"stage": None}),
        ("set", "new", {"x": 1}, {"new": {"x": 1}}),
        ("set", "$.stage", "b", {"stage": "b"}),
        (
            "set",
            "$.deep.list[1].name",
            2,
            {"deep": {"list": [{"name": "one"}, {"name": 2}], "a key": 1}},
        ),
        ("set", "$.deep.list.0", 1, {"deep": {"list": [1, {"name": "two"}], "a key": 1}}),
        ("set", "$.deep['a key']", 2, {"deep": {"list": BEFORE["deep"]["list"], "a key": 2}}),
        ("set", "$.made[2].x", 1, {"made": [None, None, {"x": 1}]}),
        ("set", "$.stage.in.the.way", 1, {"stage": {"in": {"the": {"way": 1}}}}),
        ("set", "$", 1, {"$": 1}),
        ("set", "a.b", 1, {"a.b": 1}),
        ("increment", "n", 3, {"n": 5}),
        ("increment", "n", -0.5, {"n": 1.5}),
        ("increment", "stage", 1, {"stage": 1}),
        ("increment", "$.deep.count", 1, {"deep": {**BEFORE["deep"], "count": 1}}),
        ("append", "log", [2], {"log": ["x", "y", 1, True, [2]]}),
        ("append", "fresh", 1, {"fresh": [1]}),
        ("append", "stage", "b", {"stage": ["a", "b"]}),
        ("append", "$.deep.list", 3, {"deep": {**BEFORE["deep"], "list": [*BEFORE["deep"]["list"], 3]}}),
        ("remove", "log", "x", {"log": ["y", 1, True]}),
        ("remove", "log", 1, {"log": ["x", "y", True]}),
        ("remove", "stage", "a", {}),
        ("remove", "$.deep.list", {"name": "one"}, {"deep": {"list": [{"name": "two"}], "a key": 1}}),
    ],
)
def test_each_operation(kind: Kind, key: str, value: Any, changed: dict[str, Any]) -> None:
    assert apply_operations(BEFORE, [MetadataOperation(kind, key, value)]) == BEFORE | changed


@pytest.mark.parametrize(
    ("key", "left"),
    [
        ("stage", {"n": 2, "log": BEFORE["log"], "deep": BEFORE["deep"]}),
        ("nothing", BEFORE),
        ("$.deep.list[0]", BEFORE | {"deep": {"list": [{"name": "two"}], "a key": 1}}),
        ("$.deep.list[7]", BEFORE),
    ],
)
def test_delete(key: str, left: dict[str, Any]) -> None:
    assert apply_operations(BEFORE, [MetadataOperation("delete", key)]) == left


def test_an_update_replaces_everything_and_what_comes_after_is_applied_to_it() -> None:
    operations = [MetadataOperation("update", value={"n": 1}), MetadataOperation("increment", "n", 1)]
    assert apply_operations(BEFORE, operations) == {"n": 2}


@pytest.mark.parametrize(
    "operation",
    [
        MetadataOperation("set", "__proto__", 1),
        MetadataOperation("set", "$.deep.constructor.x", 1),
        MetadataOperation("set", "$.deep['prototype']", 1),
        MetadataOperation("set", "fine", {"deeper": [{"__proto__": 1}]}),
        MetadataOperation("update", value={"constructor": 1}),
        MetadataOperation("set", "$.", 1),
        MetadataOperation("set", "$.a..b", 1),
        MetadataOperation("set", "$.a[", 1),
        MetadataOperation("set", "$.a[20000]", 1),
        MetadataOperation("set", "$" + ".a" * 40, 1),
    ],
)
def test_what_cannot_be_written_is_refused(operation: MetadataOperation) -> None:
    with pytest.raises(InvalidArgumentError):
        apply_operations(BEFORE, [operation])


def test_there_is_a_bound_and_it_is_in_bytes() -> None:
    text = "ä" * (MOST_BYTES // 2)
    with pytest.raises(MetadataTooLargeError):
        apply_operations({}, [MetadataOperation("set", "a", text)])
    assert apply_operations({}, [MetadataOperation("set", "a", text[:-10])])
