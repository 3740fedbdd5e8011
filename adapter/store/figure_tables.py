"""The tables of figures: how many jobs have ended how, and up to when they were counted."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, MetaData, PrimaryKeyConstraint, Table, Text, text

from adapter.store.columns import required, stamp


def figure_tables(metadata: MetaData) -> None:
    """Add them to ``metadata``."""
    Table(
        "finished_counts",
        metadata,
        required("task", Text),
        required("queue", Text),
        required("executor", Text),
        required("status", Text),
        required("jobs", BigInteger),
        PrimaryKeyConstraint("task", "queue", "executor", "status"),
    )
    Table(
        "finished_counted",
        metadata,
        required("only_row", Boolean, server_default=text("true"), primary_key=True),
        stamp("counted_to"),
        CheckConstraint("only_row", name="finished_counted_only_row"),
    )
