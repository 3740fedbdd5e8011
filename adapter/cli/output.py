"""Data on standard output, talk on standard error; tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic_core import to_jsonable_python
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

#: Where nobody looks, lines are as long as they need to be: `grep` wants rows whole.
_WIDE = 320
_STYLES = {
    "COMPLETED": "green",
    "EXECUTING": "cyan",
    "QUEUED": "blue",
    "PENDING": "blue",
    "DELAYED": "blue",
    "WAITING": "yellow",
    "CANCELED": "dim",
    "EXPIRED": "yellow",
    "pass": "green",
    "warn": "yellow",
    "fail": "bold red",
}
_BAD = ("FAILED", "CRASHED", "TIMED_OUT", "SYSTEM_FAILURE")


def console() -> Console:
    """Return where data goes."""
    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, markup=False, emoji=False)


def talk() -> Console:
    """Return where talk goes."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def document(value: Any) -> None:
    """Print one JSON document."""
    ascii_only = "utf" not in (sys.stdout.encoding or "").lower()
    indent = 2 if sys.stdout.isatty() else None
    text = json.dumps(to_jsonable_python(value), ensure_ascii=ascii_only, indent=indent)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say(text: str, *, style: str = "") -> None:
    """Tell the person something that is no data."""
    talk().print(Text(plain(text), style=style))


def plain(value: object) -> str:
    """Return text without control characters: what a stranger named a job must not steer a terminal."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)


def cell(value: object, style: str = "") -> Text:
    """Return a table's cell; None is shown as a dash."""
    if value is None or value == "":
        return Text("-", style="dim")
    return Text(plain(value), style=style)


def word(value: str) -> Text:
    """Return a status or verdict in its color."""
    return Text(plain(value), style="red" if value in _BAD else _STYLES.get(value, ""))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, whole: int = 1) -> Table:
    """Return a table. The first ``whole`` columns are never cut: they are what one copies."""
    box = SIMPLE_HEAD if sys.stdout.isatty() else None
    made = Table(box=box, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for place, name in enumerate(columns):
        made.add_column(name, no_wrap=place < whole, overflow="fold")
    for row in rows:
        made.add_row(*(each if isinstance(each, Text) else cell(each) for each in row))
    return made


def facts(pairs: Iterable[tuple[str, object]]) -> Table:
    """Return names and values under each other; values that are None are left out."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None:
            made.add_row(name, value if isinstance(value, Text) else cell(value))
    return made


def show(*parts: RenderableType) -> None:
    """Print what is for people."""
    out = console()
    with out.capture() as captured:
        for part in parts:
            # Text may be meant to be copied, so it is not broken.
            out.print(part, soft_wrap=isinstance(part, str))
    text = captured.get()
    if not sys.stdout.isatty():
        # Whoever reads this by program has no use for blanks that fill a screen's line.
        text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    sys.stdout.write(text)
    sys.stdout.flush()


def ago(moment: datetime | None, now: datetime) -> str | None:
    """Return how long ago a moment is, in one unit; ``in 5m`` for one to come."""
    if moment is None:
        return None
    passed = now - moment
    text = brief(abs(passed))
    return f"in {text}" if passed < timedelta(0) else text


def brief(duration: timedelta) -> str:
    """Return a duration in one unit."""
    seconds = duration.total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size * 2:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def moment(value: datetime | None) -> str | None:
    """Return a moment in the machine's own zone."""
    return None if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
