"""How a column is written down here, in fewer words."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Column, DateTime, text

#: Small tables that are rewritten all the time: room on the page, and vacuum by count, without pauses.
BUSY = {
    "fillfactor": 50,
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 500,
    "autovacuum_vacuum_cost_delay": 0,
}
#: Larger ones that only grow and shrink: vacuum sooner than after a fifth of them.
GROWING = {"autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_cost_delay": 0}


def required(name: str, kind: Any, **options: Any) -> Column[Any]:
    """Return a column that is never null."""
    return Column(name, kind, nullable=False, **options)


def moment(name: str) -> Column[Any]:
    """Return a column for a time, null while it has not come."""
    return Column(name, DateTime(timezone=True))


def stamp(name: str) -> Column[Any]:
    """Return a column for a time that is now by default."""
    return required(name, DateTime(timezone=True), server_default=text("now()"))


def flag(name: str) -> Column[Any]:
    """Return a column that is false by default."""
    return required(name, Boolean, server_default=text("false"))
