"""The official SDK drives the adapter as if it were Trigger.dev."""

import json
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.interop import node_tools
from tests.interop.mutations import mutated
from tests.interop.processes import SdkServer
from tests.interop.raw_http import send
from tests.interop.recording import Recorder, distinct

STEPS = [
    "trigger and poll",
    "retrieve",
    "trigger with every option, twice under one idempotency key",
    "one idempotency key, two tasks",
    "payloads that are no objects",
    "no payload",
    "a payload that is offloaded",
    "a task id with slash and space",
    "a run that fails",
    "a run that fails once is tried again",
    "cancel of a delayed run",
    "cancel of a running run",
    "list by status, task, tag and period",
    "list in pages of two",
    "an unknown run",
    "a wrong key",
    "more than ten tags",
]


RESOURCES = [
    "a schedule is made, made again, changed, turned and deleted",
    "a schedule that cannot be",
    "a queue is found, paused, resumed and limited",
    "a queue that is not there, and a limit that cannot be",
    "a token is made, found by its key, completed once, and listed",
    "a token that was not completed in time, one that is not there, and one of somebody else",
    "variables are set, imported, read and removed",
    "variables and deployments that are not there",
]
BATCHES = [
    "batch.trigger, of two tasks",
    "tasks.batchTrigger, a thousand at once",
    "batch.triggerByTask, and a task's own batchTrigger",
    "items that come as a stream",
    "payloads of a batch that are offloaded",
    "a batch under one key, and its items under keys made of it",
    "keys of items, and idempotencyKeys.create with its scopes",
    "items that cannot be triggered",
    "batches that cannot be",
    "debounce, leading and trailing",
    "a task that nobody knows",
]
RUNS = [
    "a run with its family, and what it was asked for",
    "a payload and an output that are too large to be inline",
    "every filter at once, and those that find nothing",
    "pages forward, back and in a loop",
    "a delayed run is moved",
    "a run is replayed, as it was and otherwise",
    "an idempotency key is reset",
    "many runs are canceled and replayed at once",
    "a run that ends by its ttl ends a poll",
]
#: How many requests of the SDK are sent again with faults in them.
MUTATIONS = 1500
#: What is run after one another on one server, and the steps it must take.
SESSIONS = {
    "sdk_session.mjs": STEPS,
    "sdk_runs.mjs": RUNS,
    "sdk_resources.mjs": RESOURCES,
    "sdk_batches.mjs": BATCHES,
}


@pytest.mark.once("about the SDK")
@pytest.mark.interop
@pytest.mark.timeout(300)
def test_the_sdk_finds_what_it_knows_and_nothing_like_it_breaks_the_server(sdk_server: SdkServer) -> None:
    recorder = Recorder(urlsplit(sdk_server.base_url).port or 0)
    with recorder.open() as url:
        drive(url, sdk_server.secret_key)
    requests = distinct(recorder.requests())
    assert len(requests) > 100
    for seed in range(MUTATIONS):
        dice = Random(seed)
        request = mutated(dice, dice.choice(requests))
        answer = send(request, recorder.port)
        fault = answer.fault(request)
        assert fault is None, f"seed {seed}: {fault}\n{answer}\nsend({request!r}, port)"
    assert send(requests[0], recorder.port).status == 200


def drive(url: str, secret_key: str) -> None:
    env = {"TRIGGER_API_URL": url, "TRIGGER_SECRET_KEY": secret_key}
    for script, expected in SESSIONS.items():
        lines = node_tools.run_node(script, env=env, timeout=240).splitlines()
        steps: list[dict[str, Any]] = [json.loads(line) for line in lines]
        assert [step["step"] for step in steps] == expected
        assert all(step["ok"] for step in steps)
