"""The complete local executor: what limits, families, rescue and speed need.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from pathlib import Path

from adapter.store.migrate import execute

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_UP = Path(__file__).with_suffix(".sql")


def upgrade() -> None:
    """Add what is new; the release before goes on working."""
    execute(_UP)


def downgrade() -> None:
    """Take it away again."""
    execute(_UP.with_stem("0002_local_down"))
