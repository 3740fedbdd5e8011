"""Alembic driven from code, so that ``adapter db upgrade`` works after a plain install."""

from __future__ import annotations

import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic import command, context, op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, pool
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from adapter.domain.errors import SchemaError
from adapter.store.database import DatabaseConfig
from adapter.store.revisions import head, scripts
from adapter.store.tables import metadata_for

__all__ = ["check", "comparison", "current", "downgrade", "execute", "head", "upgrade"]

#: Alembic hands its context to a migration through a global of the process.
_ONE_THREAD = threading.Lock()


def upgrade(url: str, schema: str = "adapter") -> str:
    """Bring the schema to the newest revision and return it.

    Safe when many processes do it at once: one migrates, the others wait and find nothing to do.

    Raises:
        SchemaError: the database cannot be reached or refuses.
    """
    with _connected(url, schema) as connection:
        if _current(connection, schema) != head():
            connection.rollback()
            with _ONE_THREAD:
                command.upgrade(_config(connection, schema), "head")
        return head()


def downgrade(url: str, revision: str, schema: str = "adapter") -> None:
    """Take the schema back to ``revision`` (``base``: remove everything)."""
    with _connected(url, schema) as connection, _ONE_THREAD:
        command.downgrade(_config(connection, schema), revision)


def current(url: str, schema: str = "adapter") -> str | None:
    """Return the schema's revision, None when it was never made."""
    with _connected(url, schema) as connection:
        return _current(connection, schema)


def check(url: str, schema: str = "adapter") -> list[str]:
    """Return what differs between the database and the tables of this version; empty means nothing."""
    with _connected(url, schema) as connection:
        revision = _current(connection, schema)
        if revision != head():
            return [f"the schema is at {revision or 'nothing'}, this version needs {head()}"]
        compared = MigrationContext.configure(
            connection, opts={"version_table_schema": schema, **comparison(schema)}
        )
        return [repr(difference) for difference in compare_metadata(compared, metadata_for(schema))]


def execute(*files: Path) -> None:
    """Run SQL files inside a migration; ``{s}`` in them is the schema as an identifier, ``{l}`` as a string."""
    schema = context.get_context().version_table_schema or "adapter"
    # Straight to psycopg: many statements at once, and a percent sign is just a percent sign.
    driver: Any = op.get_bind().connection.driver_connection
    for file in files:
        text = file.read_text(encoding="utf-8")
        driver.execute(text.replace("{s}", f'"{schema}"').replace("{l}", f"'{schema}'"))


def comparison(schema: str) -> dict[str, Any]:
    """Return alembic's options for comparing our schema and nothing else.

    Partitions are made by the retention task, the version table by alembic.
    """

    def named(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "schema" or name == schema

    def managed(_thing: object, name: str | None, kind: str, reflected: bool, _other: object) -> bool:  # noqa: FBT001
        own = name is not None and (name.startswith("worker_jobs_finished_") or name == "alembic_version")
        return not (kind == "table" and reflected and own)

    return {"include_schemas": True, "include_name": named, "include_object": managed}


def _current(connection: Connection, schema: str) -> str | None:
    return MigrationContext.configure(
        connection, opts={"version_table_schema": schema}
    ).get_current_revision()


def _config(connection: Connection | None, schema: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts()))
    config.attributes.update(connection=connection, schema=schema)
    return config


@contextmanager
def _connected(url: str, schema: str) -> Generator[Connection]:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,50}", schema):
        msg = f"{schema!r} cannot be a schema's name here: lower-case letters, digits and underscores, at most 51."
        raise SchemaError(msg)
    conninfo = DatabaseConfig(url, application="adapter migrate").conninfo

    def connect() -> psycopg.Connection:
        return psycopg.connect(conninfo, prepare_threshold=None)

    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=pool.NullPool)
    try:
        with engine.connect() as connection:
            # Our schema may be the user's default one, and alembic would then compare it under no name.
            connection.dialect.default_schema_name = "pg_catalog"
            yield connection
    except DBAPIError as error:
        msg = f"The database refused: {type(error.orig).__name__}: {error.orig}"
        raise SchemaError(msg) from error
    except SQLAlchemyError as error:
        msg = f"The schema could not be changed: {error}"
        raise SchemaError(msg) from error
    finally:
        engine.dispose()
