"""The tables by which executors are compared and moved between."""

from __future__ import annotations

from sqlalchemy import Column, Interval, MetaData, PrimaryKeyConstraint, Table, Text, Uuid, text

from adapter.store.columns import BUSY, required, stamp


def tables_of_cutover(metadata: MetaData) -> None:
    """Add them to ``metadata``."""
    Table(
        "executor_health",
        metadata,
        required("executor", Text),
        required("task", Text),
        # One character per outcome and per try, the newest last.
        required("outcomes", Text, server_default=text("''")),
        required("tries", Text, server_default=text("''")),
        stamp("updated_at"),
        PrimaryKeyConstraint("executor", "task"),
        postgresql_with=BUSY,
    )
    Table(
        "canaries",
        metadata,
        required("executor", Text, primary_key=True),
        required("task", Text),
        required("every", Interval),
        stamp("next_at"),
        # No beat before this counts as missed.
        stamp("counted_from"),
        Column("last_job_id", Uuid),
        postgresql_with=BUSY,
    )
