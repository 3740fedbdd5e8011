"""``make bench``: what the adapter costs, beside its peers and what PostgreSQL alone costs, in interleaved rounds."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console

from bench import api, draining, latency, limits, memory, raw, remotes, scheduling, statements, watching
from bench.contenders import ADAPTER, PEERS, Contender
from bench.ground import QUICK, Ground, Sizes
from bench.report import Outcome, markdown, shown
from bench.samples import Sample, summary

Measure = Callable[[Ground, Sizes, Sequence[Contender]], list[Sample]]
MEASURES: dict[str, Measure] = {
    "raw": raw.measure,
    "single": scheduling.single,
    "bulk": scheduling.bulk,
    "keys": scheduling.keys,
    "api": api.measure,
    "drain": draining.plain,
    "two": draining.two,
    "finished": draining.finished,
    "waiting": draining.waiting,
    "snapshot": draining.snapshot,
    "limit": limits.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "statements": statements.measure,
    "followed": watching.draining,
    "subscribers": watching.measure,
    "webhooks": remotes.webhooks,
    "reconcile": remotes.reconcile,
}
#: They hardly differ from round to round, and take long.
ONCE = {"memory", "statements", "subscribers"}


def machine(ground: Ground) -> dict[str, str]:
    total = psutil.virtual_memory().total / 2**30
    return {
        "cores": f"{psutil.cpu_count()} cores",
        "memory": f"{total:.0f} GB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"Python {platform.python_version()}",
        "database": ground.version,
        "load": f"load average {os.getloadavg()[0]:.1f} at the start",
        "at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }


def run(
    ground: Ground, console: Console, names: list[str], sizes: Sizes, count: int, chosen: list[Contender]
) -> Iterator[list[Sample]]:
    """Yield the samples of one round after the other."""
    for number in range(count):
        # Another one goes first each time: what one inherits from the one before it evens out.
        order = names[number % len(names) :] + names[: number % len(names)]
        turn = number % len(chosen)
        found: dict[str, list[Sample]] = {}
        for name in order:
            if number and name in ONCE:
                continue
            console.print(f"round {number + 1}/{count}: {name}", style="dim")
            found[name] = MEASURES[name](ground, sizes, chosen[turn:] + chosen[:turn])
            for each in found[name]:
                console.print(f"    {each.measure}: {each.who} {shown(each.value)} {each.unit}", style="dim")
        yield [sample for name in names for sample in found.get(name, [])]


def contenders(wanted: str, console: Console) -> list[Contender]:
    """We and the peers that are wanted and can run; who cannot is said aloud."""
    names = {"all": [each.name for each in PEERS], "none": []}.get(wanted, wanted.split(","))
    if strange := {*names} - {each.name for each in PEERS}:
        raise SystemExit(f"no such peer: {', '.join(sorted(strange))}")
    chosen = [ADAPTER]
    for each in PEERS:
        if each.name not in names:
            continue
        if (why := each.missing()) is None:
            chosen.append(each)
        else:
            console.print(f"LEFT OUT: {each.name}: {why} (make bench-setup)", style="bold red")
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small round: does everything still run?")
    parser.add_argument("--rounds", type=int, help="how many (default 3)")
    parser.add_argument("--only", help=f"some of {','.join(MEASURES)}")
    parser.add_argument("--peers", default="all", help="all (default), none, or some, by name")
    parser.add_argument("--database", metavar="URL", help="a server to use; it may create databases")
    parser.add_argument("--json", metavar="FILE", help="also write everything there (- for standard output)")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(MEASURES)
    if strange := {*names} - {*MEASURES}:
        parser.error(f"no such measure: {', '.join(sorted(strange))}")
    console = Console(stderr=True, highlight=False)
    chosen = contenders(given.peers, console)
    count = max(1, given.rounds or (1 if given.quick else 3))
    with Ground(given.database) as ground:
        about = machine(ground)
        console.print(", ".join(about.values()))
        rounds: list[list[Sample]] = []
        outcome = Outcome(machine=about, summary=summary(rounds))
        for found in run(ground, console, names, QUICK if given.quick else Sizes(), count, chosen):
            rounds.append(found)
            outcome = Outcome(machine=about, summary=summary(rounds))
            # After each round: what was measured stays, whatever becomes of the next one.
            if given.json and given.json != "-":
                Path(given.json).write_text(f"{_written(outcome, rounds)}\n")
    print(_written(outcome, rounds) if given.json == "-" else markdown(outcome))
    return 0


def _written(outcome: Outcome, rounds: Sequence[Sequence[Sample]]) -> str:
    samples = [[dataclasses.asdict(sample) for sample in each] for each in rounds]
    return json.dumps({**outcome, "rounds": samples}, indent=2)


if __name__ == "__main__":
    sys.exit(main())
