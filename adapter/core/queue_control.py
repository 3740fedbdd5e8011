"""The verbs by which an application looks at its queues and turns them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

from adapter.core.registry import Registry
from adapter.domain.errors import InvalidArgumentError, QueueNotFoundError
from adapter.domain.identity import queue_id_of
from adapter.domain.limits import LIMITS, Limits, Rate
from adapter.store import processes
from adapter.store import queues as store
from adapter.store.database import Database
from adapter.store.queues import QueueInfo
from adapter.store.wakeup import Notifier


class LimitChanges(TypedDict, total=False):
    """New limits: a number or a rate, None to lift one, ``"registry"`` for what the registry says."""

    concurrency_limit: int | Literal["registry"] | None
    key_limit: int | Literal["registry"] | None
    rate: Rate | Literal["registry"] | None
    key_rate: Rate | Literal["registry"] | None


@dataclass(frozen=True, slots=True)
class QueuePage:
    """Some of all queues, by name, and how many there are."""

    queues: list[QueueInfo]
    total: int


@dataclass(frozen=True, slots=True)
class TaskQueue:
    """A task's queue. ``shared_with``: the other tasks whose jobs go there."""

    name: str
    shared_with: list[str]


class ControlsQueues:
    """Mixed into the adapter: pause, resume and limits at run time, for all processes at their next claim."""

    database: Database
    notifier: Notifier
    registry: Registry

    async def list_queues(self, name: str | None = None) -> list[QueueInfo]:
        """Return every queue, or the one of that name, with what waits and runs in it."""
        async with self.database.connection() as conn:
            return await store.entries(conn, self.database.schema, name)

    async def page_queues(self, *, limit: int = 25, offset: int = 0) -> QueuePage:
        """Return ``limit`` queues by name, after the first ``offset``, without their oldest waits."""
        async with self.database.connection() as conn:
            schema = self.database.schema
            await processes.declare_queues(conn, schema, self.registry.queue_limits)
            total = len(await store.names(conn, schema))
            return QueuePage(await store.page(conn, schema, limit=limit, offset=offset), total)

    async def find_queue(self, *, name: str | None = None, queue_id: str | None = None) -> QueueInfo:
        """Return a queue by its name, or by the id that the HTTP API shows, without its oldest wait.

        Raises:
            QueueNotFoundError: there is none.
        """
        async with self.database.connection() as conn:
            schema = self.database.schema
            await processes.declare_queues(conn, schema, self.registry.queue_limits)
            if name is None:
                known = await store.names(conn, schema)
                name = next((each for each in known if queue_id_of(each) == queue_id), None)
            found = [] if name is None else await store.page(conn, schema, name=name)
        if not found:
            raise QueueNotFoundError(name or str(queue_id))
        return found[0]

    def queue_of_task(self, task: str) -> TaskQueue:
        """Return the queue of a task's jobs where a call names no other, and which other tasks have it too.

        Raises:
            UnknownTaskError: there is no such task.
        """
        name = self.registry.get(task).policy.queue.name
        others = [each.id for each in self.registry if each.policy.queue.name == name and each.id != task]
        return TaskQueue(name, sorted(others))

    async def pause_queue(
        self, name: str, *, reason: str, actor: str = "application", source: str = "api"
    ) -> None:
        """Let no more jobs of a queue start, here or in any process; those that run go on.

        Raises:
            InvalidArgumentError: there is no such queue, or no reason.
        """
        await self._change(name, verb="pause", reason=reason, actor=actor, source=source)

    async def resume_queue(
        self, name: str, *, reason: str, actor: str = "application", source: str = "api"
    ) -> None:
        """Let jobs of a paused queue start again. Errors: see `pause_queue`."""
        await self._change(name, verb="resume", reason=reason, actor=actor, source=source)
        self.notifier.poke(name)

    async def set_queue_limits(
        self,
        name: str,
        *,
        reason: str,
        actor: str = "application",
        source: str = "api",
        **limits: Unpack[LimitChanges],
    ) -> None:
        """Set limits over those of the registry, which a restart does not undo; what is not named stays.

        A limit below what runs stops nothing: it lets nothing start until so much has ended.

        Raises:
            InvalidArgumentError: a limit cannot be, there is no such queue, or no reason.
        """
        values: dict[str, Any] = dict(limits)
        if unknown := sorted(set(values) - set(LIMITS)):
            msg = f"There is no limit named {', '.join(unknown)}: the limits are {', '.join(LIMITS)}."
            raise InvalidArgumentError(msg)
        if not values:
            msg = f"Say which limit is to change: {', '.join(LIMITS)}."
            raise InvalidArgumentError(msg)
        reset = [limit for limit, value in values.items() if value == "registry"]
        new = {limit: value for limit, value in values.items() if value != "registry"}
        Limits(**new)
        await self._change(
            name, verb="limits", reason=reason, actor=actor, source=source, limits=new, reset=reset
        )
        self.notifier.poke(name)

    async def _change(self, name: str, *, reason: str, **what: Any) -> None:
        if not reason.strip():
            msg = "Every change of a queue needs a reason."
            raise InvalidArgumentError(msg)
        async with self.database.connection() as conn:
            if not await store.change(conn, self.database.schema, name, reason=reason, **what):
                raise QueueNotFoundError(name)
