"""The official SDK talks to an adapter that hands on what is not its own to where the SDK used to talk to."""

from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from adapter.store import migrate
from tests.interop import node_tools
from tests.interop.processes import SdkServer, free_port, running, wait_until_ready
from tests.interop.test_sdk import STEPS

FRONT = "tests.interop.front_app:adapter"


@pytest.mark.once("about the SDK")
@pytest.mark.interop
@pytest.mark.timeout(300)
def test_the_sdk_cannot_tell_that_somebody_stands_in_between(
    sdk_server: SdkServer, empty_database: str, tmp_path: Path
) -> None:
    migrate.upgrade(empty_database)
    key = sdk_server.secret_key
    env = {
        "DATABASE_URL": empty_database,
        "TRIGGER_UPSTREAM_URL": sdk_server.base_url,
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    # Day one: no task, no key. Later: a task of its own, under the key that the application always had.
    later = env | {"ADAPTER_API_KEYS": key, "TRIGGER_UPSTREAM_KEYS": key}
    with ExitStack() as stack:

        def front(name: str, with_env: dict[str, str]) -> SdkServer:
            port = free_port()
            server = SdkServer(f"http://127.0.0.1:{port}", key)
            web = running("serve", "--port", str(port), env=with_env, log=tmp_path / f"{name}.log", app=FRONT)
            wait_until_ready(server, stack.enter_context(web))
            return server

        first, second = front("first", env), front("second", later)
        stack.enter_context(running("worker", env=later, log=tmp_path / "front-worker.log", app=FRONT))
        lines = node_tools.run_node("sdk_session.mjs", env=seen_from(first), timeout=240).splitlines()
        assert len(lines) == len(STEPS)
        assert all('"ok":true' in line for line in lines)
        said = node_tools.run_node("pass_through_session.mjs", env=seen_from(second)).splitlines()
        assert len(said) == 6
        shown = httpx.get(
            f"{second.base_url}/api/v1/runs", headers={"authorization": f"Bearer {key}"}, trust_env=False
        )
        assert {run["taskIdentifier"] for run in shown.json()["data"]} >= {"here", "echo"}


def seen_from(server: SdkServer) -> dict[str, str]:
    return {"TRIGGER_API_URL": server.base_url, "TRIGGER_SECRET_KEY": server.secret_key}
