"""The table of environment variables."""

from __future__ import annotations

from sqlalchemy import MetaData, PrimaryKeyConstraint, Table, Text

from adapter.store.columns import flag, required, stamp


def variable_tables(metadata: MetaData) -> None:
    """Add it to ``metadata``."""
    Table(
        "environment_variables",
        metadata,
        required("environment", Text),
        required("name", Text),
        required("value", Text),
        flag("is_secret"),
        required("changed_by", Text),
        stamp("created_at"),
        stamp("updated_at"),
        PrimaryKeyConstraint("environment", "name"),
    )
