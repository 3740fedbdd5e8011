"""The tables by which executors are compared and moved between."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Interval,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from adapter.store.columns import BUSY, GROWING, moment, required, stamp


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
    _shadows(metadata)
    _schedules(metadata)


def _shadows(metadata: MetaData) -> None:
    Table(
        "shadows",
        metadata,
        required("job_id", Uuid),
        required("executor", Text),
        required("shadow_id", Uuid),
        required("task", Text),
        required("mode", Text),
        stamp("made_at"),
        # None until the copy has ended.
        Column("verdict", Text),
        moment("judged_at"),
        Column("took", Interval),
        Column("paths", ARRAY(Text)),
        Column("record_hash", Text),
        Column("shadow_hash", Text),
        Column("detail", JSONB),
        PrimaryKeyConstraint("job_id", "executor"),
        CheckConstraint(
            "verdict IN ('equal', 'different', 'taken', 'refused', 'void')", name="shadows_verdict"
        ),
        Index("shadows_made", "task", "made_at"),
        Index("shadows_open", "task", "executor", postgresql_where=text("verdict IS NULL")),
        postgresql_with=GROWING,
    )
    Table(
        "shadow_progress",
        metadata,
        required("task", Text),
        required("executor", Text),
        required("flag_version", BigInteger),
        required("seen_at", DateTime(timezone=True)),
        required("seen_id", Uuid),
        required("dropped", BigInteger, server_default=text("0")),
        PrimaryKeyConstraint("task", "executor"),
        postgresql_with=BUSY,
    )


def _schedules(metadata: MetaData) -> None:
    Table(
        "schedule_changes",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        stamp("at"),
        required("actor", Text),
        required("source", Text),
        required("schedule_id", Uuid),
        required("task", Text),
        required("kind", Text),
        Column("before", JSONB),
        Column("after", JSONB),
        required("reason", Text),
        Index("schedule_changes_schedule", "schedule_id", "id"),
    )
