"""How many statements a job costs: counted in the log of a server of its own, where nothing is timed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bench.contenders import Contender
from bench.draining import WATCHER, drained
from bench.ground import Ground, Sizes, Stock
from bench.processes import scheduling
from bench.samples import Sample

_SETTINGS = {"log_statement": "all", "log_line_prefix": "%d|%a|"}


def measure(_: Ground, sizes: Sizes, contenders: Sequence[Contender]) -> list[Sample]:
    samples: list[Sample] = []
    count = sizes.statements
    with Ground(None, _SETTINGS) as ground:
        log = ground.folder / "pg" / "server.log"
        for each in contenders:
            singles = count // 10
            with (
                ground.database(each) as url,
                scheduling(each.command("single", url, count=singles)) as program,
            ):
                before = _statements(log, url)
                program.go()
                single = (_statements(log, url) - before) / singles
            with ground.database(each, Stock(count)) as url:
                drained(ground, each, url, count)
                drain = _statements(log, url) / count
            samples += [
                Sample("statements to schedule one job", single, "each", each.name, None),
                Sample("statements to drain one job, boot included", drain, "each", each.name, None),
            ]
    return samples


def _statements(log: Path, url: str) -> int:
    """How many the server has carried out in a database, but for those of the benchmark itself."""
    name = re.escape(urlsplit(url).path[1:])
    line = re.compile(rf"^{name}\|(?!{WATCHER}\|)[^|]*\|LOG:  (?:statement|execute [^:]*):", re.MULTILINE)
    return len(line.findall(log.read_text()))
