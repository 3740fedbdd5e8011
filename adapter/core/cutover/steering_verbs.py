"""The verbs by which people turn the flags and ask where jobs go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from adapter.core.cutover.steering import Explanation, Steering
from adapter.domain.job import LOCAL
from adapter.domain.routing import Flags


class SteersJobs:
    """Mixed into the adapter: kill switches, rollouts, and why a job goes where it goes."""

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
        self, task: str = "*", *, to: str = LOCAL, reason: str, actor: str = "application"
    ) -> None:
        """Send every new job of a task, or of all, to one executor until `clear_flag`."""
        await self.steering.kill(task, to=to, reason=reason, actor=actor)

    async def rollout(
        self,
        task: str,
        *,
        to: str,
        percent: float,
        reason: str,
        by: str | None = None,
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
        when: Mapping[str, Any] | None = None,
        actor: str = "application",
    ) -> None:
        """Send a share of a task's new jobs (``*``: of every task's) to an executor."""
        await self.steering.rollout(
            task,
            to=to,
            percent=percent,
            reason=reason,
            by=by,
            allow=list(allow),
            deny=list(deny),
            when=when,
            actor=actor,
        )

    async def clear_flag(
        self,
        kind: Literal["kill", "rollout", "circuit"],
        task: str,
        *,
        executor: str = "",
        reason: str,
        actor: str = "application",
    ) -> bool:
        """Take a flag away; False when there was none."""
        return (
            await self.steering.clear(kind, task, executor=executor, reason=reason, actor=actor) is not None
        )
