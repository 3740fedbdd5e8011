"""The tables of webhooks to others: who is told, and what there is to tell."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from adapter.store.columns import GROWING, flag, moment, required, stamp


def webhook_tables(metadata: MetaData) -> None:
    """Add them to ``metadata``."""
    Table(
        "webhook_subscriptions",
        metadata,
        required("id", Uuid, primary_key=True),
        Column("name", Text),
        required("url", Text),
        required("events", ARRAY(Text)),
        # The newest first. They sign, so they cannot be hashed.
        required("secrets", ARRAY(Text)),
        flag("allow_private"),
        required("active", Boolean, server_default=text("true")),
        Column("disabled_because", Text),
        # Rounds in a row in which nothing was taken; until when nothing is sent after too many of them.
        required("failures", Integer, server_default=text("0")),
        moment("open_until"),
        stamp("created_at"),
        stamp("updated_at"),
        UniqueConstraint("name"),
    )
    Table(
        "webhook_deliveries",
        metadata,
        required("id", Uuid, primary_key=True),
        required("subscription_id", Uuid),
        required("event", Text),
        # The job as it was; the body is made of it when it is sent.
        required("data", JSONB),
        required("state", Text, server_default=text("'pending'")),
        required("attempts", Integer, server_default=text("0")),
        # While somebody sends it: when others may.
        required("next_at", DateTime(timezone=True), server_default=text("now()")),
        Column("status", Integer),
        Column("error", Text),
        stamp("created_at"),
        moment("settled_at"),
        CheckConstraint("state IN ('dead', 'delivered', 'pending')", name="webhook_deliveries_state"),
        Index(
            "webhook_deliveries_due",
            "subscription_id",
            "next_at",
            postgresql_where=text("state = 'pending'"),
        ),
        Index(
            "webhook_deliveries_settled",
            "state",
            "settled_at",
            postgresql_where=text("state <> 'pending'"),
        ),
        postgresql_with={"fillfactor": 70} | GROWING,
    )
