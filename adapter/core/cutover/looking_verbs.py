"""The verbs by which people see how a cutover stands, what was changed, and why a job went where it went."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from adapter.core.cutover.explaining import JobExplanation, explain_job
from adapter.core.cutover.status import CutoverStatus, Overview
from adapter.domain.errors import InvalidArgumentError
from adapter.store.database import Database
from adapter.store.history import Change, history
from adapter.store.insights import Insights

_MOST_CHANGES = 1000


class ShowsCutover:
    """Mixed into the adapter: status, history, explanations of jobs."""

    database: Database
    insights: Insights
    overview: Overview

    async def cutover_status(self) -> CutoverStatus:
        """Return per task where its jobs go, by which rule, since when, and what is open where."""
        return await self.overview.status()

    async def cutover_history(
        self, subject: str | None = None, *, before: datetime | None = None, limit: int = 50
    ) -> list[Change]:
        """Return what people changed, the newest first.

        ``subject``: only of this task (with what was changed for every task) or queue. ``before``: only older.

        Raises:
            InvalidArgumentError: the limit is not 1 to 1000, or ``before`` has no time zone.
        """
        if not 1 <= limit <= _MOST_CHANGES or (before is not None and before.tzinfo is None):
            msg = f"limit must be from 1 to {_MOST_CHANGES}, and before a time with a zone."
            raise InvalidArgumentError(msg)
        async with self.database.connection() as conn:
            return await history(conn, self.database.schema, subject=subject, before=before, limit=limit)

    async def explain_job(self, job_id: UUID) -> JobExplanation:
        """Return why a job went where it went: its reason, the change behind it, and what moved it later.

        Raises:
            JobNotFoundError: there is no such job.
        """
        return await explain_job(self.database, self.insights, job_id)
