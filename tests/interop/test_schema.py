"""What the OpenAPI document says can be sent, and what it says cannot, sent to the server and to what it holds."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.interop.processes import SdkServer

#: How many requests each operation is sent beside those that its schema asks for by itself.
EXAMPLES = 2
SEED = 1
#: It goes on until the job has ended, which a delayed one does in an hour.
HELD = "/stream$"


@pytest.mark.once("about the document")
@pytest.mark.interop
@pytest.mark.timeout(240)
def test_nothing_that_the_document_describes_is_a_server_error(sdk_server: SdkServer, tmp_path: Path) -> None:
    known = ids(sdk_server)
    (tmp_path / "schemathesis.toml").write_text(configured(known))
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "st", "--config-file", tmp_path / "schemathesis.toml", "run"),
            *(
                f"{sdk_server.base_url}/api/openapi.json",
                "-H",
                f"Authorization: Bearer {sdk_server.secret_key}",
            ),
            *(
                "--checks",
                "not_a_server_error",
                "--exclude-path-regex",
                HELD,
                "--phases",
                "coverage,fuzzing",
                "--max-examples",
                str(EXAMPLES),
            ),
            *("--seed", str(SEED), "--continue-on-failure", "--request-timeout", "10", "--no-color"),
        ],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-12_000:]
    assert httpx.get(f"{sdk_server.base_url}/readyz", trust_env=False).status_code == 200


def ids(server: SdkServer) -> dict[str, list[str]]:
    """Make one of each thing, and return the ids by the parameter that names them."""
    headers = {"authorization": f"Bearer {server.secret_key}"}
    with httpx.Client(base_url=server.base_url, headers=headers, trust_env=False) as client:

        def made(path: str, **body: object) -> dict[str, str]:
            return client.post(path, json=body).raise_for_status().json()

        job = made("/api/jobs", task="echo", data={"n": 1})
        run = made("/api/v1/tasks/echo/trigger", payload="{}", options={"delay": "1h"})
        batch = made("/api/v2/tasks/batch", items=[{"task": "echo", "payload": "{}"}])
        schedule = made("/api/v1/schedules", task="echo", cron="0 0 * * *", deduplicationKey="k")
        token = made("/api/v1/waitpoints/tokens")
        recall = made("/api/admin/cutover/rollbacks/echo", reason="r", mode="recall-unstarted")
        bulk = made("/api/v1/bulk-actions", action="cancel", runIds=[run["id"]])
    return {
        "job": [job["id"]],
        "run": [run["id"]],
        "batch": [batch["id"]],
        "bulk": [bulk["id"]],
        "schedule": [schedule["id"]],
        "token": [token["id"]],
        "recall": [recall["recall_id"]],
        "queue": ["default"],
        "task": ["echo", "*"],
        "executor": ["local"],
    }


def configured(known: Mapping[str, list[str]]) -> str:
    """Return a configuration by which most paths name what is there."""
    lists = (f"[dictionaries.{name}]\nvalues = {json.dumps(values)}\n" for name, values in known.items())
    bound = (f'"path.{name}" = {{ dictionary = "{name}", probability = 0.8 }}\n' for name in known)
    return "\n".join([*lists, "[parameters]\n" + "".join(bound)])
