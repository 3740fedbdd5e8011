"""The HTTP surface: batches, wait tokens, keys, deliveries, each in a file of its own.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from pathlib import Path

from adapter.store.migrate import execute

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PARTS = Path(__file__).with_suffix("")


def upgrade() -> None:
    """Add what is new; the release before goes on working."""
    execute(*sorted((_PARTS / "up").glob("*.sql")))


def downgrade() -> None:
    """Take it away again."""
    execute(*sorted((_PARTS / "down").glob("*.sql"), reverse=True))
