"""``make demo``: the standard library, indexed by jobs that move between two executors, and a kill -9.

Exit code 0 only if nothing was lost, nothing ran on two executors, every repeat has its reason, and the
totals equal a direct count.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import warnings
from contextlib import ExitStack
from types import FrameType

from rich.markup import escape

from adapter.domain.errors import AdapterError
from examples.demo.screen import Screen
from examples.demo.stage import Processes, StageError, databases, scratch
from examples.demo.story import Story

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _be_deaf() -> None:
    for number in _ENDINGS:
        signal.signal(number, signal.SIG_IGN)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--jobs", type=int, metavar="N", help="at most about N jobs (default: all packages)")
    most: int | None = parser.parse_args().jobs
    screen = Screen()
    screen.console.print(
        "[bold]trigger-adapter[/]: jobs that move between two executors without running twice"
    )
    for number in _ENDINGS:
        signal.signal(number, _interrupt)
    # Some files of the library have warnings on purpose.
    warnings.simplefilter("ignore")
    try:
        with ExitStack() as stack:
            directory = stack.enter_context(scratch())
            where, app, remote = stack.enter_context(databases(os.environ))
            processes = stack.enter_context(Processes(directory, "examples.demo.app:adapter"))
            # Once is enough: whoever presses Ctrl-C again must not break the clearing up.
            stack.callback(_be_deaf)
            story = Story(screen, processes, directory, {"app": app, "remote": remote}, most)
            held = asyncio.run(story.tell(where))
    except KeyboardInterrupt:
        screen.console.print("\nStopped; nothing is left behind.")
        return 130
    except (StageError, AdapterError) as error:
        screen.console.print(f"\n[bold red]The demo could not go on:[/] {escape(str(error))}")
        return 1
    verdict = "[bold green]All of it holds.[/]" if held else "[bold red]Something does not hold.[/]"
    screen.console.print(
        f"\n{verdict} [dim]{screen.seconds:.0f} s; every process and directory is gone again.[/]"
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
