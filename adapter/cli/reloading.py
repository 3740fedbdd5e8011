"""Watching the application's source, for ``--reload``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from importlib.util import find_spec
from pathlib import Path

from adapter.cli.exits import CommandError

#: Beside Python: a registry may be written in TOML.
_EXTENSIONS = (".toml",)
_MOST_NAMED = 3
#: Saves closer together than this are one change, and for how long they are gathered, in milliseconds.
_QUIET_MS = 100
_GATHER_MS = 1600


def require_watcher() -> None:
    """Raise unless the source can be watched.

    Raises:
        CommandError: watchfiles is not installed.
    """
    if find_spec("watchfiles") is None:
        raise CommandError(
            "--reload needs the package watchfiles.", hint="Install it: pip install 'trigger-adapter[reload]'"
        )


async def changes_of_source(directory: Path) -> AsyncGenerator[str]:
    """Yield in words what changed below a directory, once for saves that come together.

    Virtual environments, caches and hidden folders do not count.
    """
    from watchfiles import PythonFilter, awatch  # pyright: ignore[reportUnknownVariableType] - names trio

    wanted = PythonFilter(extra_extensions=_EXTENSIONS)
    async for changes in awatch(
        directory, watch_filter=wanted, step=_QUIET_MS, debounce=_GATHER_MS, raise_interrupt=False
    ):
        names = sorted({_relative(Path(path), directory) for _, path in changes})
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        yield f"{', '.join(names[:_MOST_NAMED])}{more} changed"


def _relative(path: Path, directory: Path) -> str:
    return str(path.relative_to(directory)) if path.is_relative_to(directory) else str(path)
