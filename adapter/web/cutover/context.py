"""What every route of a cutover needs: the adapter, who calls and whether they may, the body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapter.web.asking import Asking, Body
from adapter.web.auth import SOURCE

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.web.auth import Principal

#: Where these routes are.
PREFIX = "/api/admin/cutover"
_RESOURCE = ("cutover", None)


class ReasonBody(Body):
    """Why; it is written down."""

    reason: str


def said(principal: Principal, body: ReasonBody) -> dict[str, Any]:
    """Return what every change is told: why, by whom, and from where."""
    return {"reason": body.reason, "actor": principal.actor, "source": SOURCE}


class CutoverContext(Asking):
    """Shared by the route groups of a cutover."""

    async def reader(self, request: Request) -> Principal:
        """Return who asks, by a root key or a token that may ``read:cutover``; 401 or 403 otherwise."""
        return await self._allowed(request, "read")

    async def changer(self, request: Request) -> Principal:
        """Return who changes, by a root key or a token that may ``admin:cutover``; 401 or 403 otherwise."""
        return await self._allowed(request, "admin")

    async def _allowed(self, request: Request, action: str) -> Principal:
        principal = await self.caller(request)
        principal.require(action, _RESOURCE)
        return principal
