"""Comparing executors: shadows, and the parity report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from adapter.domain.durations import parse_duration
from adapter.domain.parity import AT_LEAST, MARGIN
from adapter.domain.shadow import MOST_OPEN
from adapter.web.asking import Body, answer
from adapter.web.cutover.context import PREFIX
from adapter.web.cutover.steering import ChangeBody, changed, guarded
from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.web.cutover.context import CutoverContext


class ShadowBody(ChangeBody):
    """What `Adapter.shadow` takes."""

    mode: Literal["off", "enqueue", "execute"]
    percent: float = Field(default=100, ge=0, le=100, allow_inf_nan=False)
    most_open: int = Field(default=10, ge=1, le=MOST_OPEN)


class ParityQuery(Body):
    """What `Adapter.parity` takes; ``since`` is a duration as ``24h``."""

    task: str | None = None
    since: str = "24h"
    reference: str | None = None
    margin: float = Field(default=MARGIN, gt=0, lt=1, allow_inf_nan=False)
    at_least: int = Field(default=AT_LEAST, ge=1)


class ComparingRoutes:
    """What one looks at before the next step."""

    def __init__(self, context: CutoverContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route(f"{PREFIX}/parity", self.parity),
            Route(f"{PREFIX}/shadows/{{task:path}}/{{executor}}", self.shadow, methods=["PUT"]),
        ]

    async def parity(self, request: Request) -> Response:
        """Answer how tasks did at each executor, and whether one may take the place of another."""
        await self._context.reader(request)
        query = self._context.query(request, ParityQuery)
        found = await self._context.adapter.parity(
            query.task,
            since=parse_duration(query.since),
            reference=query.reference,
            margin=query.margin,
            at_least=query.at_least,
        )
        return answer(found)

    async def shadow(self, request: Request) -> Response:
        """Copy a share of a task's ended jobs to an executor; ``off``: no more."""
        principal = await self._context.changer(request)
        body = await self._context.body(request, ShadowBody)
        with self._context.asking():
            made = await self._context.adapter.shadow(
                request.path_params["task"],
                mode=body.mode,
                at=request.path_params["executor"],
                percent=body.percent,
                most_open=body.most_open,
                **guarded(request, principal, body),
            )
        if made is None:
            raise ApiError(404, "There is no such shadow flag.", code="flag_not_found")
        return changed(made)
