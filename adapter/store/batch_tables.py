"""The tables of batches: what was opened, what came of it, and the items of those that are not sealed yet."""

from __future__ import annotations

from sqlalchemy import ARRAY, Column, Index, Integer, MetaData, PrimaryKeyConstraint, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from adapter.store.columns import moment, required, stamp


def batch_tables(metadata: MetaData) -> None:
    """Add them to ``metadata``."""
    Table(
        "batches",
        metadata,
        required("id", Uuid, primary_key=True),
        required("run_count", Integer),
        required("status", Text),
        Column("idempotency_key", Text, unique=True),
        Column("parent_id", Uuid),
        Column("detail", JSONB),
        moment("sealed_at"),
        stamp("created_at"),
        moment("key_expires_at"),
        Column("request_key", Text),
        # By place; null where no job could be made.
        Column("run_ids", ARRAY(Uuid)),
        Column("errors", JSONB),
        moment("finished_at"),
        stamp("updated_at"),
        Index(
            "batches_request", "request_key", unique=True, postgresql_where=text("request_key IS NOT NULL")
        ),
        Index("batches_created", "created_at"),
    )
    Table(
        "batch_items",
        metadata,
        required("batch_id", Uuid),
        required("place", Integer),
        required("item", Text),
        PrimaryKeyConstraint("batch_id", "place"),
    )
