"""Turning: kill switches, rollouts, circuits; and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from adapter.web.asking import answer
from adapter.web.cutover.context import PREFIX, ReasonBody, said
from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.store.flag_changes import FlagChange
    from adapter.web.auth import Principal
    from adapter.web.cutover.context import CutoverContext

_Kind = Literal["kill", "rollout", "circuit"]


class ChangeBody(ReasonBody):
    """``expected_version`` says the same as ``If-Match``: only if the flag still has it; 0: is not set."""

    expected_version: int | None = Field(default=None, ge=0)


class KillBody(ChangeBody):
    """Where every new job goes."""

    to: str = "local"


class RolloutBody(ChangeBody):
    """What `Adapter.rollout` takes."""

    percent: float = Field(ge=0, le=100, allow_inf_nan=False)
    by: str | None = None
    allow: list[str] = Field(default_factory=list[str])
    deny: list[str] = Field(default_factory=list[str])
    when: dict[str, Any] = Field(default_factory=dict[str, Any])


class SteeringRoutes:
    """Changes. Who makes them is taken from the key."""

    def __init__(self, context: CutoverContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        rollout = f"{PREFIX}/rollouts/{{task:path}}/{{executor}}"
        circuit = f"{PREFIX}/circuits/{{task:path}}/{{executor}}"
        return [
            Route(f"{PREFIX}/kills/{{task:path}}", self.kill, methods=["PUT"]),
            Route(f"{PREFIX}/kills/{{task:path}}", self.unkill, methods=["DELETE"]),
            Route(f"{rollout}/resalt", self.resalt, methods=["POST"]),
            Route(rollout, self.rollout, methods=["PUT"]),
            Route(rollout, self.withdraw, methods=["DELETE"]),
            Route(circuit, self.trip, methods=["PUT"]),
            Route(circuit, self.resume, methods=["DELETE"]),
            Route(f"{PREFIX}/changes/{{change}}/revert", self.revert, methods=["POST"]),
        ]

    async def kill(self, request: Request) -> Response:
        """Send every new job of a task to one executor."""
        principal = await self._context.changer(request)
        body = await self._context.body(request, KillBody)
        with self._context.asking():
            made = await self._context.adapter.kill(
                request.path_params["task"],
                to=body.to,
                **guarded(request, principal, body),
            )
        return changed(made)

    async def rollout(self, request: Request) -> Response:
        """Send a share of a task's new jobs to an executor."""
        principal = await self._context.changer(request)
        body = await self._context.body(request, RolloutBody)
        with self._context.asking():
            made = await self._context.adapter.rollout(
                request.path_params["task"],
                to=request.path_params["executor"],
                percent=body.percent,
                by=body.by,
                allow=body.allow,
                deny=body.deny,
                when=body.when,
                **guarded(request, principal, body),
            )
        return changed(made)

    async def resalt(self, request: Request) -> Response:
        """Deal the jobs of a rollout anew."""
        principal = await self._context.changer(request)
        body = await self._context.body(request, ChangeBody)
        made = await self._context.adapter.resalt(
            request.path_params["task"],
            to=request.path_params["executor"],
            **guarded(request, principal, body),
        )
        return changed(made)

    async def unkill(self, request: Request) -> Response:
        """Take a runtime kill switch away."""
        return await self._clear(request, "kill")

    async def withdraw(self, request: Request) -> Response:
        """Take a rollout away."""
        return await self._clear(request, "rollout")

    async def trip(self, request: Request) -> Response:
        """Give an executor no more jobs of a task."""
        principal = await self._context.changer(request)
        body = await self._context.body(request, ChangeBody)
        with self._context.asking():
            made = await self._context.adapter.open_circuit(
                request.path_params["task"],
                executor=request.path_params["executor"],
                **guarded(request, principal, body),
            )
        return changed(made)

    async def resume(self, request: Request) -> Response:
        """Close an open circuit."""
        return await self._clear(request, "circuit")

    async def revert(self, request: Request) -> Response:
        """Put back what a change of a flag replaced."""
        principal = await self._context.changer(request)
        body = await self._context.body(request, ReasonBody)
        kind, _, number = request.path_params["change"].rpartition("-")
        if kind not in {"", "flag"} or not (number.isascii() and number.isdecimal()) or len(number) > 18:
            raise ApiError(404, "There is no such change of a flag.", code="change_not_found")
        with self._context.asking():
            made = await self._context.adapter.revert_change(int(number), **said(principal, body))
        return changed(made)

    async def _clear(self, request: Request, kind: _Kind) -> Response:
        principal = await self._context.changer(request)
        # What a DELETE carries is dropped on the way by some, so the query says why.
        query = self._context.query(request, ChangeBody)
        made = await self._context.adapter.clear_flag(
            kind,
            request.path_params["task"],
            executor=request.path_params.get("executor", ""),
            **guarded(request, principal, query),
        )
        if made is None:
            raise ApiError(404, f"There is no such {kind} flag.", code="flag_not_found")
        return changed(made)


def guarded(request: Request, principal: Principal, body: ChangeBody) -> dict[str, Any]:
    """Return what every change of a flag is told: what every change is, and what the flag must still be."""
    return {**said(principal, body), "expected_version": _expected_version(request, body)}


def _expected_version(request: Request, body: ChangeBody) -> int | None:
    """Return the version the flag must still have, from ``If-Match`` or the body."""
    match = request.headers.get("if-match")
    if match is None:
        return body.expected_version
    version = match.strip().strip('"')
    if not (version.isascii() and version.isdecimal()) or len(version) > 18:
        raise ApiError(400, 'If-Match is the version of the flag, "12".', code="invalid_version")
    return int(version)


def changed(made: FlagChange) -> Response:
    """Answer a change, with the version that guards the next."""
    return answer(made, headers={"etag": f'"{made.version}"'})
