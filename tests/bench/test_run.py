"""The benchmarks still run: small ones, without peers."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as bench
from tests import kit


@pytest.mark.once("about how it is measured")
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("unchanged_environment")
def test_a_quick_round(postgres: kit.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.json"
    names = ["raw", "single", "api", "drain"]
    arguments = ["--quick", "--peers", "none", "--only", ",".join(names), "--json", str(out)]
    monkeypatch.setattr("sys.argv", ["bench", *arguments, "--database", postgres.url("postgres")])
    assert bench.main() == 0
    found: dict[str, Any] = json.loads(out.read_text())
    lines = {line["measure"]: line for line in found["summary"] if line["who"] == "adapter"}
    assert lines["drain no-ops, one worker process"]["median"] > 0
    assert (
        lines["schedule one by one, 1 connection"]["ratios"]["INSERT and commit, our row, 1 connection"] > 0
    )
    through = lines["trigger through the API, 1 connection"]["ratios"]
    assert through["schedule one by one, 1 connection"] > 0
    assert lines["trigger 1000 per batch through the API"]["median"] > 0
    assert lines["drain no-ops, one worker process"]["costs"]["wal_bytes"] > 0


def test_a_peer_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--peers", "nobody"])
    with pytest.raises(SystemExit, match="no such peer: nobody"):
        bench.main()
