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
    Computed,
    Date,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from adapter.domain.job import OPEN, TERMINAL, SubmitState, WaitingFor

#: What the hot heap needs to stay small under claim and finish: vacuum by count, not by share.
_HOT = {
    "fillfactor": 85,
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 5000,
    "autovacuum_analyze_scale_factor": 0,
    "autovacuum_analyze_threshold": 5000,
    "autovacuum_vacuum_cost_delay": 0,
}


def _required(name: str, kind: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, nullable=False, **options)


def _moment(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True))


def _stamp(name: str) -> Column[Any]:
    return _required(name, DateTime(timezone=True), server_default=text("now()"))


def _flag(name: str) -> Column[Any]:
    return _required(name, Boolean, server_default=text("false"))


def _one_of(column: str, values: Any) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in sorted(values))})"


def _job_columns() -> list[Column[Any]]:
    """Columns that a job keeps for life, open or finished."""
    return [
        _required("id", Uuid),
        _required("type", Text),
        _required("status", Text),
        Column("tag", Text),
        Column("user_id", Text),
        Column("data", JSONB),
        Column("executor", Text),
        Column("route_reason", Text),
        _required("epoch", Integer, server_default=text("1")),
        _required("submit_state", Text, server_default=text("'never'")),
        _required("queue", Text),
        Column("concurrency_key", Text),
        _required("priority", Integer, server_default=text("0")),
        _moment("due"),
        _moment("expires_at"),
        Column("max_duration", Interval),
        _required("attempt", Integer, server_default=text("0")),
        _required("max_attempts", Integer, server_default=text("3")),
        Column("retry", JSONB),
        _moment("started"),
        Column("error", JSONB),
        Column("metadata", JSONB),
        Column("tags", ARRAY(Text)),
        Column("remote_run_id", Text),
        Column("remote_attempt", Text),
        Column("remote_status", Text),
        Column("remote_environment", Text),
        Column("schedule_id", Uuid),
        _flag("cancel_requested"),
        Column("idempotency_key", Text),
        Column("submit_group", Uuid),
        _moment("first_try_at"),
        Column("worker_id", Uuid),
        Column("claim_number", BigInteger),
        _moment("last_synced_at"),
        Column("parent_id", Uuid),
        Column("batch_id", Uuid),
        _flag("persistent"),
        Column("extra", JSONB),
        _stamp("created_at"),
        _stamp("updated_at"),
    ]


def metadata_for(schema: str = "adapter") -> MetaData:
    """Return every table, in ``schema``."""
    metadata = MetaData(schema=schema)
    _jobs(metadata)
    _beside_jobs(metadata)
    _steering(metadata)
    _running(metadata)
    return metadata


def _jobs(metadata: MetaData) -> None:
    sequence = Sequence("worker_jobs_seq", metadata=metadata)
    opened = Table(
        "worker_jobs_open",
        metadata,
        *_job_columns(),
        Column("waiting_for", Text),
        # Drawn anew whenever a job becomes ready, so claim order only ever grows.
        _required("seq", BigInteger, server_default=sequence.next_value()),
        Column("keep_for", Interval),
        _flag("tag_held"),
        Column("recall_id", Uuid),
        Column("recall_to", Text),
        _required("submit_tries", Integer, server_default=text("0")),
        _moment("next_try_at"),
        Column("dispatch_lease", Uuid),
        _moment("dispatch_lease_until"),
        _moment("remote_event_at"),
        _required("remote_rank", Integer, server_default=text("0")),
        _moment("confirm_at"),
        _required("open_children", Integer, server_default=text("0")),
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
    Index("worker_jobs_open_due", c.due, postgresql_where=text("status = 'DELAYED'"))
    Index("worker_jobs_open_expiry", c.expires_at, postgresql_where=text("expires_at IS NOT NULL"))
    executing = text("status = 'EXECUTING' AND executor = 'local'")
    Index("worker_jobs_open_running", c.worker_id, postgresql_where=executing)
    Index("worker_jobs_open_queue_running", c.queue, postgresql_where=executing)
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
    Index("worker_jobs_open_tags", c.tags, postgresql_using="gin", postgresql_where=text("tags IS NOT NULL"))

    finished = Table(
        "worker_jobs_finished",
        metadata,
        *_job_columns(),
        _required("finished", DateTime(timezone=True)),
        _required("success", Boolean),
        Column("result", JSONB),
        _flag("orphaned"),
        _moment("remove_at"),
        _required("drop_on", Date),
        PrimaryKeyConstraint("id", "drop_on"),
        CheckConstraint(_one_of("status", TERMINAL), name="worker_jobs_finished_status"),
        CheckConstraint("success = (status = 'COMPLETED')", name="worker_jobs_finished_success"),
        postgresql_partition_by="RANGE (drop_on)",
    )
    # Which drop days have a partition. A finishing row goes to the next one there is, so a late
    # upkeep keeps rows longer and never stops a finish.
    Table("finished_partitions", metadata, _required("day", Date, primary_key=True))
    f = finished.c
    Index("worker_jobs_finished_type", f.type, f.finished)
    Index("worker_jobs_finished_created", f.created_at)
    Index("worker_jobs_finished_parent", f.parent_id, postgresql_where=text("parent_id IS NOT NULL"))
    Index("worker_jobs_finished_tags", f.tags, postgresql_using="gin", postgresql_where=text("tags IS NOT NULL"))


def _beside_jobs(metadata: MetaData) -> None:
    """Small tables that carry what must survive a job's move out of the hot heap."""
    Table(
        "job_keys",
        metadata,
        _required("task", Text),
        _required("key", Text),
        _required("job_id", Uuid),
        _required("expires_at", DateTime(timezone=True)),
        PrimaryKeyConstraint("task", "key"),
        Index("job_keys_expiry", "expires_at"),
    )
    Table(
        "remote_runs",
        metadata,
        _required("executor", Text),
        _required("run_id", Text),
        _required("job_id", Uuid),
        _required("epoch", Integer),
        Column("environment", Text),
        # bound: the epoch's own run; duplicate: a second one; tombstone: made to prove absence.
        _required("role", Text, server_default=text("'bound'")),
        Column("wanted", Text),
        Column("final_status", Text),
        _moment("started_at"),
        _moment("ended_at"),
        _moment("missing_since"),
        _moment("checked_at"),
        _stamp("created_at"),
        PrimaryKeyConstraint("executor", "run_id"),
        CheckConstraint("role IN ('bound', 'duplicate', 'tombstone')", name="remote_runs_role"),
        CheckConstraint("wanted IN ('canceled')", name="remote_runs_wanted"),
        Index("remote_runs_open", "executor", "created_at", "run_id", postgresql_where=text("ended_at IS NULL")),
        Index("remote_runs_job", "job_id", "epoch"),
        Index("remote_runs_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    )
    Table(
        "job_events",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        _required("job_id", Uuid),
        _required("epoch", Integer),
        _stamp("at"),
        _required("kind", Text),
        Column("actor", Text),
        Column("detail", JSONB),
        Index("job_events_job", "job_id", "id"),
        Index("job_events_at", "at"),
    )
    Table(
        "batches",
        metadata,
        _required("id", Uuid, primary_key=True),
        _required("run_count", Integer),
        _required("status", Text),
        Column("idempotency_key", Text, unique=True),
        Column("parent_id", Uuid),
        Column("detail", JSONB),
        _moment("sealed_at"),
        _stamp("created_at"),
    )


def _steering(metadata: MetaData) -> None:
    """Flags, schedules and queues: what people turn."""
    Table(
        "flags_state",
        metadata,
        # One row. Scheduling inserts nothing when the version they decided with is not this one.
        _required("one", Boolean, primary_key=True, server_default=text("true")),
        _required("version", BigInteger, server_default=text("1")),
        CheckConstraint("one", name="flags_state_one"),
    )
    Table(
        "executor_flags",
        metadata,
        _required("kind", Text),
        _required("task", Text),
        _required("executor", Text),
        Column("percent", Numeric(6, 3)),
        Column("salt", Text),
        Column("hash_by", Text),
        Column("detail", JSONB),
        _required("version", BigInteger),
        _required("reason", Text),
        _required("actor", Text),
        _stamp("updated_at"),
        PrimaryKeyConstraint("kind", "task", "executor"),
        CheckConstraint("kind IN ('kill', 'rollout', 'circuit')", name="executor_flags_kind"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="executor_flags_percent"),
        Index("executor_flags_one_kill", "task", unique=True, postgresql_where=text("kind = 'kill'")),
    )
    Table(
        "flag_changes",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        _stamp("at"),
        _required("actor", Text),
        _required("source", Text),
        _required("kind", Text),
        _required("task", Text),
        _required("executor", Text),
        Column("before", JSONB),
        Column("after", JSONB),
        _required("reason", Text),
        _required("version", BigInteger),
        Index("flag_changes_at", "at"),
    )
    Table(
        "job_schedules",
        metadata,
        _required("id", Uuid, primary_key=True),
        _required("task", Text),
        _required("cron", Text),
        _required("timezone", Text, server_default=text("'UTC'")),
        Column("tag", Text),
        Column("user_id", Text),
        Column("data", JSONB),
        Column("executor", Text),
        Column("description", Text),
        _required("missed", Text, server_default=text("'last'")),
        _required("active", Boolean, server_default=text("true")),
        _flag("persistent"),
        _moment("next_at"),
        _moment("last_at"),
        # Who keeps its clock: 'local' is the adapter; the rest of the columns carry a hand-over.
        _required("owner", Text, server_default=text("'local'")),
        Column("remote_schedule_id", Text),
        Column("handover_state", Text),
        Column("handover_to", Text),
        _moment("handover_cut"),
        Column("deduplication_key", Text, unique=True),
        Column("external_id", Text),
        Column("extra", JSONB),
        _stamp("created_at"),
        _stamp("updated_at"),
        CheckConstraint("missed IN ('all', 'last', 'skip')", name="job_schedules_missed"),
        Index("job_schedules_next", "next_at", postgresql_where=text("active AND owner = 'local'")),
    )
    Table(
        "schedule_ticks",
        metadata,
        _required("schedule_id", Uuid),
        _required("fire_time", DateTime(timezone=True)),
        Column("job_id", Uuid),
        _stamp("created_at"),
        PrimaryKeyConstraint("schedule_id", "fire_time"),
    )
    Table(
        "job_queues",
        metadata,
        _required("name", Text, primary_key=True),
        Column("concurrency_limit", Integer),
        Column("limit_override", Integer),
        _moment("paused_at"),
        Column("rate_count", Integer),
        Column("rate_period", Interval),
        Column("rate_tokens", Double),
        _moment("rate_at"),
        _stamp("created_at"),
        # The limit in force, so that the claim reads one column.
        Column("effective_limit", Integer, Computed("COALESCE(limit_override, concurrency_limit)", persisted=True)),
        postgresql_with={"fillfactor": 50},
    )
    Table(
        "concurrency_keys",
        metadata,
        _required("queue", Text),
        _required("key", Text),
        _required("held", Integer, server_default=text("0")),
        PrimaryKeyConstraint("queue", "key"),
        CheckConstraint("held >= 0", name="concurrency_keys_held"),
        postgresql_with={"fillfactor": 50},
    )


def _running(metadata: MetaData) -> None:
    """Processes, deliveries and budgets: what machinery keeps for itself."""
    Table(
        "workers",
        metadata,
        _required("id", Uuid, primary_key=True),
        _required("name", Text),
        _required("host", Text),
        _required("pid", Integer),
        Column("backend_pid", Integer),
        _required("lease", Interval),
        _stamp("started_at"),
        _stamp("seen_at"),
        _moment("stopping_at"),
        postgresql_with={"fillfactor": 50},
    )
    Table(
        "advertised_tasks",
        metadata,
        _required("task", Text, primary_key=True),
        Column("schema_hash", Text),
        _required("worker_id", Uuid),
        _stamp("seen_at"),
    )
    Table(
        "leases",
        metadata,
        _required("name", Text, primary_key=True),
        _required("holder", Uuid),
        _required("until", DateTime(timezone=True)),
        _required("term", BigInteger, server_default=text("1")),
        Column("detail", JSONB),
    )
    Table(
        "webhook_inbox",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        _required("source", Text),
        _required("delivery_id", Text),
        _required("body", JSONB),
        _required("state", Text, server_default=text("'pending'")),
        _required("attempts", Integer, server_default=text("0")),
        Column("result", Text),
        Column("error", Text),
        Column("job_id", Uuid),
        Column("secret_id", Text),
        _moment("next_try_at"),
        _moment("applied_at"),
        _stamp("received_at"),
        UniqueConstraint("source", "delivery_id", name="webhook_inbox_delivery"),
        CheckConstraint("state IN ('pending', 'applied', 'dead')", name="webhook_inbox_state"),
        Index("webhook_inbox_pending", "next_try_at", postgresql_where=text("state = 'pending'")),
        Index("webhook_inbox_dead", "received_at", postgresql_where=text("state = 'dead'")),
        Index("webhook_inbox_received", "received_at"),
    )
    Table(
        "remote_budgets",
        metadata,
        _required("executor", Text),
        _required("share", Text),
        _required("tokens", Double),
        _required("capacity", Double),
        _required("per_second", Double),
        _stamp("refilled_at"),
        _moment("paused_until"),
        PrimaryKeyConstraint("executor", "share"),
        postgresql_with={"fillfactor": 50},
    )
    Table(
        "packets",
        metadata,
        _required("path", Text, primary_key=True),
        _required("content_type", Text),
        _required("body", LargeBinary),
        _stamp("created_at"),
        Index("packets_created", "created_at"),
    )
    Table(
        "api_keys",
        metadata,
        _required("id", Uuid, primary_key=True),
        _required("prefix", Text),
        _required("hash", LargeBinary, unique=True),
        _required("scopes", ARRAY(Text)),
        Column("name", Text),
        Column("user_id", Text),
        _moment("revoked_at"),
        _moment("last_used_at"),
        _stamp("created_at"),
    )
