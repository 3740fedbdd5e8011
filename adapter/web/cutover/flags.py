"""Reading the switches."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pydantic_core import to_jsonable_python
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.store.flag_entries import entries
from adapter.web.cutover.context import PREFIX

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.web.cutover.context import CutoverContext


class FlagRoutes:
    """What is switched."""

    def __init__(self, context: CutoverContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [Route(f"{PREFIX}/flags", self.list_flags)]

    async def list_flags(self, request: Request) -> Response:
        """Answer every switch turned at runtime, with who turned it, when, and why."""
        self._context.reader(request)
        database = self._context.adapter.database
        async with database.connection() as conn:
            stored = await entries(conn, database.schema)
        return JSONResponse({"flags": to_jsonable_python([dataclasses.asdict(each) for each in stored])})
