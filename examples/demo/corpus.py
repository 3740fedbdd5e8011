"""The real input: every Python file of the standard library on this machine, and how to count one."""

from __future__ import annotations

import ast
import gc
import sysconfig
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

ROOT = Path(sysconfig.get_path("stdlib")).resolve()
_NOT_OURS = {"site-packages", "dist-packages", "__pycache__"}
#: A package with more files than this is cut into several jobs; the first size that makes few enough jobs.
_SLICES = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
_MOST_JOBS = 220
#: Python 3.11 counts how deep it is in a tree once for all threads, and fails when two parse at a time.
_PARSING = threading.Lock()


class Package(BaseModel):
    """What one job is given: the files of one package, or a slice of them, relative to `ROOT`."""

    name: str
    files: list[str]


class Counts(BaseModel):
    """What one job returns, and what all of them add up to."""

    files: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    imports: int = 0
    #: Files that are wrong on purpose: the library tests its own parser with them.
    unreadable: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in Counts.model_fields})


def packages() -> list[Package]:
    """Every package of the library; large ones, and the modules that stand alone, in slices."""
    folders: dict[str, list[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        if not _NOT_OURS & set(relative.parts):
            folders.setdefault(".".join(relative.parts[:-1]) or "modules", []).append(str(relative))
    sizes = (
        size for size in _SLICES if sum(-(-len(files) // size) for files in folders.values()) <= _MOST_JOBS
    )
    size = next(sizes, _SLICES[-1])
    return [package for name, files in folders.items() for package in _sliced(name, files, size)]


def _sliced(name: str, files: list[str], size: int) -> Iterator[Package]:
    parts = [files[start : start + size] for start in range(0, len(files), size)]
    for number, part in enumerate(parts, 1):
        yield Package(name=name if len(parts) == 1 else f"{name} {number}/{len(parts)}", files=part)


def count(files: Iterable[str]) -> Counts:
    """Count these files."""
    total = Counts()
    for name in files:
        source = (ROOT / name).read_bytes()
        total.files += 1
        total.lines += source.count(b"\n")
        with _undisturbed():
            _count_statements(source, total)
    return total


def _count_statements(source: bytes, total: Counts) -> None:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        total.unreadable += 1
        return
    for statement in _statements(tree):
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                total.functions += 1
            case ast.ClassDef():
                total.classes += 1
            case ast.Import() | ast.ImportFrom():
                total.imports += 1
            case _:
                pass


@contextmanager
def _undisturbed() -> Generator[None]:
    """One tree at a time, and no collector that walks over it again and again: half the time."""
    with _PARSING:
        gc.disable()
        try:
            yield
        finally:
            gc.enable()


def _statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """Every statement, however deep. Expressions are not entered: none of what is counted hides in one."""
    left: list[ast.AST] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, ast.stmt):
            yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            below: object = getattr(node, field, None)
            if isinstance(below, list):
                left += below
