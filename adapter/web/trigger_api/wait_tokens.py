"""``/api/v1/waitpoints/tokens`` (Trigger.dev's API contract, 11)."""

from __future__ import annotations

import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import Field
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.domain.durations import parse_duration
from adapter.domain.errors import InvalidArgumentError, TokenNotFoundError
from adapter.domain.identity import public_id
from adapter.domain.packets import JSON
from adapter.domain.task import LONGEST_KEY
from adapter.domain.wait_token import WAITPOINT, TokenFilter, TokenStatus, WaitToken
from adapter.domain.wire import moment
from adapter.web.auth import make_public_token
from adapter.web.bodies import BadJsonError, load_json
from adapter.web.errors import ApiError, bad_query
from adapter.web.trigger_api.context import json_object
from adapter.web.trigger_api.options import Wire, validated
from adapter.web.trigger_api.pages import cursor_page, page_sides, page_size
from adapter.web.trigger_api.queries import Asked, created_window, listed, require_text

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.web.trigger_api.context import ApiContext

_MOST_BODY_BYTES = 10 * 1024
_TOKEN_LIFE = timedelta(hours=24)
_TIMEOUT_CODE = "TRIGGER_WAITPOINT_TIMEOUT"
_RESOURCE = "waitpoints"
_LONGEST = timedelta(days=36_525)


class NewTokenBody(Wire):
    """What a creation says. ``timeout``: ``30s`` … ``4w``, or a date."""

    timeout: str | None = None
    idempotency_key: str | None = Field(default=None, max_length=LONGEST_KEY)
    idempotency_key_ttl: str | None = Field(default=None, alias="idempotencyKeyTTL")
    tags: str | list[str] | None = None


class WaitTokenRoutes:
    """Wait tokens: make, list, show, complete, and complete by a URL."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        base = "/api/v1/waitpoints/tokens"
        one = f"{base}/{{token}}"
        return [
            Route(base, self.create, methods=["POST"]),
            Route(base, self.list_tokens, methods=["GET"]),
            Route(one, self.retrieve),
            Route(f"{one}/complete", self.complete, methods=["POST"]),
            Route(f"{one}/callback/{{secret}}", self.callback, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """Make a token, or answer the one of the same key; with it comes a public token that may complete it."""
        principal = await self._context.root(request)
        raw = await self._context.read(request, _MOST_BODY_BYTES)
        body = validated(NewTokenBody, json_object(raw, empty_ok=True))
        adapter = self._context.adapter
        now = adapter.clock.now()
        try:
            token = await adapter.create_token(
                timeout=_timeout(body.timeout),
                idempotency_key=body.idempotency_key or None,
                idempotency_ttl=_span(body.idempotency_key_ttl, "idempotencyKeyTTL"),
                tags=[body.tags] if isinstance(body.tags, str) else body.tags or (),
            )
        except InvalidArgumentError as error:
            raise ApiError(422, str(error), code=error.code) from None
        shown_id = public_id(WAITPOINT, token.id)
        jwt = make_public_token(principal.key, [f"write:{_RESOURCE}:{shown_id}"], _TOKEN_LIFE, now=now)
        return JSONResponse(
            {"id": shown_id, "isCached": token.is_cached, "url": self._url(request, token)},
            headers={"x-trigger-jwt": jwt},
        )

    async def list_tokens(self, request: Request) -> Response:
        """Answer one page, the newest first."""
        await self._context.root(request)
        params = request.query_params
        require_text(params)
        after, before = page_sides(params)
        begin, end = self._window(request)
        page = await self._context.adapter.list_tokens(
            TokenFilter(
                statuses=tuple(_status(word) for word in listed(params, "status")),
                idempotency_key=params.get("filter[idempotencyKey]") or None,
                tags=listed(params, "tags"),
                created_from=begin,
                created_to=end,
                limit=page_size(params),
                after=after,
                before=before,
            )
        )
        data = [self._item(request, token) for token in page.tokens]
        return JSONResponse(cursor_page(data, following=page.next, previous=page.previous))

    async def retrieve(self, request: Request) -> Response:
        """Answer a token; of one that nobody has is 404 (upstream fails with 500)."""
        principal = await self._context.caller(request)
        given: str = request.path_params["token"]
        principal.require("read", (_RESOURCE, given))
        token = await self._context.adapter.get_token(given)
        if token is None:
            raise ApiError(404, "Waitpoint not found")
        shown = self._item(request, token) | _outcome(token)
        if not principal.can("write", (_RESOURCE, given)):
            # Whoever has it may complete the token.
            shown["url"] = ""
        return JSONResponse(shown)

    async def complete(self, request: Request) -> Response:
        """Complete a token with ``data``; the first one counts, and the others are answered the same."""
        principal = await self._context.caller(request)
        given: str = request.path_params["token"]
        principal.require("write", (_RESOURCE, given))
        body = json_object(await self._context.read(request), empty_ok=True)
        await self._complete(given, body.get("data"), principal.actor)
        return JSONResponse({"success": True})

    async def callback(self, request: Request) -> Response:
        """Complete a token with the body, for whoever has its URL. What is no JSON counts as ``{}``, as upstream."""
        given: str = request.path_params["token"]
        if "content-length" not in request.headers:
            raise ApiError(411, "Content-Length is required")
        token = await self._context.adapter.get_token(given)
        if token is None:
            raise ApiError(404, "Waitpoint not found")
        shown: str = request.path_params["secret"]
        if not hmac.compare_digest(token.callback_secret.encode(), shown.encode("utf-8", "replace")):
            raise ApiError(401, "Invalid URL, hash doesn't match")
        try:
            output = load_json(await self._context.read(request))
        except BadJsonError:
            output = {}
        await self._complete(given, output, "callback URL")
        return JSONResponse({"success": True})

    async def _complete(self, given: str, output: Any, actor: str) -> None:
        try:
            await self._context.adapter.complete_token(given, output, actor=actor)
        except TokenNotFoundError:
            raise ApiError(404, "Waitpoint not found") from None

    def _window(self, request: Request) -> tuple[datetime | None, datetime | None]:
        params = request.query_params
        asked = Asked(
            begin=params.get("filter[createdAt][from]") or None,
            end=params.get("filter[createdAt][to]") or None,
            period=params.get("filter[createdAt][period]") or None,
        )
        # A token may wait for months: unlike runs, none is left out without a word.
        return (None, None) if asked == Asked() else created_window(asked, self._context.adapter.clock.now())

    def _url(self, request: Request, token: WaitToken) -> str:
        base = self._context.adapter.settings.public_url or str(request.base_url)
        shown = public_id(WAITPOINT, token.id)
        return f"{base.rstrip('/')}/api/v1/waitpoints/tokens/{shown}/callback/{token.callback_secret}"

    def _item(self, request: Request, token: WaitToken) -> dict[str, Any]:
        completed = token.ended_at if token.status is not TokenStatus.WAITING else None
        optional: dict[str, Any] = {
            "completedAt": moment(completed) if completed else None,
            "timeoutAt": moment(token.timeout_at) if token.timeout_at else None,
            "idempotencyKey": token.idempotency_key,
            "idempotencyKeyExpiresAt": moment(token.idempotency_expires_at)
            if token.idempotency_expires_at
            else None,
        }
        return {
            "id": public_id(WAITPOINT, token.id),
            "url": self._url(request, token),
            "status": token.status.value,
            "tags": list(token.tags),
            "createdAt": moment(token.created_at),
            **{name: value for name, value in optional.items() if value is not None},
        }


def _outcome(token: WaitToken) -> dict[str, Any]:
    """Return how a token ended: the output is text, as upstream has it."""
    if token.status is TokenStatus.WAITING:
        return {}
    if token.status is TokenStatus.COMPLETED:
        output, is_error = token.output, False
    else:
        at = moment(token.ended_at or token.created_at)
        output, is_error = {"code": _TIMEOUT_CODE, "message": f"Waitpoint timed out at {at}"}, True
    if output is None:
        return {"outputIsError": is_error}
    text = json.dumps(output, ensure_ascii=False, separators=(",", ":"))
    return {"output": text, "outputType": JSON, "outputIsError": is_error}


def _status(word: str) -> TokenStatus:
    if word not in {each.value for each in TokenStatus}:
        raise bad_query(f"filter[status]: {word[:40]!r} is not a status")
    return TokenStatus(word)


def _timeout(given: str | None) -> timedelta | datetime | None:
    """Read a span or a date; one that has passed ends the wait at once."""
    if not given:
        return None
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        return _span(given, "timeout")
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _span(given: str | None, name: str) -> timedelta | None:
    if not given:
        return None
    try:
        return min(parse_duration(given), _LONGEST)
    except InvalidArgumentError as error:
        raise ApiError(422, f"Invalid {name}: {error}") from None
