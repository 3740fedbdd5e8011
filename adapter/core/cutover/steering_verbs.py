"""The verbs by which people turn the flags and ask where jobs go."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from adapter.core.cutover.steering import Explanation, RolloutTerms, Steering
from adapter.domain.job import LOCAL
from adapter.domain.routing import Flags
from adapter.store.flag_changes import Author, FlagChange


class SteersJobs:
    """Mixed into the adapter: kill switches, rollouts, and why a job goes where it goes.

    Every change needs a ``reason`` and is written down with its ``actor`` and ``source``. With
    ``expected_version`` it is made only if the flag still has that version (0: is not set).
    """

    steering: Steering

    async def explain(self, task: str, **options: Any) -> Explanation:
        """Say where a job of ``task`` would go now and which rule decides, without scheduling it.

        Options are those of `schedule_job`, with the payload as ``data=``.
        """
        return await self.steering.explain(task, **options)

    async def flags(self) -> Flags:
        """Return every switch there is."""
        return await self.steering.current()

    async def kill(
        self,
        task: str = "*",
        *,
        to: str = LOCAL,
        reason: str,
        actor: str = "application",
        source: str = "api",
        expected_version: int | None = None,
    ) -> FlagChange:
        """Send every new job of a task, or of all, to one executor until `clear_flag`.

        Raises:
            UnknownTaskError, UnknownExecutorError, InvalidArgumentError: nothing was changed.
            FlagConflictError: it does not have the expected version.
        """
        return await self.steering.kill(task, to, Author(reason, actor, source), expected_version)

    async def rollout(
        self,
        task: str,
        *,
        to: str,
        percent: float,
        reason: str,
        by: str | None = None,
        allow: Collection[str] = (),
        deny: Collection[str] = (),
        when: Mapping[str, Any] | None = None,
        actor: str = "application",
        source: str = "api",
        expected_version: int | None = None,
    ) -> FlagChange:
        """Send a share of a task's new jobs (``*``: of every task's) to an executor. Errors: see `kill`.

        Raising the percentage only adds, lowering it takes back what came last.

        ``by``: what decides together: ``tag``, ``user_id``, ``data.<path>`` or ``context.<name>``.
        ``allow``, ``deny``: units that always, and never, go there. ``when``: only jobs whose ``context=``
        has these values, or for a list one of them.
        """
        terms = RolloutTerms(percent=percent, by=by, allow=allow, deny=deny, when=when)
        return await self.steering.rollout(task, to, terms, Author(reason, actor, source), expected_version)

    async def resalt(
        self,
        task: str,
        *,
        to: str,
        reason: str,
        actor: str = "application",
        source: str = "api",
        expected_version: int | None = None,
    ) -> FlagChange:
        """Deal the jobs of a rollout anew: the same share of others. Errors: see `kill`."""
        return await self.steering.resalt(task, to, Author(reason, actor, source), expected_version)

    async def clear_flag(
        self,
        kind: Literal["kill", "rollout", "circuit", "shadow"],
        task: str,
        *,
        executor: str = "",
        reason: str,
        actor: str = "application",
        source: str = "api",
        expected_version: int | None = None,
    ) -> FlagChange | None:
        """Take a flag away; None when there was none. ``executor`` may be left out where there is only one."""
        author = Author(reason, actor, source)
        return await self.steering.clear(kind, task, executor, author, expected_version)

    async def revert_change(
        self, change_id: int, *, reason: str, actor: str = "application", source: str = "api"
    ) -> FlagChange:
        """Put back what a change of a flag replaced. That is a change, too, and can be reverted.

        Raises:
            ChangeNotFoundError: there is no such change.
            FlagConflictError: the flag was changed since.
        """
        return await self.steering.revert(change_id, Author(reason, actor, source))
