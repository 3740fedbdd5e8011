"""Fixtures of the tests with real peers."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.processes import SdkServer, free_port, running, secret_key, wait_until_ready


@pytest.fixture
def sdk_server(database_url: str, tmp_path: Path) -> Iterator[SdkServer]:
    """The adapter's server and a worker, in processes of their own, on an empty database."""
    port = free_port()
    server = SdkServer(f"http://127.0.0.1:{port}", secret_key())
    env = {
        "DATABASE_URL": database_url,
        "ADAPTER_API_KEY": server.secret_key,
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    with ExitStack() as stack:
        web = stack.enter_context(running("serve", "--port", str(port), env=env, log=tmp_path / "web.log"))
        worker = stack.enter_context(running("worker", env=env, log=tmp_path / "worker.log"))
        wait_until_ready(server, web, worker)
        yield server
