"""The outermost layer: one log line per request, the headers of every answer, the last answer to what nobody caught."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect

from adapter.web.errors import ApiError, answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from adapter.domain.clock import Clock
    from adapter.web.browsers import Sharing

_log = logging.getLogger("adapter.web")
_QUIET = frozenset({"/livez", "/readyz"})
_LONGEST_PATH = 300
_EXTRA = "adapter.headers"
#: Whoever has the URL of a wait token needs no other proof.
_SECRET_PART = re.compile(r"(/waitpoints/tokens/[^/]+/callback/).+")


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers that the answer to this request will have beside its own; add to them."""
    found: dict[str, str] = scope.setdefault(_EXTRA, {})
    return found


class Outermost:
    """Wraps the application, and gives every answer the headers that all have.

    The log carries method, path without what is secret in it, status and time: no query (it may hold a signature), no headers, no
    bodies. A declared length above ``max_body_bytes`` is refused for every route; each route counts the
    bytes it reads against its own limit.
    """

    def __init__(self, app: ASGIApp, *, clock: Clock, max_body_bytes: int, sharing: Sharing) -> None:
        self._app = app
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._sharing = sharing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._clock.monotonic()
        status = 0
        extra: dict[str, str] = {}
        scope[_EXTRA] = extra

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(extra)
                self._sharing.dress(scope, headers)
            await send(message)

        try:
            if self._declared(scope) > self._max_body_bytes:
                raise ApiError(413, "Request body too large")  # noqa: TRY301 - answered like any other
            app = self._sharing.preflight(scope) or self._app
            await app(scope, receive, noting)
        except ClientDisconnect:
            status = status or 499
        except Exception as error:
            if status:
                # Half an answer has left; only the server can cut the connection.
                raise
            await answer(error)(scope, receive, noting)
        finally:
            self._log(scope, status, self._clock.monotonic() - began)

    @staticmethod
    def _declared(scope: Scope) -> int:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                return int(value[:19])
        return 0

    @staticmethod
    def _log(scope: Scope, status: int, seconds: float) -> None:
        path = _SECRET_PART.sub(r"\1***", quote(scope["path"], errors="replace"))[:_LONGEST_PATH]
        # Who follows a run asks three times a minute, for hours.
        is_quiet = scope["path"] in _QUIET or (scope["path"].startswith("/realtime/") and 0 < status < 400)
        level = logging.DEBUG if is_quiet else logging.INFO
        _log.log(
            level,
            "%s %s %d",
            scope["method"],
            path,
            status,
            extra={
                "method": scope["method"],
                "path": path,
                "status": status,
                "duration_ms": round(seconds * 1000, 1),
            },
        )
