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
PATIENCE_S = 40.0
LESS_PATIENCE_S = 8.0
_STDERR = 2


@dataclass(slots=True)
class Child:
    """One process of the family. Its standard input stays open as long as we live.

    ``replaced``: it was asked to end because another takes its place.
    """

    name: str
    process: asyncio.subprocess.Process
    replaced: bool = False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended hears nothing."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def insist(self) -> None:
        """Tell it to end at once."""
        stdin = self.process.stdin
        if stdin is not None and not stdin.is_closing():
            stdin.write(Stop.NOW)

    async def ended_within(self, seconds: float) -> None:
        """Wait for its end; after so long, kill it."""
        try:
            async with asyncio.timeout(seconds):
                await self.process.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.process.wait()


def how_it_ended(code: int) -> str:
    """Say in words what an exit code means."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


class Family:
    """Runs commands of ours as child processes in our own process group.

    ``added`` comes on top of our environment: a password on a command line could be read by everybody.
    On exit every child has ended; ``patience`` is how long that may take before they are killed, in seconds.
    """

    def __init__(
        self, app: str | None, added: Mapping[str, str] | None = None, *, patience: float = PATIENCE_S
    ) -> None:
        self._app = app
        self._environment = environment() | dict(added or {})
        self._children: dict[str, Child] = {}
        self._asked = self._insisted = False
        self._patience_s = patience
        self._patience: asyncio.Timeout | None = None

    @property
    def pids(self) -> dict[str, int]:
        """The pid of each child, by name."""
        return {child.name: child.process.pid for child in self._children.values()}

    @property
    def asked(self) -> bool:
        """Whether everybody was asked to end."""
        return self._asked

    @property
    def ended_well(self) -> bool:
        """Whether every child ended as it should: by itself, or before it had begun."""
        return all(child.process.returncode in {0, -signal.SIGTERM} for child in self._children.values())

    def child(self, name: str) -> Child | None:
        """Return the child that has, or last had, this name."""
        return self._children.get(name)

    async def start(self, name: str, *command: str, pass_fd: int | None = None) -> Child:
        """Start ``adapter <command>`` as a child; it takes the place of an earlier one of that name."""
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
        child = self._children[name] = Child(name, process)
        if self._asked:
            child.signal(signal.SIGTERM)
        if self._insisted:
            child.insist()
        return child

    async def until_one_ends(self) -> None:
        """Wait for the first child that ends unasked.

        Raises:
            CommandError: one did.
        """
        async with asyncio.TaskGroup() as group:
            for child in self._children.values():
                group.create_task(self._watch(child))

    async def _watch(self, child: Child) -> None:
        code = await child.process.wait()
        if not self._asked:
            raise CommandError(
                f"The {child.name} (pid {child.process.pid}) {how_it_ended(code)}.",
                ExitCode.FAILURE,
                code="child_ended",
            )

    def ask(self) -> None:
        """Ask every child to end; once."""
        if not self._asked:
            self._asked = True
            self._signal(signal.SIGTERM)

    def insist(self) -> None:
        """Tell every child to end at once."""
        self._insisted = True
        for child in self._children.values():
            child.insist()
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time() + LESS_PATIENCE_S)

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children.values():
            child.signal(number)

    async def __aenter__(self) -> Self:
        """Begin without children."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """End every child: politely, then not."""
        self.ask()
        try:
            patience = LESS_PATIENCE_S if self._insisted else self._patience_s
            async with asyncio.timeout(patience) as self._patience:
                await self._all_ended()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._all_ended()

    async def _all_ended(self) -> None:
        for child in self._children.values():
            await child.process.wait()


def environment() -> dict[str, str]:
    """Return a copy of our own environment, to hand on."""
    return dict(os.environ)
