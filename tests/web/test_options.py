from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.domain.debounce import Debounce
from adapter.web.errors import ApiError
from adapter.web.trigger_api.options import ReplayBody, TriggerBody, validated

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def call(**options: Any) -> dict[str, Any]:
    return validated(TriggerBody, {"payload": 1, "options": options}).options.as_call(NOW)


def refused(status: int, **options: Any) -> str:
    with pytest.raises(ApiError) as caught:
        call(**options)
    assert caught.value.status == status
    return str(caught.value)


def test_the_sdk_s_own_sample_with_every_option() -> None:
    """The contract, 5."""
    assert call(
        queue={"name": "my-queue"},
        concurrency=["openai"],
        concurrencyKey="tenant-1",
        payloadType="application/super+json",
        payloadSize=21,
        idempotencyKey="5e78863e",
        idempotencyKeyTTL="1h",
        idempotencyKeyOptions={"key": "my-key", "scope": "global"},
        delay="10m",
        ttl="1h",
        tags=["a", "b:1"],
        maxAttempts=3,
        metadata={"k": "v", "nested": {"x": 1}},
        maxDuration=60,
        machine="small-2x",
        priority=10,
        region="eu-central-1",
        lockToVersion="20250101.1",
        externalDeploymentId="sha-1",
        debounce={"key": "dk", "delay": "5s", "mode": "trailing", "maxDelay": "1m"},
    ) == {
        "queue": "my-queue",
        "concurrency_key": "tenant-1",
        "idempotency_key": "5e78863e",
        "idempotency_ttl": timedelta(hours=1),
        "debounce": Debounce("dk", timedelta(seconds=5), trailing=True, longest=timedelta(minutes=1)),
        "ttl": timedelta(hours=1),
        "tags": ("a", "b:1"),
        "max_attempts": 3,
        "metadata": {"k": "v", "nested": {"x": 1}},
        "max_duration": timedelta(seconds=60),
        "priority": 10,
        "extra": {
            "machine": "small-2x",
            "region": "eu-central-1",
            "version": "20250101.1",
            "deployment": "sha-1",
            "concurrency": ["openai"],
            "idempotency": {"key": "my-key", "scope": "global"},
            "ttl": "1h",
        },
    }


def test_what_was_not_asked_is_not_passed_on() -> None:
    assert call() == {}
    empty: dict[str, Any] = {
        "queue": None,
        "concurrencyKey": "",
        "idempotencyKey": "",
        "delay": "",
        "ttl": 0,
        "tags": [],
    }
    assert call(**empty, metadata=None, maxAttempts=None) == {}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"concurrencyKey": 7}, {"concurrency_key": "7"}),
        ({"tags": "single"}, {"tags": ("single",)}),
        ({"tags": ["a", " ", "a", ""]}, {"tags": ("a",)}),
        ({"ttl": 90}, {"ttl": timedelta(seconds=90), "extra": {"ttl": "1m30s"}}),
        ({"ttl": "0s"}, {}),
        ({"maxDuration": 1}, {"max_duration": timedelta(seconds=5)}),
        ({"maxAttempts": 9999}, {"max_attempts": 250}),
        ({"priority": 1.6}, {"priority": 2}),
        ({"metadata": '{"a":1}'}, {"metadata": {"a": 1}}),
        ({"delay": "2026-11-22T13:00:00.000Z"}, {"due": NOW + timedelta(hours=1)}),
        ({"delay": "2026-11-22T14:00:00+01:00"}, {"due": NOW + timedelta(hours=1)}),
        ({"delay": "2026-11-22T11:00:00.000Z"}, {}),
        ({"delay": "1w2d"}, {"delay": timedelta(days=9)}),
        ({"idempotencyKey": "k", "idempotencyKeyTTL": "soon"}, {"idempotency_key": "k"}),
        (
            {"idempotencyKey": "k", "idempotencyKeyTTL": "999999999d"},
            {"idempotency_key": "k", "idempotency_ttl": timedelta(days=36_525)},
        ),
        ({"parentRunId": "run_1", "externalDeploymentId": "", "test": False, "new": {}}, {}),
        (
            {"resumeParentOnCompletion": True, "test": True},
            {"extra": {"resumes_parent": True, "test": True}},
        ),
        (
            {"debounce": {"key": "k", "delay": "1m"}, "delay": "1h"},
            {"debounce": Debounce("k", timedelta(minutes=1))},
        ),
    ],
)
def test_edges(given: dict[str, Any], read: dict[str, Any]) -> None:
    assert call(**given) == read


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"machine": "bogus"}, "options.machine"),
        ({"tags": ["t" * 129]}, "options.tags"),
        ({"tags": [1]}, "options.tags"),
        ({"tags": ["a\x00"]}, "options.tags"),
        ({"idempotencyKey": "k" * 2049}, "options.idempotencyKey"),
        ({"idempotencyKey": 7}, "options.idempotencyKey"),
        ({"queue": "name"}, "options.queue"),
        ({"queue": {"name": "\ud800"}}, "options.queue.name"),
        ({"maxAttempts": 0}, "options.maxAttempts"),
        ({"maxAttempts": 1.5}, "options.maxAttempts"),
        ({"maxAttempts": "3"}, "options.maxAttempts"),
        ({"ttl": -1}, "options.ttl"),
        ({"priority": 2**31}, "options.priority"),
        ({"maxDuration": float("inf")}, "options.maxDuration"),
        ({"delay": 5}, "options.delay"),
    ],
)
def test_what_upstream_s_schema_refuses(options: dict[str, Any], where: str) -> None:
    message = refused(400, **options)
    assert message.startswith("Validation error: ")
    assert where in message


@pytest.mark.parametrize("metadata", ["text", "[]", [1], 7])
def test_metadata_is_an_object(metadata: Any) -> None:
    assert "options.metadata" in refused(400, metadata=metadata)


@pytest.mark.parametrize(
    "options",
    [
        {"delay": "tomorrow"},
        {"delay": "999999999d"},
        {"delay": "9999-12-31T00:00:00Z"},
        {"ttl": "soon"},
        {"ttl": 10**12},
        {"ttl": "99999999w"},
        {"maxDuration": 1e15},
    ],
)
def test_times_that_cannot_be(options: dict[str, Any]) -> None:
    refused(422, **options)


def test_upstream_s_words_for_too_many_tags() -> None:
    words = refused(422, tags=[f"t{number}" for number in range(11)])
    assert words == "Runs can only have 10 tags, you're trying to set 11."


def test_too_much_metadata() -> None:
    refused(413, metadata={"a": "x" * 256 * 1024})


def test_a_body_without_options() -> None:
    assert validated(TriggerBody, {}).options.as_call(NOW) == {}
    assert validated(TriggerBody, {"payload": None, "context": {}}).payload is None


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({}, {}),
        (
            {"queue": "q", "maxAttempts": 2, "tags": ["r"], "delay": "1m"},
            {"queue": "q", "max_attempts": 2, "tags": ("r",), "delay": timedelta(minutes=1)},
        ),
        ({"version": "1", "region": "eu", "machine": "micro", "payloadType": "application/json"}, {}),
    ],
)
def test_replay_overrides(given: dict[str, Any], read: dict[str, Any]) -> None:
    assert validated(ReplayBody, given).as_call(NOW) == read


@pytest.mark.parametrize(
    "given", [{"new": 1}, {"payloadType": "text/plain"}, {"queue": {"name": "q"}}, {"max_attempts": 1}]
)
def test_unknown_replay_overrides_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        validated(ReplayBody, given)
    assert caught.value.status == 400


NAMES = st.sampled_from(
    [
        "queue",
        "concurrencyKey",
        "idempotencyKey",
        "idempotencyKeyTTL",
        "idempotencyKeyOptions",
        "delay",
        "ttl",
        "tags",
        "maxAttempts",
        "maxDuration",
        "metadata",
        "machine",
        "priority",
        "payloadType",
        "concurrency",
        "debounce",
        "externalDeploymentId",
        "parentRunId",
        "test",
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["1d", "9" * 20 + "d", "2026-01-01"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "key", "scope", "delay", "mode"]), inner)
    ),
    max_leaves=6,
)


@given(st.dictionaries(NAMES, VALUES))
def test_nothing_but_an_answer_is_ever_raised(options: dict[str, Any]) -> None:
    try:
        call(**options)
        status = 200
    except ApiError as error:
        status = error.status
    assert status in {200, 400, 413, 422}
