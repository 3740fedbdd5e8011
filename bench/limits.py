"""A queue's global concurrency limit, kept by four worker processes; the handlers' own ledgers are the proof."""

from __future__ import annotations

from collections.abc import Sequence

from bench.app import LIMIT, PAUSE_S
from bench.contenders import ADAPTER, Contender
from bench.draining import drained
from bench.ground import Ground, Sizes, Stock
from bench.ledger import exactly_once, most_at_once
from bench.processes import StuckError
from bench.samples import Sample

_PROCESSES = 4
_FREE = f"drain no-ops, no limit, {_PROCESSES} worker processes"


def measure(ground: Ground, sizes: Sizes, _: Sequence[Contender]) -> list[Sample]:
    """Four drains: with and without the limit, of no-ops for the rate and of handlers that take their time.

    Without the limit more than it run at once; were that not so, the ledgers would prove nothing.
    """
    pause = f"handlers of {PAUSE_S * 1000:.0f} ms"
    plan = {
        "free": _FREE,
        "limited": f"drain no-ops, global limit {LIMIT}, {_PROCESSES} worker processes",
        "free-slow": f"drain {pause}, no limit, {_PROCESSES} worker processes",
        "limited-slow": f"drain {pause}, global limit {LIMIT}, {_PROCESSES} worker processes",
    }
    samples: list[Sample] = []
    for task, measure in plan.items():
        count = sizes.limited
        with ground.database(ADAPTER, Stock(count, task)) as url:
            seconds, costs, record = drained(ground, ADAPTER, url, count, processes=_PROCESSES)
        if wrong := exactly_once(record.ids, count):
            raise StuckError(wrong)
        most = most_at_once(record.spans_ns)
        if task.startswith("limited") and most > LIMIT:
            raise StuckError(f"the limit of {LIMIT} was exceeded: {most} handlers ran at once")
        of = (_FREE,) if task == "limited" else (plan["free-slow"],) if task == "limited-slow" else ()
        samples += [
            Sample(measure, count / seconds, "jobs/s", of=of, costs=costs),
            Sample(f"{measure}: most at once", most, "", better=None),
        ]
    return samples
