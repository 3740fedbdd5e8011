"""Whether a task is ours at all: asked where what is not ours may go elsewhere."""

from __future__ import annotations

from adapter.core.cutover.steering import Steering
from adapter.core.registry import Registry


class KnowsTasks:
    """Mixed into the adapter."""

    registry: Registry
    steering: Steering

    async def owns_task(self, task: str) -> bool:
        """Whether the task is declared here, or a worker advertised it within 7 days, living or not."""
        return self.registry.find(task) is not None or task in (await self.steering.current()).advertised
