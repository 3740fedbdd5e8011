"""Whether a task is ours at all, and what of all that was not went to the Trigger.dev behind us."""

from __future__ import annotations

from adapter.core.pass_through import PassThrough
from adapter.domain.errors import InvalidArgumentError
from adapter.store.forwarded import Forwarded

_KEPT_DAYS = 90


class KnowsTasks:
    """Mixed into the adapter."""

    pass_through: PassThrough

    async def owns_task(self, task: str) -> bool:
        """Whether the task is declared here, or a worker advertised it within 7 days, living or not."""
        return await self.pass_through.owns_task(task)

    async def forwarded(self, days: int = 7) -> list[Forwarded]:
        """Return per endpoint and task what all processes have passed on in the last days, today included.

        The most frequent come first. Counts are written every ten seconds.

        Raises:
            InvalidArgumentError: ``days`` is not 1 to 90.
        """
        if not 1 <= days <= _KEPT_DAYS:
            msg = f"days must be from 1 to {_KEPT_DAYS}."
            raise InvalidArgumentError(msg)
        return await self.pass_through.last_days(days)
