"""A task is typed from payload to result, in both type checkers."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import kit

CASES = Path("tests/typing/cases/payloads.py")
EXAMPLES = (
    "examples/quickstart.py",
    "examples/in_starlette/app.py",
    "examples/in_flask_style/orders.py",
    "examples/document_jobs/jobs.py",
)
_WRONG = re.compile(r"# error: (?P<mypy>\S+) (?P<pyright>\S+)$")
_MYPY = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: .* \[(?P<rule>[\w-]+)\]$")


def expected(checker: str) -> set[tuple[int, str]]:
    lines = enumerate((kit.ROOT / CASES).read_text().splitlines(), start=1)
    return {(number, found[checker]) for number, line in lines if (found := _WRONG.search(line))}


def ran(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=kit.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(120)
def test_mypy_reports_exactly_the_wrong_lines() -> None:
    output = ran("mypy", "--strict", "--no-pretty", str(CASES), *EXAMPLES)
    found = [match for line in output.splitlines() if (match := _MYPY.match(line))]
    assert {each["file"] for each in found} == {str(CASES)}
    assert {(int(each["line"]), each["rule"]) for each in found} == expected("mypy")


@pytest.mark.timeout(120)
def test_pyright_reports_exactly_the_wrong_lines(tmp_path: Path) -> None:
    # Elsewhere, with a configuration of its own: the project's leaves the wrong cases out.
    for each in (CASES, *map(Path, EXAMPLES)):
        shutil.copy(kit.ROOT / each, tmp_path)
    settings = {"extraPaths": [str(kit.ROOT)], "pythonVersion": "3.11", "typeCheckingMode": "strict"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    output = ran("pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(tmp_path))
    report = json.loads(output)
    assert report["summary"]["filesAnalyzed"] == 1 + len(EXAMPLES)
    found = report["generalDiagnostics"]
    assert {Path(each["file"]).name for each in found} == {CASES.name}
    assert {(each["range"]["start"]["line"] + 1, each["rule"]) for each in found} == expected("pyright")
