"""S2: "24 h without a crash, < 100 MB, no leak with 10 workers, not slower": a short soak, and its judge."""

import subprocess
import sys

import pytest

from soak import verdict
from soak.sampling import OfDatabase, OfProcess, Samples
from tests import kit

pytestmark = pytest.mark.patient

SECONDS, RATE = 300.0, 0.5
COUNTS = (100, 0, 0, 0, 110, 0, 2)
THIRDS = [(1, 30, 5.0), (2, 40, 5.0), (3, 40, 6.0)]


@pytest.mark.timeout(280)
def test_a_short_soak_holds() -> None:
    """Twenty seconds, a kill and a restart of PostgreSQL. `make soak` is the long one."""
    options = [
        "--seconds",
        "20",
        "--workers",
        "3",
        "--rate",
        "40",
        "--kill-every",
        "7",
        "--restart-every",
        "11",
        # What was held at the last kill is waited for that long.
        "--lease",
        "10",
    ]
    if bin_dir := kit.own_setting("PG_BIN"):
        options += ["--pg-bin", bin_dir]
    done = subprocess.run(
        [sys.executable, "-m", "soak", *options],
        cwd=kit.ROOT,
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
    assert "1 restarts of PostgreSQL" in done.stdout
    assert "0 kills" not in done.stdout


def samples(*, rss_growth: float = 0, descriptor_growth: float = 0, rss: float = 60) -> Samples:
    looks = [
        OfProcess(at, rss + rss_growth * at / SECONDS, int(20 + descriptor_growth * at / SECONDS), 10)
        for at in range(0, int(SECONDS), 10)
    ]
    return Samples({("worker-1", 1): looks}, [OfDatabase(0, 20, 1.0, 1.0, 0, 5)])


def broken(found: Samples, counts: object = COUNTS, thirds: object = THIRDS, code: int = 0) -> set[str]:
    lines = verdict.judge(found, counts, thirds, rate=RATE, seconds=SECONDS, code=code)  # pyright: ignore[reportArgumentType]
    return {line.name for line in lines if not line.held}


def test_what_holds_is_said_to_hold() -> None:
    assert broken(samples()) == set()


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (samples(rss_growth=60), "RSS growth, worst worker, MB"),
        (samples(descriptor_growth=60), "descriptor growth, worst worker"),
        (samples(rss=101), "largest RSS of a worker, MB"),
        (Samples(), "long-lived workers"),
    ],
)
def test_a_leak_is_found_out(found: Samples, name: str) -> None:
    assert name in broken(found)


@pytest.mark.parametrize(
    ("place", "value", "name"),
    [
        (1, 1, "lost"),
        (2, 1, "still open"),
        (3, 1, "finished more than once"),
        (5, 1, "failed (none should)"),
    ],
)
def test_a_lost_or_doubled_job_is_found_out(place: int, value: int, name: str) -> None:
    counts = [*COUNTS[:place], value, *COUNTS[place + 1 :]]
    assert broken(samples(), counts) == {name}


def test_drift_and_a_bad_end_are_found_out() -> None:
    slower = [*THIRDS[:2], (3, 40, 40.0)]
    assert broken(samples(), thirds=slower) == {"wait of a quick job, last third, ms"}
    fewer = [*THIRDS[:2], (3, 20, 5.0)]
    assert broken(samples(), thirds=fewer) == {"finished in the last third / the middle third"}
    assert broken(samples(), code=1) == {"exit code of the workers"}


def test_a_load_far_below_its_rate_is_found_out_and_called_no_loss() -> None:
    sixth = int(RATE * SECONDS / 6)
    assert broken(samples(), (sixth, *COUNTS[1:])) == {"scheduled, of the rate"}
