"""What the command says of itself; that docs/ says as much is tested with the rest of docs/."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from adapter.cli import exits
from tests.cli.commands import adapter, root


def commands(command: Any, path: str = "adapter") -> Iterator[tuple[str, Any]]:
    below: dict[str, Any] = getattr(command, "commands", {})
    if not below:
        yield path, command
    for name, each in below.items():
        yield from commands(each, f"{path} {name}")


COMMANDS = dict(commands(root()))


@pytest.mark.parametrize("code", exits.ExitCode)
def test_an_exit_code_is_in_the_help(code: exits.ExitCode) -> None:
    meaning = exits.MEANINGS[code]
    shown = re.sub(r"\s+", " ", adapter("--help", env={"COLUMNS": "200"}).out)
    assert f"{code.value} {meaning}" in shown


@pytest.mark.parametrize("name", [*COMMANDS, "adapter jobs", "adapter cutover"])
def test_every_command_explains_itself(name: str) -> None:
    answer = adapter(*name.split()[1:], "--help")
    assert (answer.code, "Usage:" in answer.out) == (0, True)
