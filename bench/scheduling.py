"""Scheduling: one awaited call after another, on one connection and on ten, and in bulk."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from bench.contenders import ADAPTER, Contender
from bench.ground import Ground, Sizes
from bench.meter import Meter
from bench.processes import scheduling
from bench.raw import BULK, SINGLE, SINGLE_WIDE, connections
from bench.samples import Sample

MEASURES = {count: f"schedule one by one, {connections(count)}" for count in (1, 10)}
MANY = "schedule, 1000 per call"


def single(ground: Ground, sizes: Sizes, contenders: Sequence[Contender]) -> list[Sample]:
    samples: list[Sample] = []
    for count, measure in MEASURES.items():
        for each in contenders:
            of = SINGLE[count], SINGLE_WIDE[count]
            samples += _scheduled(ground, each, "single", measure, sizes.singles * count // 2, of, count)
    return samples


def bulk(ground: Ground, sizes: Sizes, contenders: Sequence[Contender]) -> list[Sample]:
    return [
        sample
        for each in contenders
        for sample in _scheduled(ground, each, "bulk", MANY, sizes.bulk, (BULK,))
    ]


def keys(ground: Ground, sizes: Sizes, _: Sequence[Contender]) -> list[Sample]:
    """What an idempotency key costs: a second row in a second table, in the same transaction."""
    return [
        sample
        for count in (1, 10)
        for sample in _scheduled(
            ground,
            ADAPTER,
            "single",
            f"schedule with an idempotency key, {connections(count)}",
            sizes.singles * count // 2,
            (MEASURES[count],),
            count,
            "--keys",
        )
    ]


def _scheduled(
    ground: Ground,
    contender: Contender,
    command: str,
    measure: str,
    jobs: int,
    of: tuple[str, ...],
    connections: int = 1,
    *flags: str,
) -> list[Sample]:
    with ground.database(contender) as url, psycopg.connect(url, autocommit=True) as conn:
        arguments = contender.command(command, url, count=jobs, connections=connections)
        with scheduling([*arguments, *flags]) as program:
            meter = Meter(conn, lambda: 0.0)
            meter.start()
            said = program.go()
            costs = meter.stop(jobs)
    # It has counted its own CPU, without its boot.
    costs["client_us"] = said["cpu_s"] / jobs * 1e6
    costs["client_cores"] = said["cpu_s"] / said["seconds"]
    if "foreign_cores" in costs:
        costs["foreign_cores"] = max(0.0, costs["foreign_cores"] - costs["client_cores"])
    samples = [Sample(measure, jobs / said["seconds"], "jobs/s", contender.name, of=of, costs=costs)]
    if command == "single" and not flags:
        samples.append(Sample(f"{measure}: p50 of a call", said["p50_ms"], "ms", contender.name, "less"))
    return samples
