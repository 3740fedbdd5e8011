"""The verbs by which one thing is done to many jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.bulk_actions import BulkActions
from adapter.domain.bulk import BulkAction, BulkVerb
from adapter.domain.errors import BulkActionNotFoundError, InvalidArgumentError
from adapter.store import bulk_actions as store
from adapter.store.bulk_actions import BulkPage
from adapter.store.database import Database
from adapter.store.insights import JobFilter
from adapter.store.wakeup import BULK, Notifier

#: Jobs that one call may name.
MOST_NAMED = 10_000
#: Jobs that are found in one step.
_PAGE = 1000


class ActsOnMany:
    """Mixed into the adapter: stored, and gone on with by whatever process runs the sync loops."""

    database: Database
    notifier: Notifier
    bulk: BulkActions

    async def start_bulk_action(
        self,
        action: BulkVerb,
        wanted: JobFilter | Sequence[UUID],
        *,
        name: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        actor: str = "application",
        request_key: str | None = None,
    ) -> BulkAction:
        """Cancel or replay every job of a filter, or those named; returns at once.

        A filter takes in the jobs that are there when they are looked for, open and finished; its page and cursors do
        not count. ``overrides``: options of `schedule_job`, as JSON, for each replay. ``request_key``: a second call
        under it returns the first one's.

        Raises:
            InvalidArgumentError: no job is named, or more than 10,000.
        """
        if action not in {"cancel", "replay"}:
            msg = f"A bulk action is cancel or replay, not {action!r}."
            raise InvalidArgumentError(msg)
        if isinstance(wanted, JobFilter):
            wanted = replace(wanted, limit=_PAGE, after=None, before=None)
        elif not 0 < len(wanted) <= MOST_NAMED:
            msg = f"A bulk action names 1 to {MOST_NAMED} jobs; use a filter for more."
            raise InvalidArgumentError(msg)
        async with self.database.transaction() as conn:
            made = await store.create(
                conn,
                self.database.schema,
                UUID(str(uuid7())),
                action=action,
                name=name,
                wanted=wanted,
                overrides=overrides,
                actor=actor,
                request_key=request_key,
            )
        self.notifier.poke(BULK)
        return await self.bulk_action(made)

    async def bulk_action(self, bulk_action_id: UUID) -> BulkAction:
        """Return how a bulk action stands.

        Raises:
            BulkActionNotFoundError: there is none of that id.
        """
        async with self.database.connection() as conn:
            found = await store.get(conn, self.database.schema, bulk_action_id)
        if found is None:
            raise BulkActionNotFoundError(bulk_action_id)
        return found

    async def bulk_actions(
        self, limit: int = 25, *, after: str | None = None, before: str | None = None
    ) -> BulkPage:
        """Return one page of bulk actions, the newest first; cursors as those of `list_jobs`."""
        async with self.database.connection() as conn:
            return await store.page(conn, self.database.schema, limit=limit, after=after, before=before)

    async def abort_bulk_action(self, bulk_action_id: UUID) -> BulkAction:
        """Stop a bulk action: what was done is done, the rest is left alone. One that has ended stays so.

        Raises:
            BulkActionNotFoundError: there is none of that id.
        """
        async with self.database.connection() as conn:
            await store.abort(conn, self.database.schema, bulk_action_id)
        return await self.bulk_action(bulk_action_id)
