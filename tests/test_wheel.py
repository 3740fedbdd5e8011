"""What users install: a wheel, in an environment that has never seen the checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests import kit

pytestmark = [pytest.mark.once("about what the wheel holds"), pytest.mark.timeout(120)]

SCHEDULES_AND_WORKS = """
import asyncio, json
from datetime import timedelta
import adapter
from adapter import Adapter

jobs = Adapter.from_env()

@jobs.task("double")
async def double(number: int) -> int:
    return 2 * number

async def main() -> None:
    async with jobs.running(work=True, dispatch=False, sync=False):
        job = await double.schedule(21)
        print(json.dumps([adapter.__file__, await job.result(timeout=timedelta(seconds=20))]))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    # Without isolation, so without a network: the build backend is in the lock.
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    built = subprocess.run(command, cwd=kit.ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = directory.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with the wheel in it; what it depends on is lent from ours."""
    directory = tmp_path_factory.mktemp("installed")
    interpreter = directory / "bin" / "python"
    venv.create(directory, symlinks=True)
    # Whichever of the two has made our own environment.
    if uv := shutil.which("uv"):
        install = [uv, "pip", "install", "--offline", "--python", str(interpreter)]
    else:
        install = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--no-index"]
    install.append("--no-deps")
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    # Of the directory itself and nothing more: its .pth files would lead back to the checkout.
    (_site_packages(interpreter) / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return interpreter


def _site_packages(interpreter: Path) -> Path:
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([interpreter, "-c", asked], text=True).strip())


def _run(program: Path, *arguments: str, database_url: str, cwd: Path) -> str:
    environ = {"PATH": os.defpath, "ADAPTER_DATABASE_URL": database_url}
    done = subprocess.run(
        [program, *arguments], cwd=cwd, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_what_is_needed_at_run_time(names: set[str]) -> None:
    assert "adapter/py.typed" in names
    assert {name for name in names if name.startswith("adapter/_alembic/")} >= {
        f"adapter/_alembic/{path.relative_to(kit.ROOT / 'alembic')}"
        for pattern in ("*.py", "*.sql", "*.mako")
        for path in (kit.ROOT / "alembic").rglob(pattern)
    }
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert any(name.endswith(".dist-info/entry_points.txt") for name in names)


def test_the_wheel_holds_nothing_else(names: set[str]) -> None:
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"adapter"}
    assert not [name for name in names if name.endswith((".pyc", ".ts", ".log"))]
    folders = {part for name in names for part in name.split("/")[:-1]}
    assert not folders & {"tests", "examples", "bench", "node_modules", "__pycache__"}


def test_what_is_installed_upgrades_a_database_and_runs_a_job(
    python: Path, empty_database: str, tmp_path: Path
) -> None:
    def adapter(*arguments: str) -> str:
        return _run(python.with_name("adapter"), *arguments, database_url=empty_database, cwd=tmp_path)

    assert json.loads(adapter("--json", "version"))
    adapter("db", "upgrade")
    adapter("db", "check")
    said = _run(python, "-c", SCHEDULES_AND_WORKS, database_url=empty_database, cwd=tmp_path)
    file, result = json.loads(said.splitlines()[-1])
    assert Path(file).is_relative_to(python.parents[1])
    assert result == 42
