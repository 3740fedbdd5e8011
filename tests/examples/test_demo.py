"""`make demo`, smaller: its exit code is its own verdict, and it leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from examples.demo.stage import Processes
from tests import kit

DEMO = [sys.executable, "-m", "examples.demo", "--jobs"]
GIVEN = {"ADAPTER_PG_BIN": kit.own_setting("PG_BIN"), "DATABASE_URL": kit.own_setting("DATABASE_URL")}


@pytest.fixture
def environ(server_dir: Path) -> Iterator[dict[str, str]]:
    """Surroundings whose temporary directory is empty again afterwards, with no process that knows of it."""
    # As root, the database server runs as somebody else, who has to get in.
    server_dir.chmod(0o711)
    given = {name: value for name, value in GIVEN.items() if value}
    yield {"PATH": os.defpath, "TMPDIR": str(server_dir), **given}
    assert list(server_dir.iterdir()) == []
    assert [each for each in psutil.process_iter() if _belongs_to(each, str(server_dir))] == []


def _belongs_to(process: psutil.Process, directory: str) -> bool:
    try:
        return directory in " ".join(process.cmdline()) or process.environ().get("TMPDIR") == directory
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


@pytest.mark.fault
@pytest.mark.timeout(150)
def test_the_demo_holds_what_it_promises(environ: dict[str, str]) -> None:
    done = subprocess.run(
        [*DEMO, "60"], cwd=kit.ROOT, env=environ, capture_output=True, text=True, timeout=140, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "lost: 0" in done.stdout
    assert "run on two executors: 0" in done.stdout
    assert "equal to the direct count" in done.stdout
    assert "kill switch: environment, all tasks" in done.stdout


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("number", "act"), [(signal.SIGINT, "1. "), (signal.SIGTERM, "2. ")], ids=["interrupt", "terminate"]
)
def test_a_demo_that_is_stopped_leaves_nothing_behind(
    environ: dict[str, str], number: signal.Signals, act: str
) -> None:
    with subprocess.Popen(
        [*DEMO, "40"], cwd=kit.ROOT, env=environ, stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        assert any(line.startswith(act) for line in iter(demo.stdout.readline, ""))
        demo.send_signal(number)
        said = demo.stdout.read()
    assert demo.returncode == 130
    assert "nothing is left behind" in said


def test_a_process_whose_start_is_interrupted_ends_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)
            raise KeyboardInterrupt

    with Processes(tmp_path, "nobody:nothing") as processes:
        monkeypatch.setattr(subprocess, "Popen", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            processes.start("worker", ["worker"], {})
    assert [each.wait(5) for each in started] == [-signal.SIGKILL]
