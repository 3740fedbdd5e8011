"""What a run came to, as the tables of the README: ``python -m bench.report FILE`` prints them in Markdown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

from bench.contenders import OURS, RAW
from bench.goals import GOALS, verdict
from bench.samples import Line

#: Others burning more of the machine than this, in cores, make a number doubtful.
DISTURBED = 0.35
_COSTS = {
    "client_us": "client CPU, µs",
    "server_us": "server CPU, µs",
    "wal_bytes": "WAL, bytes",
    "transactions": "writing transactions",
    "client_cores": "client, cores",
    "server_cores": "server, cores",
    "foreign_cores": "others, cores",
}


class Outcome(TypedDict):
    """What ``--json`` writes, beside the rounds."""

    machine: dict[str, str]
    summary: list[Line]


def shown(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _cell(line: Line | None) -> str:
    if line is None:
        return ""
    mark = " !" if line["costs"].get("foreign_cores", 0.0) > DISTURBED else ""
    if line["low"] == line["high"]:
        return f"{shown(line['median'])}{mark}"
    return f"{shown(line['median'])}{mark} ({shown(line['low'])} .. {shown(line['high'])})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    aligned = ["---", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(each)} |" for each in (head, aligned, *rows)]


def results(lines: Sequence[Line]) -> list[str]:
    """One row per measure: everybody's median and range, and our ratios."""
    by_key = {(line["measure"], line["who"]): line for line in lines}
    measures = list(dict.fromkeys(line["measure"] for line in lines))
    peers = [who for who in dict.fromkeys(line["who"] for line in lines) if who not in (OURS, RAW)]
    rows: list[list[str]] = []
    for measure in measures:
        ours = by_key.get((measure, OURS))
        first = ours or next(line for line in lines if line["measure"] == measure)
        best = ours["best_peer"] if ours else None
        ratios = ours["ratios"] if ours else {}
        others = [_cell(by_key.get((measure, who))) for who in (OURS, *peers, RAW)]
        compared = "; ".join(f"{value:.2f} of “{name}”" for name, value in ratios.items())
        unit = f" ({first['unit']})" if first["unit"] else ""
        rows.append([f"{measure}{unit}", *others, "" if best is None else f"{best:.2f}", compared])
    return _table(["measure", OURS, *peers, "raw", "to the best peer", "ratios in the same round"], rows)


def costs(lines: Sequence[Line]) -> list[str]:
    """What a job costs, per measure and contender."""
    rows = [
        [line["measure"], line["who"]]
        + [shown(line["costs"][name]) if name in line["costs"] else "" for name in _COSTS]
        for line in lines
        if line["costs"]
    ]
    return _table(["measure, per job", "who", *_COSTS.values()], rows)


def goals(lines: Sequence[Line]) -> list[str]:
    """The goals, what was measured, and whether that is enough."""
    judged = [(goal, verdict(goal, lines)) for goal in GOALS]
    rows = [
        [goal.says, "" if value is None else shown(value), "not measured" if met is None else "yes" if met else "**no**"]
        for goal, (value, met) in judged
    ]  # fmt: skip
    return _table(["goal", "measured", "met"], rows)


def markdown(outcome: Outcome) -> str:
    lines = outcome["summary"]
    parts = [
        ", ".join(outcome["machine"].values()),
        *map("\n".join, (goals(lines), results(lines), costs(lines))),
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text())))
