"""A database for tests: one that is started for them, or one that is given."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from adapter.domain.errors import ConfigurationError
from adapter.store import migrate
from adapter.store.embedded import EmbeddedPostgres
from adapter.testing.broom import SEEDED_TABLES, Broom

#: Moments of these are not moved: they are of processes that live, or of records that cannot be changed.
_UNMOVED = SEEDED_TABLES | {"workers", "leases", "flag_changes", "queue_changes"}


class JobDatabase:
    """A database whose jobs belong to tests: every test may empty it and move its time.

    ``url`` must be of a database with ``test`` in its name unless ``any_name``: it is emptied.

    Raises:
        ConfigurationError: the name has no ``test`` in it.
    """

    def __init__(self, url: str, *, schema: str = "adapter", any_name: bool = False) -> None:
        name = str(conninfo_to_dict(url).get("dbname") or "")
        if "test" not in name.lower() and not any_name:
            msg = f"Database {name!r} does not look like one for tests, and it would be emptied. Say any_name=True."
            raise ConfigurationError(msg)
        self.url = url
        self.schema = schema
        self._broom = Broom(url, schema)

    def migrate(self) -> Self:
        """Bring the schema to the newest revision."""
        migrate.upgrade(self.url, self.schema)
        return self

    def clean(self) -> None:
        """Delete every job, key, queue and flag; takes about a millisecond."""
        self._broom.sweep()

    def close(self) -> None:
        """Close the connection that cleans."""
        self._broom.close()

    def advance(self, by: timedelta) -> None:
        """Make all that is stored older by so much, in one transaction: to jobs it is later by as much."""
        with psycopg.connect(self.url) as conn:
            for table, columns in self._moments(conn).items():
                shifts = sql.SQL(", ").join(
                    sql.SQL("{0} = {0} - %(by)s").format(sql.Identifier(column)) for column in columns
                )
                statement = sql.SQL("UPDATE {} SET {}").format(sql.Identifier(self.schema, table), shifts)
                conn.execute(statement, {"by": by})

    def forget(self, job_id: object) -> None:
        """Delete one job's row, wherever it is."""
        with psycopg.connect(self.url) as conn:
            for table in ("worker_jobs_open", "worker_jobs_finished"):
                name = sql.Identifier(self.schema, table)
                conn.execute(sql.SQL("DELETE FROM {} WHERE id = %s").format(name), [job_id])

    def _moments(self, conn: psycopg.Connection) -> Mapping[str, list[str]]:
        rows = conn.execute(
            "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = %s::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
            " AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''"
            " AND a.atttypid = 'timestamptz'::regtype ORDER BY 1, 2",
            [sql.Identifier(self.schema).as_string()],
        ).fetchall()
        found: dict[str, list[str]] = {}
        for table, column in rows:
            if table not in _UNMOVED:
                found.setdefault(table, []).append(column)
        return found


@contextmanager
def embedded_database(
    directory: Path | None = None, *, schema: str = "adapter", bin_dir: Path | str | None = None
) -> Generator[JobDatabase]:
    """Start a PostgreSQL, migrated and empty, for as long as the block runs; about a second, so once per session.

    It needs the extra ``embedded``, or PostgreSQL's programs in ``bin_dir`` or on the PATH.
    ``directory``: where its data goes; it is deleted afterwards unless it is given.

    Raises:
        EmbeddedPostgresError: no PostgreSQL could be found or started.
    """
    place = directory or Path(tempfile.mkdtemp(prefix="adapter-testing-"))
    try:
        with EmbeddedPostgres(place, database="adapter_test", durable=False, bin_dir=bin_dir) as server:
            database = JobDatabase(server.url(), schema=schema).migrate()
            try:
                database.clean()
                yield database
            finally:
                database.close()
    finally:
        if directory is None:
            shutil.rmtree(place, ignore_errors=True)
