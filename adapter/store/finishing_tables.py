"""The tables of leaving an executor: drills back to it, and that it was left for good."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Interval,
    MetaData,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from adapter.domain.drill import DrillState
from adapter.store.columns import moment, required, stamp


def finishing_tables(metadata: MetaData) -> None:
    """Add them to ``metadata``."""
    states = ", ".join(repr(each.value) for each in sorted(DrillState))
    Table(
        "drills",
        metadata,
        required("id", Uuid, primary_key=True),
        required("task", Text),
        required("target", Text),
        required("state", Text, server_default=text("'running'")),
        required("reason", Text),
        required("actor", Text),
        required("source", Text),
        required("hold", Interval),
        # What is put back, and the version of the flag that it is put in place of.
        Column("flag_before", JSONB),
        required("flag_version", BigInteger),
        stamp("started_at"),
        # Whoever carries it out says so all the time; later, anybody puts the flag back.
        stamp("held_until"),
        moment("finished_at"),
        Column("result", JSONB),
        CheckConstraint(f"state IN ({states})", name="drills_state"),
        Index("drills_running", "task", unique=True, postgresql_where=text("state = 'running'")),
        Index("drills_started", "started_at"),
    )
    Table(
        "finalizations",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        stamp("at"),
        required("executor", Text),
        required("task", Text),
        required("actor", Text),
        required("source", Text),
        required("reason", Text),
        required("gates", JSONB),
        required("accepted", JSONB),
        moment("reopened_at"),
        Column("reopened_by", Text),
        Column("reopened_from", Text),
        Column("reopen_reason", Text),
        Index(
            "finalizations_standing",
            "executor",
            "task",
            unique=True,
            postgresql_where=text("reopened_at IS NULL"),
        ),
    )
