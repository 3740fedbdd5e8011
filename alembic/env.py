"""Runs the migrations on the connection it is given.

Called by ``adapter.store.migrate`` with a connection and a schema in ``config.attributes``. From the
command line (``alembic revision --autogenerate``) it takes the URL of ``-x url=...``.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine, text

from adapter.store.migrate import comparison
from adapter.store.tables import metadata_for

#: Any constant of our own: every process that migrates waits for the same lock.
_LOCK = 0x6164_6170_7465_7231


def _migrate(connection: Connection, schema: str) -> None:
    with connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        context.configure(
            connection=connection,
            target_metadata=metadata_for(schema),
            version_table_schema=schema,
            **comparison(schema),
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
