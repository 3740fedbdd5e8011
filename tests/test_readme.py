"""What README.md and the pages of docs/ show works as it stands there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adapter.cli.root import hoisted
from tests import kit, pooling
from tests.cli import commands

README = kit.ROOT / "README.md"
PAGES = [README, kit.ROOT / "CONTRIBUTING.md", *sorted((kit.ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in _BLOCK.findall(page.read_text()) if found == language]


def run_as_file(code: str, directory: Path, database_url: str) -> str:
    file = directory / "page.py"
    file.write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(file)],
        env=pooling.environment(
            {"PATH": os.defpath, "PYTHONPATH": str(kit.ROOT), "DATABASE_URL": database_url}
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(90)
def test_the_python_of_the_readme_runs(database_url: str, tmp_path: Path) -> None:
    quickstart, *others = blocks(README, "python")[:2], *blocks(README, "python")[2:]
    # What stands apart is declared before the entry point.
    said = run_as_file("\n".join([quickstart[0], *others, quickstart[1]]), tmp_path, database_url)
    first, result, reason = said.splitlines()[-3:]
    assert first.endswith("local default")
    assert result == "{'rows': 3}"
    assert reason == "default"


_COMPARES = """
async def compared() -> None:
    async with adapter.running(work=True):
        job = await compare.schedule([10, 20])
        print(await job.result(timeout=timedelta(seconds=30)))


if __name__ == "__main__":
    import asyncio

    asyncio.run(compared())
"""


@pytest.mark.timeout(90)
def test_the_readmes_parent_waits_for_children_in_processes_of_their_own(
    database_url: str, tmp_path: Path
) -> None:
    first, _, family, *_ = blocks(README, "python")
    assert run_as_file(f"{first}\n{family}\n{_COMPARES}", tmp_path, database_url).endswith("[4, 8]\n")


@pytest.mark.once("about what pages say")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", PAGES[2:], ids=lambda page: page.name)
def test_the_python_of_the_other_pages_runs(page: Path, database_url: str, tmp_path: Path) -> None:
    for code in blocks(page, "python"):
        run_as_file(code, tmp_path, database_url)


def commands_shown() -> list[tuple[str, str]]:
    """Every `adapter …` that stands on a line of a shell block, or in backticks."""
    found: list[tuple[str, str]] = []
    for page in PAGES:
        text = page.read_text()
        lines = [line.partition("  #")[0] for code in blocks(page, "sh") for line in code.splitlines()]
        prose = _BLOCK.sub("", text)
        lines += re.findall(r"`(adapter(?: [^`]+)?)`", prose)
        shown = {line.strip() for line in lines if re.match(r"adapter( |$)", line.strip())}
        found += [(page.name, line) for line in sorted(shown)]
    return found


def known_options(command: Any) -> set[str]:
    options: set[str] = {"--help"}
    for parameter in command.params:
        options |= {*parameter.opts, *parameter.secondary_opts}
    return options


@pytest.mark.parametrize(("page", "line"), commands_shown())
def test_a_command_that_is_shown_exists_with_its_options(page: str, line: str) -> None:
    words = hoisted(
        [word for word in shlex.split(line.replace("…", "VALUE")) if word not in {"[JSON]", "[ID]"}][1:]
    )
    command = commands.root()
    allowed = known_options(command)
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            assert word.partition("=")[0] in allowed, f"{page}: {line}"
            if word == "--app":
                words.pop(0)
        elif hasattr(command, "commands"):
            if word in {"VALUE", "X", "COMMAND"}:
                return
            assert word in command.commands, f"{page}: {line}"
            command = command.commands[word]
            allowed |= known_options(command)


def test_the_make_targets_that_are_shown_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (kit.ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        shown = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE))
        assert shown <= targets, page.name
