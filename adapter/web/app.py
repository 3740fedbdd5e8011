"""The ASGI application over one adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware

from adapter.web import health
from adapter.web.auth import Keyring
from adapter.web.cutover import routes as cutover
from adapter.web.errors import HANDLERS
from adapter.web.health import Readiness
from adapter.web.middleware import Outermost
from adapter.web.pass_through.front import PassingThrough
from adapter.web.pass_through.routes import PassThroughRoutes
from adapter.web.trigger_api import routes as trigger_api
from adapter.web.trigger_api.packets import MOST_PACKET_BYTES
from adapter.web.webhooks import WebhookRoutes

if TYPE_CHECKING:
    from adapter.app import Adapter


def create_app(adapter: Adapter, *, owns_adapter: bool = True) -> Starlette:
    """Return the application: webhooks, health, the Trigger.dev-compatible API, cutover.

    With ``owns_adapter`` its lifespan opens and closes the adapter. A host that mounts the application
    opens the adapter itself and passes False: nobody runs the lifespan of a mounted application.
    """
    keyring = Keyring(adapter.settings.api_keys)
    routes = [
        *health.routes(Readiness(adapter.probe, adapter.clock)),
        *WebhookRoutes(adapter).routes,
        *trigger_api.routes(adapter, keyring),
        *cutover.routes(adapter, keyring),
        *PassThroughRoutes(adapter, keyring).routes,
    ]
    outermost = Middleware(
        Outermost,
        clock=adapter.clock,
        max_body_bytes=max(MOST_PACKET_BYTES, adapter.settings.max_webhook_bytes),
    )
    passing = Middleware(PassingThrough, adapter=adapter, keyring=keyring, routes=routes)
    app = Starlette(
        routes=routes,
        middleware=[outermost, passing] if adapter.settings.upstream_url else [outermost],
        exception_handlers=HANDLERS,
        lifespan=adapter.lifespan(work=False) if owns_adapter else None,
    )
    # A redirect would turn a mistyped POST into a GET.
    app.router.redirect_slashes = False
    return app
