"""The guide's words on the command line, and its log lines."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from adapter import Adapter, JobContext
from adapter.cli.logs import configure
from tests import kit, pooling
from tests.rig import Rig, rigged


def adapter_command(database_url: str, *arguments: str, **environment: str) -> Any:
    """Run ``adapter … --json`` on the guide's application; returns what it answered."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "adapter.cli",
            "--app",
            "tests.seeds.application:adapter",
            "--json",
            *arguments,
        ],
        cwd=kit.ROOT,
        env=pooling.environment(
            {"PATH": os.defpath, "PYTHONPATH": str(kit.ROOT), "DATABASE_URL": database_url, **environment}
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.once("about names")
@pytest.mark.timeout(90)
def test_internal_is_an_alias_of_local_in_every_command_that_names_an_executor(database_url: str) -> None:
    scheduled = adapter_command(database_url, "jobs", "schedule", "watchChain", "--executor", "internal")
    assert '"local"' in json.dumps(scheduled)
    listed = json.dumps(adapter_command(database_url, "jobs", "list", "--executor", "internal"))
    assert "watchChain" in listed
    key = {"TRIGGER_SECRET_KEY": "tr_dev_0123456789"}
    explained = adapter_command(
        database_url, "cutover", "explain", "processLargeDataset", "--executor", "internal", **key
    )
    assert '"local"' in json.dumps(explained)
    turned = ("cutover", "kill", "processLargeDataset", "--to", "internal", "--reason", "test")
    adapter_command(database_url, *turned, **key)
    assert '"local"' in json.dumps(adapter_command(database_url, "cutover", "status", **key))


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("style", ["text", "json"])
async def test_every_log_line_of_a_job_names_it(
    database_url: str,
    logging_as_it_was: None,
    capsys: pytest.CaptureFixture[str],
    style: Literal["text", "json"],
) -> None:
    def declare(adapter: Adapter) -> None:
        async def my_component(_payload: Any, ctx: JobContext) -> None:
            ctx.logger.info("Job retry attempted", extra={"userId": 7})

        adapter.task("my-component")(my_component)

    async with rigged(database_url, declare) as rig:
        job = await rig.adapter.schedule_job("my-component")
        configure(style, "INFO")
        await rig.work()
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "Job retry attempted" in each]
    fields = {"job_id": str(job.id), "type": "my-component", "executor": "local", "attempt": 1, "userId": 7}
    if style == "json":
        said = json.loads(line)
        assert fields.items() <= said.items()
        assert (said["message"], said["level"]) == ("Job retry attempted", "info")
    else:
        assert all(f"{name}={value}" in line for name, value in fields.items())


async def test_log_lines_of_a_remote_job_name_its_run(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    job = await rig.adapter.schedule_job("remote", 1)
    rig.fake.next_fault("timeout_after", on="trigger")
    rig.fake.next_fault("timeout_after", on="trigger")
    rig.fake.next_fault("timeout_after", on="trigger")
    with caplog.at_level(logging.WARNING, logger="adapter.dispatch"):
        await rig.dispatch(job.id)
    (record,) = [each for each in caplog.records if "unknown outcome" in each.getMessage()]
    named = vars(record)
    assert {"job_id", "type", "executor", "run_id", "attempt"} <= set(named)
    assert (named["job_id"], named["type"], named["executor"]) == (str(job.id), "remote", "trigger")
