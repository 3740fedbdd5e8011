"""The tables of bulk actions: what is to be done with many jobs, and what became of each."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from adapter.store.columns import GROWING, flag, moment, required, stamp


def bulk_action_tables(metadata: MetaData) -> None:
    """Add them to ``metadata``."""
    Table(
        "bulk_actions",
        metadata,
        required("id", Uuid, primary_key=True),
        required("action", Text),
        Column("name", Text),
        # Which jobs; none when they were named one by one. All of the books above ``place`` are in the ledger.
        Column("wanted", JSONB),
        Column("place", Text),
        flag("selected"),
        # What a replay is given over what is copied.
        Column("overrides", JSONB),
        required("state", Text, server_default=text("'pending'")),
        required("actor", Text),
        Column("request_key", Text, unique=True),
        required("total", BigInteger, server_default=text("0")),
        required("succeeded", BigInteger, server_default=text("0")),
        required("failed", BigInteger, server_default=text("0")),
        # The process that works on it, until when.
        Column("holder", Uuid),
        moment("held_until"),
        stamp("created_at"),
        moment("finished_at"),
        CheckConstraint("action IN ('cancel', 'replay')", name="bulk_actions_action"),
        CheckConstraint("state IN ('pending', 'completed', 'aborted')", name="bulk_actions_state"),
        Index("bulk_actions_pending", "created_at", postgresql_where=text("state = 'pending'")),
    )
    Table(
        "bulk_action_jobs",
        metadata,
        required("bulk_action_id", Uuid),
        required("job_id", Uuid),
        # None until it was acted on.
        Column("outcome", Text),
        Column("new_job_id", Uuid),
        Column("problem", Text),
        PrimaryKeyConstraint("bulk_action_id", "job_id"),
        CheckConstraint("outcome IN ('done', 'failed')", name="bulk_action_jobs_outcome"),
        Index("bulk_action_jobs_open", "bulk_action_id", "job_id", postgresql_where=text("outcome IS NULL")),
        postgresql_with=GROWING,
    )
