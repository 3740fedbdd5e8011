"""The table of wait tokens."""

from __future__ import annotations

from sqlalchemy import ARRAY, CheckConstraint, Column, Index, MetaData, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from adapter.domain.wait_token import TokenStatus
from adapter.store.columns import moment, required, stamp


def wait_token_tables(metadata: MetaData) -> None:
    """Add it to ``metadata``."""
    statuses = ", ".join(repr(each.value) for each in sorted(TokenStatus))
    Table(
        "wait_tokens",
        metadata,
        required("id", Uuid, primary_key=True),
        required("status", Text, server_default=text("'WAITING'")),
        stamp("created_at"),
        moment("timeout_at"),
        moment("ended_at"),
        Column("ended_by", Text),
        Column("idempotency_key", Text),
        moment("idempotency_expires_at"),
        required("tags", ARRAY(Text), server_default=text("'{}'")),
        # Whoever knows it may complete the token, once, by the URL that holds it.
        required("callback_secret", Text),
        Column("output", JSONB),
        CheckConstraint(f"status IN ({statuses})", name="wait_tokens_status"),
        Index(
            "wait_tokens_idempotency",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index(
            "wait_tokens_timeout",
            "timeout_at",
            postgresql_where=text("status = 'WAITING' AND timeout_at IS NOT NULL"),
        ),
        Index("wait_tokens_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    )
