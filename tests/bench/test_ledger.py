"""The witness of the benchmarks: it must see a job lost, run twice, and a limit that is exceeded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.ledger import STEP, Record, exactly_once, most_at_once, progress
from tests import kit


def test_each_job_once_is_all_it_accepts() -> None:
    assert exactly_once([2, 0, 1], 3) is None
    assert exactly_once([0, 1], 3) == "2 runs of 3 jobs; lost: [2]; ran twice: []"
    assert exactly_once([0, 1, 1, 2], 3) == "4 runs of 3 jobs; lost: []; ran twice: [1]"
    assert exactly_once([0, 1, 1], 3) == "3 runs of 3 jobs; lost: [2]; ran twice: [1]"


@pytest.mark.parametrize(
    ("spans", "most"),
    [
        ([], 0),
        ([(0, 5)], 1),
        ([(0, 5), (5, 9)], 1),
        ([(0, 5), (4, 9)], 2),
        ([(0, 9), (1, 2), (3, 4), (3, 8)], 3),
    ],
)
def test_the_most_at_once(spans: list[tuple[int, int]], most: int) -> None:
    assert most_at_once(spans) == most


def test_a_process_writes_its_ledger_down_when_it_ends(tmp_path: Path) -> None:
    jobs = STEP + 1
    code = f"from bench.ledger import Ledger\nkept = Ledger()\nfor i in range({jobs}): kept.span(i, i)"
    environ = {"PATH": os.defpath, "BENCH_LEDGER": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=kit.ROOT, env=environ)
    assert progress(tmp_path) == (1, STEP)
    record = Record()
    for path in tmp_path.glob("*.json"):
        record.add(json.loads(path.read_text()))
    assert exactly_once(record.ids, jobs) is None
    assert (record.count, len(record.spans_ns)) == (jobs, jobs)
    assert record.first_ns > 0
