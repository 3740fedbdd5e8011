"""Rules of the house that no tool knows."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests import kit

PACKAGE = kit.ROOT / "adapter"
MODULES = sorted(path.relative_to(kit.ROOT) for path in PACKAGE.rglob("*.py"))
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "service", "misc"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((kit.ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_can_be_read_at_one_sitting(module: Path) -> None:
    lines = (kit.ROOT / module).read_text().count("\n")
    assert lines <= 400


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_is_named_for_what_it_holds(module: Path) -> None:
    assert not VAGUE & {*module.parent.parts, module.stem}


def test_every_folder_of_the_package_is_on_a_floor(project: dict[str, Any]) -> None:
    (contract,) = project["tool"]["importlinter"]["contracts"]
    floors = [
        name.strip(" ()") for layer in contract["layers"] for name in layer.replace("|", ":").split(":")
    ]
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    modules = {path.stem for path in PACKAGE.glob("*.py") if path.stem not in {"__init__", "__main__"}}
    assert contract["exhaustive"] is True
    assert (folders | modules) - set(floors) == set()


def test_migrations_are_no_package() -> None:
    """An `alembic/__init__.py` would shadow the library of that name."""
    assert not list((kit.ROOT / "alembic").rglob("__init__.py"))


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "requirements-runtime.lock", "requirements-build.lock"]
)
def test_a_lock_names_no_place_to_fetch_from(lock: str) -> None:
    text = (kit.ROOT / lock).read_text()
    assert "://" not in text
    assert "--index-url" not in text
    assert "--hash=sha256:" in text


def test_what_runs_in_the_image_is_what_was_tested() -> None:
    def pins(lock: str) -> set[str]:
        return {line.split()[0] for line in (kit.ROOT / lock).read_text().splitlines() if "==" in line}

    assert pins("requirements-runtime.lock") | pins("requirements-build.lock") <= pins("requirements.lock")
