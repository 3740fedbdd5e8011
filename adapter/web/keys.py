"""Keys over HTTP: for who may do everything, and for nobody else."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import Field
from pydantic_core import to_jsonable_python
from starlette.responses import Response
from starlette.routing import Route

from adapter.domain.errors import KeyNotFoundError
from adapter.web.asking import Asking, Body, answer

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.domain.keys import MadeKey

PREFIX = "/api/admin/keys"
_YEAR_S = 366 * 24 * 3600


class KeyBody(Body):
    """A key to be made. ``scopes`` absent: everything; ``user_id``: only for jobs of this user."""

    name: str
    environment: str = "prod"
    scopes: list[str] | None = None
    user_id: str | None = None


class RotateBody(Body):
    """``overlap_s``: how long the old key goes on, in seconds."""

    overlap_s: float = Field(default=0, ge=0, le=_YEAR_S)


class KeysQuery(Body):
    """``revoked``: also keys that are not good any more."""

    revoked: bool = False


class RevokeQuery(Body):
    """``after_s``: how long it goes on, in seconds."""

    after_s: float = Field(default=0, ge=0, le=_YEAR_S)


class KeyRoutes:
    """List, make, rotate, revoke."""

    def __init__(self, context: Asking) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route(PREFIX, self.list_keys),
            Route(PREFIX, self.create, methods=["POST"]),
            Route(f"{PREFIX}/{{key}}/rotate", self.rotate, methods=["POST"]),
            Route(f"{PREFIX}/{{key}}", self.revoke, methods=["DELETE"]),
        ]

    async def list_keys(self, request: Request) -> Response:
        """Answer the kept keys without the keys themselves."""
        await self._context.root(request)
        query = self._context.query(request, KeysQuery)
        return answer({"keys": await self._context.adapter.list_keys(revoked=query.revoked)})

    async def create(self, request: Request) -> Response:
        """Make a key and show it, this once."""
        principal = await self._context.root(request)
        body = await self._context.body(request, KeyBody)
        made = await self._context.adapter.create_key(
            body.name,
            environment=body.environment,
            scopes=body.scopes,
            user_id=body.user_id,
            actor=principal.actor,
        )
        return answer(_shown(made), status=201)

    async def rotate(self, request: Request) -> Response:
        """Make a key that takes the place of another, and show it."""
        principal = await self._context.root(request)
        body = await self._context.body(request, RotateBody)
        made = await self._context.adapter.rotate_key(
            _key_id(request), overlap=timedelta(seconds=body.overlap_s), actor=principal.actor
        )
        return answer(_shown(made), status=201)

    async def revoke(self, request: Request) -> Response:
        """End a key."""
        principal = await self._context.root(request)
        query = self._context.query(request, RevokeQuery)
        about = await self._context.adapter.revoke_key(
            _key_id(request), after=timedelta(seconds=query.after_s), actor=principal.actor
        )
        return answer(about)


def _shown(made: MadeKey) -> dict[str, Any]:
    return {"key": made.secret} | to_jsonable_python(made.about)


def _key_id(request: Request) -> UUID:
    text: str = request.path_params["key"]
    try:
        return UUID(text)
    except ValueError:
        raise KeyNotFoundError(text) from None
