"""What was handed on, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from adapter.web.asking import Body, answer
from adapter.web.cutover.context import CutoverContext

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.app import Adapter
    from adapter.web.auth import Keyring


class DaysQuery(Body):
    """How far back."""

    days: int = Field(default=7, ge=1, le=90)


class PassThroughRoutes:
    """Reads; they change nothing."""

    def __init__(self, adapter: Adapter, keyring: Keyring) -> None:
        self._context = CutoverContext(adapter, keyring)

    @property
    def routes(self) -> list[Route]:
        """The route."""
        return [Route("/api/admin/pass-through", self.show)]

    async def show(self, request: Request) -> Response:
        """Answer whether anything is handed on, and what was in the last ``days``, the most frequent first."""
        await self._context.reader(request)
        days = self._context.query(request, DaysQuery).days
        adapter = self._context.adapter
        return answer(
            {"on": adapter.pass_through.is_on, "days": days, "forwarded": await adapter.forwarded(days)}
        )
