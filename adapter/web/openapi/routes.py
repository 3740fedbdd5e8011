"""``GET /api/openapi.json``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic_core import to_json
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from adapter.web.openapi.document import document

if TYPE_CHECKING:
    from starlette.requests import Request


class OpenApiRoutes:
    """The document of ``routes``, made when it is first asked for."""

    def __init__(self, routes: Sequence[BaseRoute], *, url: str | None) -> None:
        self._served = routes
        self._url = url

    @property
    def routes(self) -> list[Route]:
        """The route."""
        return [Route("/api/openapi.json", self.show)]

    async def show(self, _request: Request) -> Response:
        """Answer this document. Nobody has to say who they are: it holds nothing of yours."""
        return Response(self._document, media_type="application/json")

    @cached_property
    def _document(self) -> bytes:
        return to_json(document(self._served, url=self._url))
