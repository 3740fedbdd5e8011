"""Who is told how jobs go: subscriptions to webhooks and what became of deliveries. Root keys only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from uuid import UUID

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from adapter.domain.errors import SubscriptionNotFoundError
from adapter.web.asking import Asking, Body, answer

if TYPE_CHECKING:
    from starlette.requests import Request

_PREFIX = "/api/admin/webhooks"


class SubscribeBody(Body):
    """A receiver. One inside the own network is subscribed by the command or in Python."""

    url: str
    events: tuple[str, ...] = ()
    name: str | None = Field(default=None, min_length=1, max_length=200)
    secret: str | None = Field(default=None, min_length=1, max_length=500)


class ChangeBody(Body):
    """What is to be otherwise."""

    url: str | None = None
    events: tuple[str, ...] | None = None
    active: bool | None = None


class RotateBody(Body):
    """A new secret, or no old ones any more."""

    secret: str | None = Field(default=None, min_length=1, max_length=500)
    drop_old: bool = False


class RedriveBody(Body):
    """Which dead deliveries; none named: all."""

    deliveries: tuple[UUID, ...] | None = None


class TrialBody(Body):
    """Which event."""

    event: str = "RUN_COMPLETED"


class DeliveriesQuery(Body):
    """A page."""

    state: Literal["pending", "delivered", "dead"] | None = None
    before: UUID | None = None
    limit: int = Field(default=50, ge=1, le=1000)


class WebhookAdminRoutes:
    """Subscriptions and deliveries."""

    def __init__(self, context: Asking) -> None:
        self._context = context
        self._adapter = context.adapter

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        one = f"{_PREFIX}/{{subscription}}"
        return [
            Route(_PREFIX, self.list_all),
            Route(_PREFIX, self.subscribe, methods=["POST"]),
            Route(one, self.change, methods=["PATCH"]),
            Route(one, self.unsubscribe, methods=["DELETE"]),
            Route(f"{one}/rotate", self.rotate, methods=["POST"]),
            Route(f"{one}/deliveries", self.deliveries),
            Route(f"{one}/redrive", self.redrive, methods=["POST"]),
            Route(f"{one}/test", self.test, methods=["POST"]),
        ]

    async def list_all(self, request: Request) -> Response:
        """Answer everybody who is told; no secrets."""
        await self._context.root(request)
        return answer({"subscriptions": await self._adapter.webhook_subscriptions()})

    async def subscribe(self, request: Request) -> Response:
        """Make a subscription, or change the one of the same name; the only answer that shows its secret."""
        await self._context.root(request)
        body = await self._context.body(request, SubscribeBody)
        made = await self._adapter.subscribe_webhook(
            body.url, body.events, name=body.name, secret=body.secret
        )
        return answer(made, status=201)

    async def change(self, request: Request) -> Response:
        """Change where, of what, or whether somebody is told."""
        await self._context.root(request)
        body = await self._context.body(request, ChangeBody)
        found = await self._adapter.change_webhook(
            _id(request), url=body.url, events=body.events, active=body.active
        )
        return answer(found)

    async def unsubscribe(self, request: Request) -> Response:
        """Tell somebody nothing more."""
        await self._context.root(request)
        await self._adapter.unsubscribe_webhook(_id(request))
        return answer({"removed": True})

    async def rotate(self, request: Request) -> Response:
        """Sign with a new secret too, or with the newest only."""
        await self._context.root(request)
        body = await self._context.body(request, RotateBody)
        found = await self._adapter.rotate_webhook_secret(
            _id(request), secret=body.secret, drop_old=body.drop_old
        )
        return answer(found)

    async def deliveries(self, request: Request) -> Response:
        """Answer what was told or is to be, the newest first."""
        await self._context.root(request)
        query = self._context.query(request, DeliveriesQuery)
        found = await self._adapter.webhook_deliveries(
            _id(request), state=query.state, before=query.before, limit=query.limit
        )
        return answer({"deliveries": found})

    async def redrive(self, request: Request) -> Response:
        """Offer dead deliveries once more."""
        await self._context.root(request)
        body = await self._context.body(request, RedriveBody)
        count = await self._adapter.redrive_webhooks(_id(request), deliveries=body.deliveries)
        return answer({"redriven": count})

    async def test(self, request: Request) -> Response:
        """Send one signed event of a job that never was; answer what came back."""
        await self._context.root(request)
        body = await self._context.body(request, TrialBody)
        found = await self._adapter.test_webhook(_id(request), event=body.event)
        return answer({"event": found.event, "url": found.url, "received": found.posted})


def _id(request: Request) -> UUID:
    given: str = request.path_params["subscription"]
    try:
        return UUID(given)
    except ValueError:
        raise SubscriptionNotFoundError(given) from None
