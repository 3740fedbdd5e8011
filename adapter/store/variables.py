"""Environment variables as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from adapter.domain.variable import Variable
from adapter.store.database import Connection, Schema, fetch

_COLUMNS: LiteralString = "environment, name, value, is_secret, changed_by, created_at, updated_at"
#: A variable that is secret stays so.
_SET: LiteralString = """
INSERT INTO {s}.environment_variables AS v (environment, name, value, is_secret, changed_by)
SELECT %(environment)s, n, x, %(is_secret)s, %(by)s FROM unnest(%(names)s::text[], %(values)s::text[]) AS u (n, x) ORDER BY n
ON CONFLICT (environment, name) DO UPDATE SET value = EXCLUDED.value, is_secret = v.is_secret OR EXCLUDED.is_secret,
  changed_by = EXCLUDED.changed_by, updated_at = now()
"""
_TAKEN: LiteralString = """
SELECT name FROM {s}.environment_variables WHERE environment = %(environment)s AND name = ANY(%(names)s) ORDER BY name
"""
_LIST: LiteralString = (
    "SELECT "
    + _COLUMNS
    + """ FROM {s}.environment_variables
WHERE environment = %(environment)s AND (%(name)s::text IS NULL OR name = %(name)s) ORDER BY name
"""
)
_CHANGE: LiteralString = """
UPDATE {s}.environment_variables SET value = %(value)s, changed_by = %(by)s, updated_at = now()
WHERE environment = %(environment)s AND name = %(name)s RETURNING name
"""
_DELETE: LiteralString = """
DELETE FROM {s}.environment_variables WHERE environment = %(environment)s AND name = %(name)s RETURNING name
"""


async def put(
    conn: Connection, schema: Schema, environment: str, variables: dict[str, str], *, is_secret: bool, by: str
) -> None:
    """Set variables, whether they are there or not."""
    parameters = {
        "environment": environment,
        "names": list(variables),
        "values": list(variables.values()),
        "is_secret": is_secret,
        "by": by,
    }
    await fetch(conn, schema, _SET, parameters)


async def taken(conn: Connection, schema: Schema, environment: str, names: Sequence[str]) -> list[str]:
    """Return which of ``names`` are set."""
    parameters = {"environment": environment, "names": list(names)}
    return [row["name"] for row in await fetch(conn, schema, _TAKEN, parameters)]


async def listed(
    conn: Connection, schema: Schema, environment: str, name: str | None = None
) -> list[Variable]:
    """Return the variables of an environment, or the one of that name, by name."""
    rows = await fetch(conn, schema, _LIST, {"environment": environment, "name": name})
    return [Variable(**row) for row in rows]


async def change(
    conn: Connection, schema: Schema, environment: str, name: str, *, value: str, by: str
) -> bool:
    """Give a variable another value; False when it is not set."""
    parameters = {"environment": environment, "name": name, "value": value, "by": by}
    return bool(await fetch(conn, schema, _CHANGE, parameters))


async def delete(conn: Connection, schema: Schema, environment: str, name: str) -> bool:
    """Remove a variable; False when it is not set."""
    return bool(await fetch(conn, schema, _DELETE, {"environment": environment, "name": name}))
