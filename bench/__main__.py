"""``make bench``: what the adapter costs, beside what PostgreSQL alone costs, in interleaved rounds."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import platform
import statistics
import sys
from pathlib import Path
from typing import TypedDict

import psutil
from rich.console import Console
from rich.table import Table

from bench import raw, remotes, scheduling, working
from bench.ground import QUICK, Ground, Sample, Sizes

MEASURES = {
    "raw": raw.measure,
    "schedule": scheduling.measure,
    "drain": working.drain,
    "latency": working.latency,
    "webhooks": remotes.webhooks,
    "reconcile": remotes.reconcile,
}


class Line(TypedDict):
    """One line of the outcome. ``ratio``: to the limit of the same round, the median of all rounds."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    ratio: float | None
    rounds: int


def summary(rounds: list[list[Sample]]) -> list[Line]:
    """What all rounds come to, in the order of the measures."""
    values: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}
    units: dict[str, str] = {}
    for samples in rounds:
        known = {sample.name: sample.value for sample in samples}
        for sample in samples:
            values.setdefault(sample.name, []).append(sample.value)
            units[sample.name] = sample.unit
            if sample.raw in known:
                ratios.setdefault(sample.name, []).append(sample.value / known[sample.raw])
    return [
        Line(
            name=name,
            unit=units[name],
            median=statistics.median(found),
            low=min(found),
            high=max(found),
            ratio=statistics.median(ratios[name]) if name in ratios else None,
            rounds=len(found),
        )
        for name, found in values.items()
    ]


def machine(ground: Ground) -> dict[str, str]:
    memory = psutil.virtual_memory().total / 2**30
    return {
        "cores": f"{psutil.cpu_count()} cores",
        "memory": f"{memory:.0f} GB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"Python {platform.python_version()}",
        "database": ground.version,
    }


async def run(
    ground: Ground, console: Console, names: list[str], sizes: Sizes, count: int
) -> list[list[Sample]]:
    rounds: list[list[Sample]] = []
    for number in range(count):
        # Another one goes first each time: what a measure inherits from the one before it evens out.
        order = names[number % len(names) :] + names[: number % len(names)]
        found: dict[str, list[Sample]] = {}
        for name in order:
            console.print(f"round {number + 1}/{count}: {name}", style="dim")
            found[name] = await MEASURES[name](ground, sizes)
        rounds.append([sample for name in names for sample in found[name]])
    return rounds


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small round: does everything still run?")
    parser.add_argument("--rounds", type=int, help="how many (default 3)")
    parser.add_argument("--only", help=f"some of {','.join(MEASURES)}")
    parser.add_argument("--database", metavar="URL", help="a server to use; it may create databases")
    parser.add_argument("--json", metavar="FILE", help="also write everything there (- for standard output)")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(MEASURES)
    if strange := set(names) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(sorted(strange))}")
    console = Console(stderr=True, highlight=False)
    count = given.rounds or (1 if given.quick else 3)
    with Ground(given.database) as ground:
        about = machine(ground)
        console.print(", ".join(about.values()))
        rounds = asyncio.run(run(ground, console, names, QUICK if given.quick else Sizes(), count))
    lines = summary(rounds)
    table = Table("measure", "median", "range", "", "of raw", box=None)
    for line in lines:
        spread = "" if line["low"] == line["high"] else f"{shown(line['low'])} .. {shown(line['high'])}"
        ratio = "" if line["ratio"] is None else f"{line['ratio']:.2f}"
        table.add_row(line["name"], shown(line["median"]), spread, line["unit"], ratio)
    if given.json:
        samples = [[dataclasses.asdict(sample) for sample in each] for each in rounds]
        text = json.dumps({"machine": about, "summary": lines, "rounds": samples}, indent=2)
        if given.json == "-":
            print(text)
        else:
            Path(given.json).write_text(f"{text}\n")
    if given.json != "-":
        screen = Console(highlight=False)
        screen.print(table, width=None if screen.is_terminal else 110)
    return 0


if __name__ == "__main__":
    sys.exit(main())
