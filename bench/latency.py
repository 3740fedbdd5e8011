"""How soon an idle worker picks a job up: from the start of the call in one process to the handler in another."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence

import psycopg

from bench.contenders import ROOT, Contender
from bench.ground import Ground, Sizes
from bench.peers.program import PER_SECOND
from bench.processes import StuckError
from bench.samples import Sample, quantile

_IDLE_S = 2.0


def measure(ground: Ground, sizes: Sizes, contenders: Sequence[Contender]) -> list[Sample]:
    return [sample for each in contenders for sample in _measured(ground, sizes, each)]


def _measured(ground: Ground, sizes: Sizes, contender: Contender) -> list[Sample]:
    with (
        ground.database(contender) as url,
        psycopg.connect(url, autocommit=True) as conn,
        ground.workers(contender, url, task="lag") as workers,
    ):
        _pace(contender, url, 3)
        time.sleep(_IDLE_S)
        _pace(contender, url, sizes.paced)
        workers.until_none(conn, contender.open_jobs)
        time.sleep(0.2)
        lags = workers.stop().lags_ms[3:]
    if len(lags) != sizes.paced:
        raise StuckError(f"{contender.name}: {len(lags)} jobs of {sizes.paced} were reached")
    return [
        Sample(
            f"from call to handler at {PER_SECOND}/s, p{share}",
            quantile(lags, share / 100),
            "ms",
            contender.name,
            "less",
        )
        for share in (50, 95, 99)
    ]


def _pace(contender: Contender, url: str, count: int) -> None:
    subprocess.run(contender.command("pace", url, count=count), cwd=ROOT, check=True)
