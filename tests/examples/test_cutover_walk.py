"""The walk through a migration holds what it asserts, and docs/cutover.md shows what it said."""

import os
import re
import subprocess
import sys

import pytest

from tests import kit

pytestmark = [pytest.mark.fault, pytest.mark.patient, pytest.mark.timeout(240)]

_PAGE = (kit.ROOT / "docs" / "cutover.md").read_text()
GUIDE = re.split(r"^## \d+\. A migration, step by step$", _PAGE, flags=re.MULTILINE)[1]
SHOWN = re.findall(r"^```console\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
#: What no two walks have in common: ids, numbers, who types.
_VARIES = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{12}\b|\S+ \(cli\)|\d+(?:\.\d+)?")


def masked(text: str) -> list[str]:
    """Return the lines without what varies, and without the widths of columns."""
    return [" ".join(_VARIES.sub("N", line).split()) for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def said() -> str:
    bin_dir = kit.own_setting("PG_BIN")
    done = subprocess.run(
        [sys.executable, "-m", "examples.cutover.walk"],
        cwd=kit.ROOT,
        env={"PATH": os.defpath} | ({"ADAPTER_PG_BIN": bin_dir} if bin_dir else {}),
        capture_output=True,
        text=True,
        timeout=230,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_nothing_is_lost_and_nothing_is_begun_twice(said: str) -> None:
    assert "\n# lost: 0\n" in said
    assert "\n# begun twice: 0; begun by two executors: 0\n" in said


def test_the_guide_shows_what_the_walk_says(said: str) -> None:
    lines = masked(said)
    at = 0
    assert len(SHOWN) >= 5
    for block in SHOWN:
        for line in masked(block):
            if line == "…":
                continue
            assert line in lines[at:], f"the walk says no more: {line}"
            at += lines[at:].index(line) + 1


def test_the_guide_types_every_command_that_the_walk_types(said: str) -> None:
    def typed(text: str) -> list[str]:
        return [line for line in masked(text) if line.startswith("$ adapter ")]

    assert typed("\n".join(SHOWN)) == typed(said)
