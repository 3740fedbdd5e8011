"""What PostgreSQL refused."""

from __future__ import annotations

from adapter.domain.errors.base import AdapterError


class StoreError(AdapterError):
    """PostgreSQL refused or could not be used."""

    code = "store"


class DatabaseUnavailableError(StoreError):
    """PostgreSQL cannot be reached, went away, or had to undo a transaction. Trying again may help."""

    code = "database_unavailable"


class SchemaError(StoreError):
    """The database's schema is not the one this version needs."""

    code = "schema"


class EmbeddedPostgresError(StoreError):
    """A local PostgreSQL could not be found, started or joined."""

    code = "embedded_postgres"
