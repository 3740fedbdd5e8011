"""What README.md shows for an application that has Trigger.dev's SDK works as it stands there."""

from pathlib import Path

import pytest

from tests.interop import node_tools
from tests.interop.processes import SdkServer, free_port, running, secret_key, wait_until_ready
from tests.test_readme import README, blocks


@pytest.mark.once("about the SDK")
@pytest.mark.interop
@pytest.mark.timeout(120)
def test_the_sdk_follows_a_job_of_the_readme(database_url: str, tmp_path: Path) -> None:
    (script,) = blocks(README, "js")
    (tmp_path / "readme_app.py").write_text(blocks(README, "python")[0])
    server = SdkServer(f"http://127.0.0.1:{free_port()}", secret_key())
    env = {
        "DATABASE_URL": database_url,
        "ADAPTER_API_KEYS": server.secret_key,
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(tmp_path),
    }
    # Node finds packages beside the script.
    beside = node_tools.NODE_PROJECT / f"readme-{tmp_path.name}.mjs"
    beside.write_text(script)
    try:
        port = server.base_url.rpartition(":")[2]
        command = ("serve", "--work", "--port", port)
        with running(*command, env=env, log=tmp_path / "web.log", app="readme_app:adapter") as web:
            wait_until_ready(server, web)
            said = node_tools.run_node(
                beside.name,
                env={"TRIGGER_API_URL": server.base_url, "TRIGGER_SECRET_KEY": server.secret_key},
            )
    finally:
        beside.unlink()
    assert said.splitlines()[-1] == "COMPLETED { rows: 3 }"
