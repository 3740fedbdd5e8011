"""The ASGI application over one adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from adapter.core.keys import KnownKeys
from adapter.domain.errors import ConfigurationError
from adapter.web import health
from adapter.web.asking import Asking
from adapter.web.auth import Authenticate, Keyring
from adapter.web.authorization import Authorize, allowed_by_default
from adapter.web.browsers import Sharing
from adapter.web.cutover import routes as cutover
from adapter.web.errors import HANDLERS
from adapter.web.health import Readiness
from adapter.web.keys import KeyRoutes
from adapter.web.middleware import Outermost
from adapter.web.openapi.routes import OpenApiRoutes
from adapter.web.pass_through.front import PassingThrough
from adapter.web.pass_through.routes import PassThroughRoutes
from adapter.web.people.jobs import JobRoutes
from adapter.web.people.standing import StandingRoutes
from adapter.web.rates import RateLimit
from adapter.web.same_origin import host_of
from adapter.web.stream import StreamRoutes
from adapter.web.trigger_api import routes as trigger_api
from adapter.web.trigger_api.packets import MOST_PACKET_BYTES
from adapter.web.webhook_admin import WebhookAdminRoutes
from adapter.web.webhooks import WebhookRoutes

if TYPE_CHECKING:
    from adapter.app import Adapter


def graphql_routes(asking: Asking) -> list[Route]:
    """Return the route of ``/graphql``.

    Raises:
        ConfigurationError: the extra ``graphql`` is not installed.
    """
    try:
        from adapter.web.people.graph import GraphRoutes  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("strawberry"):
            raise
        msg = "ADAPTER_GRAPHQL needs an extra: pip install 'trigger-adapter[graphql]'."
        raise ConfigurationError(msg) from error
    return GraphRoutes(asking).routes


def create_app(
    adapter: Adapter,
    *,
    owns_adapter: bool = True,
    authenticate: Authenticate | None = None,
    authorize: Authorize | None = None,
) -> Starlette:
    """Return the application: webhooks, health, the Trigger.dev-compatible API, cutover, jobs, figures, keys.

    With ``owns_adapter`` its lifespan opens and closes the adapter. A host that mounts the application
    opens the adapter itself and passes False: nobody runs the lifespan of a mounted application.
    ``authenticate`` says who a request without a key is from; ``authorize`` says what callers may do.
    """
    settings, clock = adapter.settings, adapter.clock
    keyring = Keyring(
        settings.api_keys,
        find=KnownKeys(lambda: adapter.database, clock).find,
        authenticate=authenticate,
        authorize=authorize or allowed_by_default,
        key_rate=RateLimit(settings.api_rate_per_minute, clock),
        token_rate=RateLimit(settings.api_token_rate_per_minute, clock),
        hosts=frozenset(filter(None, map(host_of, (settings.public_url or "", *settings.cors_origins)))),
    )
    asking = Asking(adapter, keyring)
    routes = [
        *health.routes(Readiness(adapter.probe, clock)),
        *WebhookRoutes(adapter).routes,
        *trigger_api.routes(adapter, keyring),
        *cutover.routes(adapter, keyring),
        *StreamRoutes(adapter, keyring).routes,
        *PassThroughRoutes(adapter, keyring).routes,
        *(
            route
            for group in (KeyRoutes, JobRoutes, StandingRoutes, WebhookAdminRoutes)
            for route in group(asking).routes
        ),
    ]
    if settings.graphql:
        routes += graphql_routes(asking)
    routes += OpenApiRoutes(routes, url=settings.public_url).routes
    outermost = Middleware(
        Outermost,
        clock=clock,
        max_body_bytes=max(MOST_PACKET_BYTES, settings.max_webhook_bytes),
        sharing=Sharing(settings.cors_origins),
    )
    passing = Middleware(PassingThrough, adapter=adapter, keyring=keyring, routes=routes)
    app = Starlette(
        routes=routes,
        middleware=[outermost, passing] if settings.upstream_url else [outermost],
        exception_handlers=HANDLERS,
        lifespan=adapter.lifespan(work=False) if owns_adapter else None,
    )
    # A redirect would turn a mistyped POST into a GET.
    app.router.redirect_slashes = False
    return app
