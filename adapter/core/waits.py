"""What one waiting call waits for, and how much of that is looked at."""

from __future__ import annotations

import asyncio
from uuid import UUID

from adapter.domain.job import WaitingFor

_MOST_LOOKED_AT = 500


class Wait:
    """Jobs, or tokens, that one call waits for, made by the task that waits.

    ``left`` are those that were open when last looked at.
    """

    def __init__(self, left: list[UUID], kind: WaitingFor) -> None:
        self.left = left
        self.kind = kind
        self.owner = asyncio.current_task()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reach = 1

    def next(self) -> list[UUID]:
        """Return what to look at: one while that is open, more and more once they have ended."""
        return self.left[-self._reach :]

    def saw(self, looked_at: list[UUID], is_open: set[UUID]) -> bool:
        """Take what a look has found; whether to look at others at once."""
        still = [each for each in looked_at if each in is_open]
        self.left[-len(looked_at) :] = still
        self._reach = 1 if still else min(self._reach * 4, _MOST_LOOKED_AT)
        if not self.left and not self.done.done():
            self.done.set_result(None)
        return bool(self.left) and not still
