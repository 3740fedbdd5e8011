"""Small routes the SDK asks before it does something else (Trigger.dev's API contract, 9)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.web.trigger_api.context import ApiContext


class LookupRoutes:
    """Time zones."""

    def __init__(self, _context: ApiContext) -> None:
        """Like every group; these ask nobody."""

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [Route("/api/v1/timezones", self.timezones)]

    async def timezones(self, request: Request) -> Response:
        """Answer the zones' names, UTC first. Nobody has to say who they are."""
        names = _names()
        without_utc = request.query_params.get("excludeUtc") == "true"
        return JSONResponse({"timezones": names if without_utc else ["UTC", *names]})


@cache
def _names() -> list[str]:
    """Hundreds of files are opened to find them, and anybody may ask."""
    return sorted(name for name in available_timezones() if "/" in name and not name.startswith("Etc/"))
