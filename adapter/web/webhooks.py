"""What remotes and the hooks in users' tasks send us: events, and the question whether a run may start."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel, Field, ValidationError
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.core.remote_events import parse_event
from adapter.domain import signing
from adapter.domain.errors import BodyTooLargeError, MalformedEventError, SignatureError
from adapter.web.bodies import BadJsonError, load_object, read_body
from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.app import Adapter

_log = logging.getLogger("adapter.webhooks")


class _Job(BaseModel):
    id: UUID
    epoch: int = Field(ge=0, lt=2**31)


class _Run(BaseModel):
    id: str = Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f]+$")
    attempt: int = Field(default=1, ge=1, le=10_000)


class Claim(BaseModel):
    """A run asks to begin (the start fence)."""

    job: _Job
    run: _Run


class WebhookRoutes:
    """The two signed routes. Both read raw bytes under a cap and verify before they parse."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._secrets = [
            signing.Secret.of(each.get_secret_value()) for each in adapter.settings.webhook_secrets
        ]

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/api/trigger/webhook", self.receive, methods=["POST"]),
            Route("/api/trigger/claim", self.claim, methods=["POST"]),
        ]

    async def receive(self, request: Request) -> Response:
        """Store an event and answer; it is applied by whoever works the inbox.

        200 ``{"success": true}`` for a new delivery and for one that came before, 401 for a bad
        signature, 413 above the cap, 400 for what is signed but no event.
        """
        verified, body = await self._verified(request)
        try:
            parse_event(body)
        except MalformedEventError as error:
            raise ApiError(400, str(error)) from error
        stored = await self._adapter.receive_webhook(
            verified.source, verified.delivery_id, verified.secret_id, body
        )
        _log.info(
            "webhook %s",
            stored,
            extra={"source": verified.source, "delivery": verified.delivery_id, "secret": verified.secret_id},
        )
        return JSONResponse({"success": True})

    async def claim(self, request: Request) -> Response:
        """Let a run begin, 200 ``{"claimed": true}``, or refuse it, 409 with the reason."""
        _, body = await self._verified(request)
        try:
            wanted = Claim.model_validate(body)
        except ValidationError as error:
            raise ApiError(400, f"The claim cannot be read: {places(error)}.") from error
        answer = await self._adapter.claim_start(
            wanted.job.id, wanted.job.epoch, wanted.run.id, wanted.run.attempt
        )
        if answer.claimed:
            return JSONResponse({"claimed": True})
        return JSONResponse({"claimed": False, "reason": answer.reason}, 409)

    async def _verified(self, request: Request) -> tuple[signing.Verified, dict[str, Any]]:
        try:
            raw = await read_body(request, self._adapter.settings.max_webhook_bytes)
        except BodyTooLargeError as error:
            raise ApiError(413, str(error)) from error
        try:
            verified = signing.verify(request.headers, raw, self._secrets, self._adapter.clock.now())
        except SignatureError as error:
            # The sender learns nothing; the log does, but never a header's value.
            _log.warning("webhook refused: %s", error.reason)
            raise ApiError(401, str(error)) from error
        try:
            return verified, load_object(raw)
        except BadJsonError as error:
            raise ApiError(400, f"The body cannot be read: {error}.") from error


def places(error: ValidationError) -> str:
    """Return where a model did not fit and why, never the values."""
    problems = (f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors())
    return "; ".join(problems)[:500]
