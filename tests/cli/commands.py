"""The command, called in this process or started as one of its own."""

import asyncio
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import psutil
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from adapter.cli.root import app
from tests import kit, pooling

T = TypeVar("T")

SHOP = "tests.cli.shop:adapter"
#: Slow machines may take long; a test that passes does not.
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


@functools.cache
def root() -> Any:
    """Return the root of all commands. To make them takes longer than what most of them do."""
    return get_command(app)


def adapter(*arguments: str, env: dict[str, str] | None = None, given: str | None = None) -> Answer:
    """Run ``adapter <arguments>`` here; an error nobody foresaw is raised."""
    with mock.patch("typer.testing._get_command", return_value=root()):
        result = CliRunner(env=env or {}).invoke(app, list(arguments), input=given, prog_name="adapter")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


def eventually(check: Callable[[], T], within: float = PATIENCE_S) -> T:
    """Return what ``check()`` returns as soon as that is true. It may call the command: it has a thread of its own."""

    async def checked() -> T:
        return await kit.eventually(lambda: asyncio.to_thread(check), within=within)

    return asyncio.run(checked())


@dataclass(frozen=True, slots=True)
class Started:
    """A command as a process of its own."""

    process: psutil.Popen
    directory: Path

    @property
    def out(self) -> str:
        return (self.directory / "out").read_text()

    @property
    def err(self) -> str:
        return (self.directory / "err").read_text()

    def says(self, words: str) -> bool:
        """Whether it has said this; fails at once when it has ended without."""
        if words in self.out or words in self.err:
            return True
        if self.process.poll() is not None:
            pytest.fail(
                f"ended with {self.process.returncode} and did not say {words!r}:\n{self.err[-4000:]}"
            )
        return False

    def end(self) -> int:
        """Wait for its end; returns the exit code."""
        return self.process.wait(PATIENCE_S)


@contextmanager
def started(
    *arguments: str,
    directory: Path,
    env: dict[str, str],
    cwd: Path = kit.ROOT,
    stdin: int = subprocess.DEVNULL,
) -> Generator[Started]:
    """Start ``adapter <arguments>``; whatever is left of it is killed in the end."""
    directory.mkdir(exist_ok=True)
    surroundings = {"PATH": os.defpath, "HOME": str(directory), **env}
    with (directory / "out").open("w") as out, (directory / "err").open("w") as err:
        process = psutil.Popen(
            [sys.executable, "-m", "adapter.cli", *arguments],
            cwd=cwd,
            env=pooling.environment(surroundings),
            stdin=stdin,
            stdout=out,
            stderr=err,
            # What signals a group must not reach the tests.
            process_group=0,
        )
    try:
        yield Started(process, directory)
    finally:
        family = [process, *process.children(recursive=True)] if process.is_running() else []
        for each in family:
            kill(each)
        psutil.wait_procs(family, timeout=PATIENCE_S)


def kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def all_end(processes: list[psutil.Process]) -> bool:
    """Whether every one ends within a while. A zombie has ended: only its parent could bury it."""
    return eventually(lambda: all(has_ended(each) for each in processes))


def has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
