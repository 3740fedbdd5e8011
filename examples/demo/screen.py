"""What the demo shows: acts, facts, a table, and a bar where somebody is watching."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

_WIDTH = 100
#: How often a plain log gets a line while something goes on.
_LINE_EVERY_S = 2.0


class Meter:
    """Something that goes on for a while."""

    def __init__(self, screen: Screen, title: str, progress: Progress | None) -> None:
        self._screen, self._title, self._progress = screen, title, progress
        self._task = progress.add_task(title, total=None, note="") if progress else None
        self._said_at = time.monotonic()
        self._said = ""

    def show(self, done: int, total: int, note: str = "") -> None:
        """Show how far it is."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total, note=note)
        elif time.monotonic() - self._said_at >= _LINE_EVERY_S or (done == total != 0):
            line = f"  {self._title} {done}/{total}  {note}".rstrip()
            if line != self._said:
                self._screen.console.print(line)
            self._said_at = time.monotonic()
            self._said = line


class Screen:
    """A terminal with colors and bars, or plain lines where there is none."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._began = time.monotonic()
        self._act = 0
        if not self.console.is_terminal:
            self.console = Console(highlight=False, soft_wrap=True, width=_WIDTH)

    def act(self, title: str, *lines: str) -> None:
        """Begin an act: what happens now, and why."""
        self._act += 1
        elapsed = time.monotonic() - self._began
        self.console.print(f"\n[bold cyan]{self._act}. {title}[/]  [dim]{elapsed:.0f} s[/]")
        for line in lines:
            self.console.print(f"  [dim]{line}[/]")

    def say(self, line: str, style: str = "") -> None:
        """Say one thing."""
        self.console.print(f"  {line}", style=style)

    def gap(self) -> None:
        """Leave a line empty."""
        self.console.print()

    def check(self, what: str, detail: str = "", *, holds: bool) -> bool:
        """Say whether something that must hold does; returns whether."""
        mark = "[bold green]ok  [/]" if holds else "[bold red]FAIL[/]"
        self.console.print(f"  {mark} {what}" + (f"  [dim]{detail}[/]" if detail else ""))
        return holds

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Show a table; columns of numbers are set right."""
        lines = box.SIMPLE_HEAD if self.console.is_terminal else None
        table = Table(title=title, title_justify="left", title_style="bold", box=lines, show_edge=False)
        for place, column in enumerate(columns):
            numbers = all(row[place].replace(",", "").isdigit() or not row[place] for row in rows)
            table.add_column(column, justify="right" if numbers else "left")
        for row in rows:
            table.add_row(*row)
        self.gap()
        self.console.print(table)
        self.gap()

    @contextmanager
    def meter(self, title: str) -> Generator[Meter]:
        """Show a bar while something goes on."""
        if not self.console.is_terminal:
            yield Meter(self, title, None)
            return
        columns = (
            TextColumn("  "),
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(30),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("[dim]{task.fields[note]}[/]"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield Meter(self, title, progress)

    @property
    def seconds(self) -> float:
        """The time since the curtain rose."""
        return time.monotonic() - self._began
