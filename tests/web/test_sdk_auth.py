"""The official SDK with a root key, with an additional key, and with the tokens that either makes."""

import asyncio
import json

import pytest
import uvicorn

from adapter import Adapter
from tests.interop import node_tools
from tests.interop.processes import free_port
from tests.kit import eventually
from tests.web.conftest import KEY


@pytest.mark.once("about the SDK")
@pytest.mark.interop
@pytest.mark.timeout(120)
async def test_keys_and_tokens_in_the_hands_of_the_sdk(adapter: Adapter) -> None:
    port = free_port()
    made = await adapter.create_key("sdk")
    config = uvicorn.Config(adapter.asgi(), host="127.0.0.1", port=port, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        await eventually(lambda: server.started)
        try:
            said = await asyncio.to_thread(
                node_tools.run_node,
                "auth_session.mjs",
                env={
                    "TRIGGER_API_URL": f"http://127.0.0.1:{port}",
                    "ROOT_KEY": KEY,
                    "SECRET_KEY": made.secret,
                },
            )
        finally:
            server.should_exit = True
    assert len([json.loads(line) for line in said.splitlines()]) == 7
