"""Cutover: what recalls, shadows, canaries and schedules need.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from pathlib import Path

from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_UP = Path(__file__).with_suffix(".sql")
_DOWN = _UP.with_stem("0003_cutover_down")


def _execute(script: Path) -> None:
    schema: str = context.get_context().version_table_schema or "adapter"
    statements = (
        script.read_text(encoding="utf-8").replace("{s}", f'"{schema}"').replace("{l}", f"'{schema}'")
    )
    # Straight to psycopg: many statements at once, and a percent sign is just a percent sign.
    op.get_bind().connection.driver_connection.execute(statements)


def upgrade() -> None:
    """Add what is new; the release before goes on working."""
    _execute(_UP)


def downgrade() -> None:
    """Take it away again."""
    _execute(_DOWN)
