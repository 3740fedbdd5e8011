"""The tables beside the jobs: what survives their move, what people turn, what processes share."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
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
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from adapter.store.columns import BUSY, GROWING, flag, moment, required, stamp


def tables_beside_jobs(metadata: MetaData) -> None:
    """Add them to ``metadata``."""
    _beside_jobs(metadata)
    _steering(metadata)
    _running(metadata)


def _beside_jobs(metadata: MetaData) -> None:
    """Small tables that carry what must survive a job's move out of the hot heap."""
    Table(
        "job_keys",
        metadata,
        required("task", Text),
        required("key", Text),
        required("job_id", Uuid),
        required("expires_at", DateTime(timezone=True)),
        PrimaryKeyConstraint("task", "key"),
        Index("job_keys_expiry", "expires_at"),
        postgresql_with=GROWING,
    )
    # Cancels that go down to the children of these jobs.
    Table(
        "family_cancels",
        metadata,
        required("job_id", Uuid, primary_key=True),
        required("reason", Text),
        required("actor", Text),
        stamp("created_at"),
    )
    Table(
        "remote_runs",
        metadata,
        required("executor", Text),
        required("run_id", Text),
        required("job_id", Uuid),
        required("epoch", Integer),
        Column("environment", Text),
        # bound: the epoch's own run; duplicate: a second one; tombstone: made to prove absence.
        required("role", Text, server_default=text("'bound'")),
        Column("wanted", Text),
        Column("final_status", Text),
        moment("started_at"),
        moment("ended_at"),
        moment("missing_since"),
        moment("checked_at"),
        stamp("created_at"),
        PrimaryKeyConstraint("executor", "run_id"),
        CheckConstraint("role IN ('bound', 'duplicate', 'tombstone')", name="remote_runs_role"),
        CheckConstraint("wanted IN ('canceled')", name="remote_runs_wanted"),
        Index(
            "remote_runs_open", "executor", "created_at", "run_id", postgresql_where=text("ended_at IS NULL")
        ),
        Index("remote_runs_job", "job_id", "epoch"),
        Index("remote_runs_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    )
    Table(
        "job_events",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        required("job_id", Uuid),
        required("epoch", Integer),
        stamp("at"),
        required("kind", Text),
        Column("actor", Text),
        Column("detail", JSONB),
        Index("job_events_job", "job_id", "id"),
        Index("job_events_at", "at"),
        postgresql_with=GROWING,
    )
    Table(
        "redrives",
        metadata,
        # Dead letters of which a new job was made: the last one, and how often.
        required("job_id", Uuid, primary_key=True),
        required("new_job_id", Uuid),
        required("times", Integer, server_default=text("1")),
        required("actor", Text),
        required("reason", Text),
        stamp("at"),
        Index("redrives_at", "at"),
    )


def _steering(metadata: MetaData) -> None:
    """Flags, schedules and queues: what people turn."""
    Table(
        "flags_state",
        metadata,
        # One row. Scheduling inserts nothing when the version they decided with is not this one.
        required("one", Boolean, primary_key=True, server_default=text("true")),
        required("version", BigInteger, server_default=text("1")),
        CheckConstraint("one", name="flags_state_one"),
    )
    Table(
        "executor_flags",
        metadata,
        required("kind", Text),
        required("task", Text),
        required("executor", Text),
        Column("percent", Numeric(6, 3)),
        Column("salt", Text),
        Column("hash_by", Text),
        Column("detail", JSONB),
        required("version", BigInteger),
        required("reason", Text),
        required("actor", Text),
        stamp("updated_at"),
        PrimaryKeyConstraint("kind", "task", "executor"),
        CheckConstraint("kind IN ('kill', 'rollout', 'circuit', 'shadow')", name="executor_flags_kind"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="executor_flags_percent"),
        Index("executor_flags_one_kill", "task", unique=True, postgresql_where=text("kind = 'kill'")),
    )
    Table(
        "flag_changes",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        stamp("at"),
        required("actor", Text),
        required("source", Text),
        required("kind", Text),
        required("task", Text),
        required("executor", Text),
        Column("before", JSONB),
        Column("after", JSONB),
        required("reason", Text),
        required("version", BigInteger),
        Index("flag_changes_at", "at"),
    )
    Table(
        "job_schedules",
        metadata,
        required("id", Uuid, primary_key=True),
        required("task", Text),
        required("cron", Text),
        required("timezone", Text, server_default=text("'UTC'")),
        Column("tag", Text),
        Column("user_id", Text),
        Column("data", JSONB),
        Column("executor", Text),
        Column("description", Text),
        required("missed", Text, server_default=text("'last'")),
        required("active", Boolean, server_default=text("true")),
        flag("persistent"),
        moment("next_at"),
        moment("last_at"),
        # Who keeps its clock: 'local' is the adapter; the rest of the columns carry a hand-over.
        required("owner", Text, server_default=text("'local'")),
        Column("remote_schedule_id", Text),
        Column("handover_state", Text),
        Column("handover_to", Text),
        moment("handover_cut"),
        Column("deduplication_key", Text, unique=True),
        Column("external_id", Text),
        Column("extra", JSONB),
        stamp("created_at"),
        stamp("updated_at"),
        # How far after its time a tick's job may become due, as Trigger.dev writes it: 30m, 2h, 50%.
        Column("fire_window", Text),
        # Whether the payload of its jobs is what Trigger.dev tells a scheduled task of its tick.
        flag("sends_tick"),
        CheckConstraint("missed IN ('all', 'last', 'skip')", name="job_schedules_missed"),
        Index("job_schedules_next", "next_at", postgresql_where=text("active AND owner = 'local'")),
    )
    Table(
        "schedule_ticks",
        metadata,
        required("schedule_id", Uuid),
        required("fire_time", DateTime(timezone=True)),
        Column("job_id", Uuid),
        stamp("created_at"),
        PrimaryKeyConstraint("schedule_id", "fire_time"),
        Index("schedule_ticks_created", "created_at"),
    )
    Table(
        "job_queues",
        metadata,
        required("name", Text, primary_key=True),
        # These two and effective_limit are for workers of the release before; see declared.
        Column("concurrency_limit", Integer),
        Column("limit_override", Integer),
        moment("paused_at"),
        stamp("created_at"),
        # What the registry says, what a person set over it (null: lifted), and so what holds.
        required("declared", JSONB, server_default=text("'{}'")),
        required("overrides", JSONB, server_default=text("'{}'")),
        Column("limits", JSONB, Computed("declared || overrides", persisted=True)),
        Column(
            "limited",
            Boolean,
            Computed("jsonb_strip_nulls(declared || overrides) <> '{}'", persisted=True),
        ),
        # Pairs of (until when in microseconds, how many): the starts that a rate still counts.
        Column("starts", ARRAY(BigInteger)),
        # Where the next claim goes on looking, when one could not look at everything.
        Column("walk", JSONB),
        Column(
            "effective_limit",
            Integer,
            Computed("COALESCE(limit_override, concurrency_limit)", persisted=True),
        ),
        postgresql_with=BUSY,
    )
    Table(
        "queue_changes",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        stamp("at"),
        required("actor", Text),
        required("source", Text),
        required("queue", Text),
        required("kind", Text),
        Column("before", JSONB),
        Column("after", JSONB),
        required("reason", Text),
        Index("queue_changes_queue", "queue", "id"),
    )
    Table(
        "concurrency_keys",
        metadata,
        required("queue", Text),
        required("key", Text),
        # As in job_queues; free_at: when the last of them counts no longer and the row can go.
        required("starts", ARRAY(BigInteger)),
        required("free_at", DateTime(timezone=True)),
        PrimaryKeyConstraint("queue", "key"),
        Index("concurrency_keys_free", "free_at"),
        postgresql_with=BUSY,
    )


def _running(metadata: MetaData) -> None:
    """Processes, deliveries and budgets: what machinery keeps for itself."""
    Table(
        "workers",
        metadata,
        required("id", Uuid, primary_key=True),
        required("name", Text),
        required("host", Text),
        required("pid", Integer),
        Column("backend_pid", Integer),
        # The advisory lock it holds; null: it holds none that could be seen.
        Column("lock_key", BigInteger),
        required("lease", Interval),
        stamp("started_at"),
        stamp("seen_at"),
        moment("stopping_at"),
        postgresql_with=BUSY,
    )
    Table(
        "advertised_tasks",
        metadata,
        required("task", Text, primary_key=True),
        Column("schema_hash", Text),
        required("worker_id", Uuid),
        stamp("seen_at"),
    )
    Table(
        "leases",
        metadata,
        required("name", Text, primary_key=True),
        required("holder", Uuid),
        required("until", DateTime(timezone=True)),
        required("term", BigInteger, server_default=text("1")),
        Column("detail", JSONB),
        postgresql_with=BUSY,
    )
    Table(
        "webhook_inbox",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        required("source", Text),
        required("delivery_id", Text),
        required("body", JSONB),
        required("state", Text, server_default=text("'pending'")),
        required("attempts", Integer, server_default=text("0")),
        Column("result", Text),
        Column("error", Text),
        Column("job_id", Uuid),
        Column("secret_id", Text),
        moment("next_try_at"),
        moment("applied_at"),
        stamp("received_at"),
        UniqueConstraint("source", "delivery_id", name="webhook_inbox_delivery"),
        CheckConstraint("state IN ('pending', 'applied', 'dead')", name="webhook_inbox_state"),
        Index("webhook_inbox_pending", "next_try_at", postgresql_where=text("state = 'pending'")),
        Index("webhook_inbox_dead", "received_at", postgresql_where=text("state = 'dead'")),
        Index("webhook_inbox_received", "received_at"),
    )
    Table(
        "remote_budgets",
        metadata,
        required("executor", Text),
        required("share", Text),
        required("tokens", Double),
        required("capacity", Double),
        required("per_second", Double),
        stamp("refilled_at"),
        moment("paused_until"),
        PrimaryKeyConstraint("executor", "share"),
        postgresql_with=BUSY,
    )
    Table(
        "packets",
        metadata,
        required("path", Text, primary_key=True),
        required("content_type", Text),
        required("body", LargeBinary),
        stamp("created_at"),
        Index("packets_created", "created_at"),
    )
