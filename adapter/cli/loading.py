"""From ``pkg.mod:adapter`` to the application's adapter."""

from __future__ import annotations

import functools
import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from adapter.cli.exits import CommandError
from adapter.cli.logs import mask
from adapter.domain.errors import AdapterError

if TYPE_CHECKING:
    from adapter.app import Adapter

_ATTRIBUTE = "adapter"


def load(spec: str) -> Adapter:
    """Return the adapter that ``spec`` names; ``:adapter`` may be left out.

    Raises:
        CommandError: there is no such module, it cannot be imported, or that is no adapter.
    """
    from adapter.app import Adapter

    name, _, attribute = spec.partition(":")
    if not name or name.startswith("."):
        raise CommandError(f"--app {spec!r} is no place. Write it like `shop.jobs:adapter`.")
    module = _imported(name)
    try:
        found: Any = functools.reduce(getattr, (attribute or _ATTRIBUTE).split("."), module)
    except AttributeError:
        near = sorted(each for each, value in vars(module).items() if isinstance(value, Adapter))
        hint = f"There is {', '.join(f'{name}:{each}' for each in near)}." if near else ""
        raise CommandError(
            f"Module {name!r} has no attribute {attribute or _ATTRIBUTE!r}.", hint=hint
        ) from None
    if not isinstance(found, Adapter):
        raise CommandError(f"--app {spec!r} is no Adapter but {_article(type(found).__name__)}.")
    return found


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        # As `python -m` does; a console script has its own folder there instead.
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except AdapterError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise CommandError(
                f"There is no module {error.name!r}, neither in {here} nor installed."
            ) from None
        raise CommandError(_why(name, error)) from error
    except (Exception, SystemExit) as error:
        raise CommandError(_why(name, error)) from error


def _why(name: str, error: BaseException) -> str:
    """Return where in the application's code the import ended, and why."""
    frames = [
        each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith("<frozen")
    ]
    at = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    words = str(error).partition("\n")[0]
    return mask(f"Module {name!r} cannot be imported: {type(error).__name__}: {words}{at}")


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
