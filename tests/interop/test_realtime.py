"""The official SDK subscribes to runs as if it were to Trigger.dev."""

import json
from typing import Any

import pytest

from tests.interop import node_tools
from tests.interop.processes import SdkServer

STEPS = [
    "a run to its end, with its progress",
    "a run that has ended already",
    "a run that fails, and one that is canceled",
    "nobody asks while nothing happens",
    "runs with all of some tags, those to come as well",
    "a batch, by the token that its caller was given",
    "a token sees what its scopes name",
    "what is not there",
]


@pytest.mark.once("about the SDK")
@pytest.mark.interop
@pytest.mark.timeout(180)
def test_the_sdk_is_fed(sdk_server: SdkServer) -> None:
    lines = node_tools.run_node(
        "realtime_session.mjs",
        env={"TRIGGER_API_URL": sdk_server.base_url, "TRIGGER_SECRET_KEY": sdk_server.secret_key},
        timeout=150,
    ).splitlines()
    steps: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert [step["step"] for step in steps] == STEPS
    assert all(step["ok"] for step in steps)
