"""Which migrations come with this version, read from their file names: alembic itself is only for migrating."""

from __future__ import annotations

from pathlib import Path

from adapter.domain.errors import SchemaError
from adapter.store.database import Database

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


async def problem(database: Database) -> str | None:
    """Return what is wrong with the database's schema and what to do, None when it is right."""
    rows = await database.fetch(
        "SELECT to_regclass(%(name)s) AS found", {"name": f"{database.schema.quoted}.alembic_version"}
    )
    if rows[0]["found"] is None:
        return f"The schema {database.schema.name!r} is empty. Run `adapter db upgrade`."
    rows = await database.fetch("SELECT version_num FROM {s}.alembic_version")
    revision = rows[0]["version_num"] if rows else None
    if revision is None or revision < head():
        return f"The schema is at {revision}, this version needs {head()}. Run `adapter db upgrade`."
    return None
