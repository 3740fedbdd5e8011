"""The verbs by which people see whether a task does at one executor what it does at another."""

from __future__ import annotations

from typing import Literal

from adapter.core.cutover.steering import Steering
from adapter.domain.errors import InvalidArgumentError
from adapter.domain.shadow import ShadowMode, ShadowTerms
from adapter.store.flag_changes import Author, FlagChange


class ComparesExecutors:
    """Mixed into the adapter: shadows, and the parity report."""

    steering: Steering

    async def shadow(
        self,
        task: str,
        *,
        mode: Literal["off", "enqueue", "execute"],
        at: str,
        percent: float = 100.0,
        most_open: int = 10,
        reason: str,
        actor: str = "application",
        source: str = "api",
        expected_version: int | None = None,
    ) -> FlagChange | None:
        """Copy a share of a task's jobs to another executor once they have ended; ``off``: no more.

        ``enqueue``: a copy goes the whole way there, and no handler of the task is called. ``execute``: the
        handler runs, and what it comes to is compared with what its job came to; only for a task declared
        ``pure=True``. Copies beyond ``most_open`` at once are dropped and counted. Returns None when it was off.

        Raises:
            UnknownTaskError, UnknownExecutorError, InvalidArgumentError: nothing was changed.
            FlagConflictError: it does not have the expected version.
        """
        author = Author(reason, actor, source)
        if mode == "off":
            return await self.steering.clear("shadow", task, at, author, expected_version)
        if mode not in {each.value for each in ShadowMode}:
            msg = f"mode= is off, enqueue or execute, not {mode!r}."
            raise InvalidArgumentError(msg)
        terms = ShadowTerms(mode=ShadowMode(mode), percent=percent, most_open=most_open)
        return await self.steering.shadow(task, at, terms, author, expected_version)
