"""Processes that are kept running: whoever ends unasked is started again, slower and slower."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapter.cli import health
from adapter.cli.exits import CommandError, ExitCode, first
from adapter.cli.processes import LESS_PATIENCE_S, PATIENCE_S, Family, how_it_ended

if TYPE_CHECKING:
    from adapter.cli.processes import Child
    from adapter.domain.clock import Clock

logger = logging.getLogger("adapter.cli")

#: The first wait before a process is started again, the longest, and after how long a life it counts as
#: sound, in seconds.
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
SOUND_S = 60.0
#: So many short lives in a row are called a crash loop.
LOOP = 5
_LOOK_S = 0.1
_READY_S = 60.0


def pause_after(short_lives: int) -> float:
    """Return the seconds to wait before the next start; ``short_lives``: how many there were in a row."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(short_lives - 1, 16))


@dataclass(frozen=True, slots=True)
class Member:
    """A process to keep: its name, its command, and where it shows its health if it does."""

    name: str
    command: tuple[str, ...]
    pass_fd: int | None = None
    health: Path | None = None


class Supervisor:
    """Keeps members of a family running until the family is asked to end.

    A process that refuses its very first start (exit code 2) ends everything, as starting it again changes
    nothing; ``reloads``: then, and for every later refusal, the next change of the source is waited for.
    """

    def __init__(
        self, family: Family, clock: Clock, *, reloads: bool = False, patience: float = PATIENCE_S
    ) -> None:
        self._family = family
        self._clock = clock
        self._reloads = reloads
        self._patience = patience
        self._members: list[Member] = []
        self._changed = asyncio.Event()
        self._rolling: asyncio.Lock = asyncio.Lock()

    async def keep(self, members: Sequence[Member], changes: AsyncIterable[str] | None = None) -> None:
        """Keep all members until canceled. ``changes``: what is said of each change of the source.

        Raises:
            CommandError: one of them cannot start.
        """
        self._members = list(members)
        try:
            async with asyncio.TaskGroup() as group:
                for each in members:
                    group.create_task(self._keep(each))
                if changes is not None:
                    group.create_task(self._reload(changes))
        except* CommandError as errors:
            raise first(errors) from None

    async def roll(self) -> None:
        """Restart one process after the other, each when the one before it works; stop at one that does not."""
        if self._rolling.locked():
            logger.warning("a rolling restart is under way already")
            return
        async with self._rolling:
            logger.info("rolling restart of %d processes", len(self._members))
            for member in self._members:
                await self._replace(member, at_once=False)
                if not await self._works_again(member):
                    logger.error("%s does not come up again: the rolling restart stops here", member.name)
                    return
            logger.info("rolling restart done")

    async def _keep(self, member: Member) -> None:
        starts = short_lives = 0
        while not self._family.asked:
            self._changed.clear()
            child = await self._family.start(member.name, *member.command, pass_fd=member.pass_fd)
            starts += 1
            began = self._clock.monotonic()
            code = await child.process.wait()
            if self._family.asked:
                return
            if child.replaced:
                short_lives = 0
                continue
            how = f"{member.name} (pid {child.process.pid}) {how_it_ended(code)}"
            if code == ExitCode.USAGE and self._reloads:
                logger.error("%s and waits for the next save", how)
                await self._changed.wait()
                continue
            if code == ExitCode.USAGE and starts == 1:
                raise CommandError(f"{how} and cannot start: its own words are above.")
            short_lives = 1 if self._clock.monotonic() - began >= SOUND_S else short_lives + 1
            await self._pause(how, short_lives)

    async def _pause(self, how: str, short_lives: int) -> None:
        wait = pause_after(short_lives)
        looping = f"; crash loop: {short_lives} short lives in a row" if short_lives >= LOOP else ""
        logger.error("%s; it starts again in %g s%s", how, wait, looping)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._changed.wait()

    async def _reload(self, changes: AsyncIterable[str]) -> None:
        async for change in changes:
            logger.info("%s: restarting", change)
            async with asyncio.TaskGroup() as group:
                for each in self._members:
                    group.create_task(self._replace(each, at_once=True))
            self._changed.set()

    async def _replace(self, member: Member, *, at_once: bool) -> None:
        """End a process; `_keep` then starts the next. ``at_once``: its running jobs go back unspent."""
        child = self._family.child(member.name)
        if child is None or child.process.returncode is not None:
            return
        child.replaced = True
        child.signal(signal.SIGTERM)
        if at_once:
            child.insist()
        await child.ended_within(LESS_PATIENCE_S if at_once else self._patience)

    async def _works_again(self, member: Member) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_S):
                while True:
                    child = self._family.child(member.name)
                    if child is not None and not child.replaced:
                        if child.process.returncode is not None:
                            return False
                        if _works(member, child):
                            return True
                    await self._clock.sleep(_LOOK_S)
        return False


def _works(member: Member, child: Child) -> bool:
    if member.health is None:
        return True
    return any(
        each.pid == child.process.pid and each.state == "working" for each in health.read(member.health)
    )
