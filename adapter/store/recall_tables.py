"""The tables of recalls: operations that take jobs back, and what became of each job."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)

from adapter.domain.recall import RecallMode, RecallState
from adapter.store.columns import moment, required, stamp


def _one_of(column: str, values: type[RecallMode | RecallState]) -> str:
    return f"{column} IN ({', '.join(repr(each.value) for each in sorted(values))})"


def recall_tables(metadata: MetaData) -> None:
    """Add them to ``metadata``."""
    Table(
        "recalls",
        metadata,
        required("id", Uuid, primary_key=True),
        required("task", Text),
        required("source", Text),
        required("target", Text),
        required("mode", Text),
        # As the registry had it when the recall was begun: whoever goes on with it decides by that.
        required("types", ARRAY(Text)),
        required("idempotent", ARRAY(Text)),
        required("state", Text, server_default=text("'planned'")),
        required("reason", Text),
        required("actor", Text),
        required("batch", Integer, server_default=text("100")),
        Column("per_second", Double),
        required("calls", BigInteger, server_default=text("0")),
        required("seconds", Double, server_default=text("0")),
        # The process that works on it, until when.
        Column("holder", Uuid),
        moment("held_until"),
        stamp("created_at"),
        moment("finished_at"),
        CheckConstraint(_one_of("mode", RecallMode), name="recalls_mode"),
        CheckConstraint(_one_of("state", RecallState), name="recalls_state"),
        Index("recalls_created", "created_at"),
        Index(
            "recalls_open",
            "task",
            unique=True,
            postgresql_where=text("state IN ('planned', 'running', 'stopping')"),
        ),
    )
    Table(
        "recall_jobs",
        metadata,
        required("recall_id", Uuid),
        required("job_id", Uuid),
        required("epoch", Integer),
        required("executor", Text),
        Column("run_id", Text),
        # Committed before a cancel leaves: from then on a start counts as hit by it.
        moment("asked_at"),
        stamp("next_at"),
        Column("outcome", Text),
        moment("settled_at"),
        PrimaryKeyConstraint("recall_id", "job_id"),
        Index("recall_jobs_open", "recall_id", "next_at", postgresql_where=text("outcome IS NULL")),
    )
