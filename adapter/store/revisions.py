"""Which migrations come with this version, read from their file names: alembic itself is only for migrating."""

from __future__ import annotations

from pathlib import Path

from adapter.domain.errors import SchemaError

_INSTALLED = Path(__file__).parents[1] / "_alembic"
_CHECKOUT = Path(__file__).parents[2] / "alembic"


def scripts() -> Path:
    """Return the directory of the migrations."""
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def head() -> str:
    """Return the revision this version of the adapter needs.

    Raises:
        SchemaError: the installation has no migrations.
    """
    found = [path.name.partition("_")[0] for path in scripts().glob("versions/[0-9]*_*.py")]
    if not found:
        msg = "The migrations are missing from this installation. Install the package again."
        raise SchemaError(msg)
    return max(found)
