"""The table of pass-through: what was handed on to the Trigger.dev behind us."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Date, MetaData, PrimaryKeyConstraint, Table, Text, text

from adapter.store.columns import required, stamp


def pass_through_tables(metadata: MetaData) -> None:
    """Add it to ``metadata``."""
    Table(
        "forwarded_requests",
        metadata,
        required("day", Date),
        required("endpoint", Text),
        Column("task", Text, nullable=False, server_default=text("''")),
        required("requests", BigInteger),
        required("refused", BigInteger),
        required("failed", BigInteger),
        stamp("last_at"),
        PrimaryKeyConstraint("day", "endpoint", "task"),
    )
