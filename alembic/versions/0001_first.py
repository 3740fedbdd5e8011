"""The first schema: jobs, what lives beside them, flags, and what processes share.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from pathlib import Path

from alembic import context, op

from adapter.store.migrate import execute

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make everything."""
    execute(Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    """Remove everything; every job is gone."""
    schema: str = context.get_context().version_table_schema or "adapter"
    driver = op.get_bind().connection.driver_connection
    driver.execute(f'DROP VIEW "{schema}".job_runs, "{schema}".worker_jobs')
    driver.execute(f'DROP FUNCTION "{schema}".make_finished_partition, "{schema}".refuse_change CASCADE')
    for (name,) in driver.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename <> 'alembic_version'", [schema]
    ).fetchall():
        driver.execute(f'DROP TABLE IF EXISTS "{schema}"."{name}" CASCADE')
    driver.execute(f'DROP SEQUENCE IF EXISTS "{schema}".worker_jobs_seq')
