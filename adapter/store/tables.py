"""The tables, each with its indexes beside it.

Alembic compares a database with this module (``adapter db check``). Everything lives in one schema;
`metadata_for` makes the same tables under another name.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    Interval,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from adapter.domain.job import OPEN, TERMINAL, SubmitState, WaitingFor
from adapter.store.batch_tables import batch_tables
from adapter.store.bulk_action_tables import bulk_action_tables
from adapter.store.columns import flag, moment, required, stamp
from adapter.store.cutover_tables import tables_of_cutover
from adapter.store.figure_tables import figure_tables
from adapter.store.finishing_tables import finishing_tables
from adapter.store.pass_through_tables import pass_through_tables
from adapter.store.recall_tables import recall_tables
from adapter.store.security_tables import security_tables
from adapter.store.side_tables import tables_beside_jobs
from adapter.store.variable_tables import variable_tables
from adapter.store.wait_token_tables import wait_token_tables
from adapter.store.webhook_tables import webhook_tables

#: What the hot heap needs to stay small under claim and finish: vacuum by count, not by share.
_HOT = {
    "fillfactor": 85,
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 5000,
    "autovacuum_analyze_scale_factor": 0,
    "autovacuum_analyze_threshold": 5000,
    "autovacuum_vacuum_cost_delay": 0,
}


def _one_of(column: str, values: Any) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in sorted(values))})"


def _job_columns() -> list[Column[Any]]:
    """Columns that a job keeps for life, open or finished."""
    return [
        required("id", Uuid),
        required("type", Text),
        required("status", Text),
        Column("tag", Text),
        Column("user_id", Text),
        Column("data", JSONB),
        Column("executor", Text),
        Column("route_reason", Text),
        required("epoch", Integer, server_default=text("1")),
        required("submit_state", Text, server_default=text("'never'")),
        required("queue", Text),
        Column("concurrency_key", Text),
        required("priority", Integer, server_default=text("0")),
        moment("due"),
        moment("expires_at"),
        Column("max_duration", Interval),
        required("attempt", Integer, server_default=text("0")),
        required("max_attempts", Integer, server_default=text("3")),
        Column("retry", JSONB),
        moment("started"),
        Column("error", JSONB),
        Column("metadata", JSONB),
        Column("tags", ARRAY(Text)),
        Column("remote_run_id", Text),
        Column("remote_attempt", Text),
        Column("remote_status", Text),
        Column("remote_environment", Text),
        Column("schedule_id", Uuid),
        flag("cancel_requested"),
        Column("idempotency_key", Text),
        Column("submit_group", Uuid),
        moment("first_try_at"),
        Column("worker_id", Uuid),
        Column("claim_number", BigInteger),
        moment("last_synced_at"),
        Column("parent_id", Uuid),
        Column("batch_id", Uuid),
        flag("persistent"),
        Column("extra", JSONB),
        stamp("created_at"),
        stamp("updated_at"),
        Column("root_id", Uuid),
    ]


def metadata_for(schema: str = "adapter") -> MetaData:
    """Return every table, in ``schema``."""
    metadata = MetaData(schema=schema)
    _jobs(metadata)
    tables_beside_jobs(metadata)
    tables_of_cutover(metadata)
    recall_tables(metadata)
    security_tables(metadata)
    figure_tables(metadata)
    finishing_tables(metadata)
    bulk_action_tables(metadata)
    pass_through_tables(metadata)
    batch_tables(metadata)
    wait_token_tables(metadata)
    webhook_tables(metadata)
    variable_tables(metadata)
    return metadata


def _jobs(metadata: MetaData) -> None:
    sequence = Sequence("worker_jobs_seq", metadata=metadata)
    opened = Table(
        "worker_jobs_open",
        metadata,
        *_job_columns(),
        Column("waiting_for", Text),
        # Drawn anew whenever a job becomes ready, so claim order only ever grows.
        required("seq", BigInteger, server_default=sequence.next_value()),
        Column("keep_for", Interval),
        flag("tag_held"),
        Column("recall_id", Uuid),
        Column("recall_to", Text),
        required("submit_tries", Integer, server_default=text("0")),
        moment("next_try_at"),
        Column("dispatch_lease", Uuid),
        moment("dispatch_lease_until"),
        moment("remote_event_at"),
        required("remote_rank", Integer, server_default=text("0")),
        moment("confirm_at"),
        required("open_children", Integer, server_default=text("0")),
        moment("deadline"),
        # What a parent waits for that waits for its children.
        Column("awaiting", ARRAY(Uuid)),
        moment("remove_at"),
        Column("keep_failed_for", Interval),
        PrimaryKeyConstraint("id"),
        CheckConstraint(_one_of("status", OPEN), name="worker_jobs_open_status"),
        CheckConstraint(_one_of("submit_state", SubmitState), name="worker_jobs_open_submit_state"),
        CheckConstraint(
            f"(status = 'WAITING') = (waiting_for IS NOT NULL) AND (waiting_for IS NULL OR {_one_of('waiting_for', WaitingFor)})",
            name="worker_jobs_open_waiting_for",
        ),
        postgresql_with=_HOT,
    )
    c = opened.c
    local_ready = text("status = 'QUEUED' AND executor = 'local'")
    Index("worker_jobs_open_claim", c.queue, text("(-priority)"), c.seq, postgresql_where=local_ready)
    Index(
        "worker_jobs_open_keyed",
        c.queue,
        c.concurrency_key,
        text("(-priority)"),
        c.seq,
        postgresql_where=text("status = 'QUEUED' AND executor = 'local' AND concurrency_key IS NOT NULL"),
    )
    Index("worker_jobs_open_due", c.due, postgresql_where=text("status = 'DELAYED'"))
    Index("worker_jobs_open_expiry", c.expires_at, postgresql_where=text("expires_at IS NOT NULL"))
    executing = text("status = 'EXECUTING' AND executor = 'local'")
    Index("worker_jobs_open_executing", c.queue, c.worker_id, postgresql_where=executing)
    Index(
        "worker_jobs_open_deadline",
        c.deadline,
        postgresql_where=text("status = 'EXECUTING' AND executor = 'local' AND deadline IS NOT NULL"),
    )
    stranded = text("status = 'WAITING' AND waiting_for = 'executor'")
    Index("worker_jobs_open_stranded", c.executor, c.type, postgresql_where=stranded)
    unsent = text("status IN ('PENDING', 'DELAYED') AND executor <> 'local' AND submit_state = 'never'")
    Index("worker_jobs_open_unsent", c.executor, c.type, postgresql_where=unsent)
    Index("worker_jobs_open_waiting", c.waiting_for, c.type, postgresql_where=text("status = 'WAITING'"))
    Index(
        "worker_jobs_open_dispatch",
        c.executor,
        c.next_try_at,
        postgresql_where=text("submit_state <> 'accepted' AND executor <> 'local' AND status = 'PENDING'"),
    )
    Index("worker_jobs_open_unrouted", c.seq, postgresql_where=text("executor IS NULL"))
    Index("worker_jobs_open_confirm", c.confirm_at, postgresql_where=text("confirm_at IS NOT NULL"))
    Index("worker_jobs_open_tag", c.type, c.tag, unique=True, postgresql_where=text("tag_held"))
    Index("worker_jobs_open_parent", c.parent_id, postgresql_where=text("parent_id IS NOT NULL"))
    Index("worker_jobs_open_root", c.root_id, postgresql_where=text("root_id IS NOT NULL"))
    Index("worker_jobs_open_batch", c.batch_id, postgresql_where=text("batch_id IS NOT NULL"))
    Index("worker_jobs_open_tags", c.tags, postgresql_using="gin", postgresql_where=text("tags IS NOT NULL"))

    finished = Table(
        "worker_jobs_finished",
        metadata,
        *_job_columns(),
        required("finished", DateTime(timezone=True)),
        required("success", Boolean),
        Column("result", JSONB),
        flag("orphaned"),
        moment("remove_at"),
        required("drop_on", Date),
        PrimaryKeyConstraint("id", "drop_on"),
        CheckConstraint(_one_of("status", TERMINAL), name="worker_jobs_finished_status"),
        CheckConstraint("success = (status = 'COMPLETED')", name="worker_jobs_finished_success"),
        postgresql_partition_by="RANGE (drop_on)",
    )
    # Which drop days have a partition. A finishing row goes to the next one there is, so a late
    # upkeep keeps rows longer and never stops a finish.
    Table("finished_partitions", metadata, required("day", Date, primary_key=True))
    f = finished.c
    Index("worker_jobs_finished_type", f.type, f.finished)
    Index("worker_jobs_finished_created", f.created_at)
    # Lists are in the order of ids: what leaves few jobs of many has an index in that order.
    Index("worker_jobs_finished_queue", f.queue, f.id, postgresql_where=text("queue <> 'default'"))
    Index("worker_jobs_finished_user", f.user_id, f.id, postgresql_where=text("user_id IS NOT NULL"))
    Index("worker_jobs_finished_unsuccessful", f.id, postgresql_where=text("NOT success"))
    Index(
        "worker_jobs_finished_schedule",
        f.schedule_id,
        f.id,
        postgresql_where=text("schedule_id IS NOT NULL"),
    )
    for fact in ("machine", "region", "version"):
        asked = f"(extra ->> '{fact}')"
        Index(
            f"worker_jobs_finished_{fact}", text(asked), f.id, postgresql_where=text(f"{asked} IS NOT NULL")
        )
    Index("worker_jobs_finished_test", f.id, postgresql_where=text("(extra ->> 'test') = 'true'"))
    dead = text("NOT success AND status <> 'CANCELED'")
    Index("worker_jobs_finished_dead", f.finished, f.id, postgresql_where=dead)
    Index("worker_jobs_finished_parent", f.parent_id, postgresql_where=text("parent_id IS NOT NULL"))
    Index("worker_jobs_finished_batch", f.batch_id, postgresql_where=text("batch_id IS NOT NULL"))
    Index("worker_jobs_finished_root", f.root_id, postgresql_where=text("root_id IS NOT NULL"))
    Index(
        "worker_jobs_finished_tags", f.tags, postgresql_using="gin", postgresql_where=text("tags IS NOT NULL")
    )
