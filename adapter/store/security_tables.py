"""The tables of who may call: keys, and tokens that may be used once."""

from __future__ import annotations

from sqlalchemy import ARRAY, Column, DateTime, Index, LargeBinary, MetaData, Table, Text, Uuid

from adapter.store.columns import moment, required, stamp


def security_tables(metadata: MetaData) -> None:
    """Add them to ``metadata``."""
    Table(
        "api_keys",
        metadata,
        required("id", Uuid, primary_key=True),
        required("prefix", Text),
        required("hash", LargeBinary, unique=True),
        required("scopes", ARRAY(Text)),
        Column("name", Text),
        Column("user_id", Text),
        # In the future while a key that takes its place is being handed out.
        moment("revoked_at"),
        moment("last_used_at"),
        stamp("created_at"),
    )
    Table(
        "spent_tokens",
        metadata,
        required("token", LargeBinary, primary_key=True),
        required("call", Text),
        stamp("spent_at"),
        required("expires_at", DateTime(timezone=True)),
        Index("spent_tokens_expires", "expires_at"),
    )
