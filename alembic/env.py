"""Runs the migrations on the connection it is given.

Called by ``adapter.store.migrate`` with a connection and a schema in ``config.attributes``. From the
command line (``alembic revision --autogenerate``) it takes the URL of ``-x url=...``.
"""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection, create_engine, text

from adapter.store.tables import metadata_for

#: Any constant of our own: every process that migrates waits for the same lock.
_LOCK = 0x6164_6170_7465_7231


def _include(schema: str) -> Any:
    def include(thing: Any, name: str | None, kind: str, reflected: bool, _other: Any) -> bool:
        del thing
        # Partitions are made by the retention task, the version table by alembic.
        return not (kind == "table" and reflected and name is not None and _is_ours(name))

    def _is_ours(name: str) -> bool:
        return name.startswith("worker_jobs_finished_") or name == "alembic_version"

    del schema
    return include


def _migrate(connection: Connection, schema: str) -> None:
    with connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        context.configure(
            connection=connection,
            target_metadata=metadata_for(schema),
            version_table_schema=schema,
            include_schemas=True,
            include_name=lambda name, kind, _parents: kind != "schema" or name == schema,
            include_object=_include(schema),
            compare_server_default=False,
            transaction_per_migration=False,
        )
        context.run_migrations()


if "connection" in context.config.attributes:
    _migrate(context.config.attributes["connection"], context.config.attributes["schema"])
else:
    arguments = context.get_x_argument(as_dictionary=True)
    with create_engine(arguments["url"]).connect() as opened:
        _migrate(opened, arguments.get("schema", "adapter"))
