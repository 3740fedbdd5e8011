"""Cutover: what recalls, shadows, canaries and schedules need.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from pathlib import Path

from adapter.store.migrate import execute

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_UP = Path(__file__).with_suffix(".sql")


def upgrade() -> None:
    """Add what is new; the release before goes on working."""
    execute(_UP)


def downgrade() -> None:
    """Take it away again."""
    execute(_UP.with_stem("0003_cutover_down"))
