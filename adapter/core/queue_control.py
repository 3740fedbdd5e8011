"""The verbs by which an application looks at its queues and turns them."""

from __future__ import annotations

from typing import Any, Literal, TypedDict, Unpack

from adapter.domain.errors import InvalidArgumentError
from adapter.domain.limits import LIMITS, Limits, Rate
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


class ControlsQueues:
    """Mixed into the adapter: pause, resume and limits at run time, for all processes at their next claim."""

    database: Database
    notifier: Notifier

    async def list_queues(self, name: str | None = None) -> list[QueueInfo]:
        """Return every queue, or the one of that name, with what waits and runs in it."""
        async with self.database.connection() as conn:
            return await store.entries(conn, self.database.schema, name)

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
                msg = f"There is no queue named {name!r}. `adapter queues list` shows those there are."
                raise InvalidArgumentError(msg)
