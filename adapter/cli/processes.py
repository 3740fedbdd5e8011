"""Child processes that live and end together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from adapter.cli.exits import CommandError, ExitCode
from adapter.cli.signals import Stop

#: After this long a child that was asked to end is killed, in seconds; after the second asking, sooner.
_PATIENCE_S = 40.0
_LESS_PATIENCE_S = 8.0
_STDERR = 2


@dataclass(frozen=True, slots=True)
class Child:
    """One process of the family. Its standard input stays open as long as we live."""

    name: str
    process: asyncio.subprocess.Process


class Family:
    """Runs commands of ours as child processes in our own process group.

    ``added`` comes on top of our environment: a password on a command line could be read by everybody.
    On exit every child has ended.
    """

    def __init__(self, app: str | None, added: Mapping[str, str]) -> None:
        self._app = app
        self._environment = environment() | dict(added)
        self._children: list[Child] = []
        self._asked = self._insisted = False
        self._patience: asyncio.Timeout | None = None

    @property
    def pids(self) -> dict[str, int]:
        """The pid of each child, by name."""
        return {child.name: child.process.pid for child in self._children}

    async def start(self, name: str, *command: str, pass_fd: int | None = None) -> None:
        """Start ``adapter <command>`` as a child."""
        app = ("--app", self._app) if self._app is not None else ()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "adapter.cli",
            *app,
            *command,
            "--supervised",
            name,
            stdin=asyncio.subprocess.PIPE,
            # Ours is for data.
            stdout=_STDERR,
            env=self._environment,
            pass_fds=() if pass_fd is None else (pass_fd,),
        )
        self._children.append(Child(name, process))

    async def until_one_ends(self) -> None:
        """Wait for the first child that ends unasked.

        Raises:
            CommandError: one did.
        """
        async with asyncio.TaskGroup() as group:
            for child in self._children:
                group.create_task(self._watch(child))

    async def _watch(self, child: Child) -> None:
        code = await child.process.wait()
        if not self._asked:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
            raise CommandError(
                f"The {child.name} (pid {child.process.pid}) {how}.", ExitCode.FAILURE, code="child_ended"
            )

    def ask(self) -> None:
        """Ask every child to end; once."""
        if not self._asked:
            self._asked = True
            self._signal(signal.SIGTERM)

    def insist(self) -> None:
        """Tell every child to end at once."""
        for child in self._children:
            if child.process.stdin is not None and not child.process.stdin.is_closing():
                child.process.stdin.write(Stop.NOW)
        self._insisted = True
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time() + _LESS_PATIENCE_S)

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(number)

    async def __aenter__(self) -> Self:
        """Begin without children."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """End every child: politely, then not."""
        self.ask()
        try:
            patience = _LESS_PATIENCE_S if self._insisted else _PATIENCE_S
            async with asyncio.timeout(patience) as self._patience:
                await self._all_ended()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._all_ended()

    async def _all_ended(self) -> None:
        for child in self._children:
            await child.process.wait()


def environment() -> dict[str, str]:
    """Return a copy of our own environment, to hand on."""
    return dict(os.environ)
