"""What the upkeep has to do, in one question instead of one per chore: nearly always it is nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString

from adapter.store.database import Connection, Schema, fetch
from adapter.store.families import IS_DONE_WAITING
from adapter.store.overruns import IS_OVERRUN
from adapter.store.upkeep import HAS_EXPIRED, NEXT_DUE
from adapter.store.wait_tokens import NEXT_TIMEOUT

_LOOK: LiteralString = (
    "SELECT ("
    + NEXT_DUE
    + ") AS due_s, ("
    + NEXT_TIMEOUT
    + ") AS timeout_s, EXISTS (SELECT FROM {s}.worker_jobs_open WHERE "
    + HAS_EXPIRED
    + ") AS have_expired, EXISTS (SELECT FROM {s}.worker_jobs_open WHERE "
    + IS_OVERRUN
    + ") AS are_overrun, EXISTS (SELECT FROM {s}.worker_jobs_open p WHERE "
    + IS_DONE_WAITING
    + ") AS are_done_waiting, EXISTS (SELECT FROM {s}.family_cancels) AS were_canceled"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What waits for the upkeep now.

    ``due_s``, ``timeout_s``: seconds until the next delayed job is due and the next wait token times out (negative:
    overdue), None without one. ``were_canceled``: parents whose children may still have to be.
    """

    due_s: float | None
    timeout_s: float | None
    have_expired: bool
    are_overrun: bool
    are_done_waiting: bool
    were_canceled: bool

    @property
    def are_due(self) -> bool:
        """Whether there are jobs to promote."""
        return self.due_s is not None and self.due_s <= 0

    @property
    def are_timed_out(self) -> bool:
        """Whether there are tokens to time out."""
        return self.timeout_s is not None and self.timeout_s <= 0

    @property
    def next_s(self) -> float | None:
        """How soon there will be more to do, in seconds; None when nobody knows of anything."""
        return min((each for each in (self.due_s, self.timeout_s) if each is not None), default=None)


async def look(conn: Connection, schema: Schema, margin: timedelta) -> Outlook:
    """Return what there is to do. ``margin``: by how much a try must be over its time to count."""
    return Outlook(**(await fetch(conn, schema, _LOOK, {"margin": margin}))[0])
