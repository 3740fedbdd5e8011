"""Public tokens for callers that cannot, or will not, sign them by themselves (Trigger.dev's API contract, 12)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uuid_utils.compat import uuid7

from adapter.web.auth import environment_id, make_public_token
from adapter.web.errors import ApiError
from adapter.web.trigger_api.context import SMALL_BODY_BYTES, json_object
from adapter.web.trigger_api.options import Wire, validated

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.web.trigger_api.context import ApiContext

_USUAL_LIFE = timedelta(minutes=15)
_LONGEST_LIFE = timedelta(days=30)
_MOST_SCOPES = 500
#: How the library that signs inside the SDK lets a time be written.
_SPAN = re.compile(
    r"\+? ?(\d{1,9}(?:\.\d{1,9})?) ?"
    r"(?:(s|secs?|seconds?)|(m|mins?|minutes?)|(h|hrs?|hours?)|(d|days?)|(w|weeks?)|(y|yrs?|years?))(?: from now)?",
    re.IGNORECASE,
)
_SECONDS = (1, 60, 3600, 86_400, 604_800, 31_557_600)

_Text = Annotated[str, Field(max_length=512)]


class RealtimeClaims(Wire):
    """What realtime leaves out of the rows it sends to a token's holder."""

    skip_columns: list[_Text] | None = None


class TokenBody(Wire):
    """``expirationTime``: unix seconds, a time such as ``2026-11-27T10:00:00Z``, or a span such as ``15m``."""

    scopes: list[_Text] = Field(max_length=_MOST_SCOPES)
    expiration_time: float | _Text | None = None
    one_time_use: bool = False
    realtime: RealtimeClaims | None = None


class TokenRoutes:
    """Claims for tokens that the SDK signs by itself, and tokens that we sign."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/api/v1/auth/jwt/claims", self.claims, methods=["POST"]),
            Route("/api/v1/auth/public-tokens", self.create, methods=["POST"]),
        ]

    async def claims(self, request: Request) -> Response:
        """Answer what the SDK puts into the tokens it signs itself."""
        principal = await self._context.root(request)
        return JSONResponse({"sub": environment_id(principal.key), "pub": True})

    async def create(self, request: Request) -> Response:
        """Answer ``{"token"}``, good for 15 minutes unless the body says else, for 30 days at most."""
        principal = await self._context.root(request)
        body = validated(TokenBody, json_object(await self._context.read(request, SMALL_BODY_BYTES)))
        now = self._context.adapter.clock.now()
        life = _life(body.expiration_time, now)
        # Made anew each time: two single-use tokens of one second are two tokens.
        more: dict[str, Any] = {"otu": True, "jti": str(uuid7())} if body.one_time_use else {}
        if body.realtime is not None:
            more["realtime"] = body.realtime.model_dump(by_alias=True, exclude_none=True)
        token = make_public_token(principal.key, body.scopes, life, now=now, more=more)
        return JSONResponse({"token": token})


def _life(said: float | str | None, now: datetime) -> timedelta:
    try:
        life = _USUAL_LIFE if said is None else _span(said, now)
    except (ValueError, OverflowError, OSError):
        raise ApiError(400, f"Validation error: {said!r} is no expirationTime.") from None
    if not timedelta() < life <= _LONGEST_LIFE:
        raise ApiError(400, "Validation error: expirationTime has to lie ahead, at most 30 days.")
    return life


def _span(said: float | str, now: datetime) -> timedelta:
    if not isinstance(said, str):
        return datetime.fromtimestamp(said, UTC) - now
    match = _SPAN.fullmatch(said.strip())
    if match is not None:
        unit = next(number for number, text in enumerate(match.groups()[1:]) if text)
        return timedelta(seconds=float(match[1]) * _SECONDS[unit])
    ends = datetime.fromisoformat(said)
    return (ends if ends.tzinfo else ends.replace(tzinfo=UTC)) - now
