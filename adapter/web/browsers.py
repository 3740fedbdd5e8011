"""What browsers are told: headers on every answer, and which pages of other sites may call what.

The routes of the compatible API and ours for jobs may be called from any page: they take a key or a token in a
header, which no browser sends by itself, and answers with ``*`` are never given to a call with cookies.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Scope

#: On every answer that does not say otherwise.
STRICT = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cache-control": "no-store",
}
_SHARED = ("/api/v1/", "/api/v2/", "/api/v3/", "/realtime/", "/api/jobs")
_EXPOSED = "x-trigger-jwt, x-trigger-jwt-claims, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, retry-after"
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_DAY_S = "86400"
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+( *, *[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_LONGEST_NAMES = 2000


class Sharing:
    """Which origins may call from a browser: those that are named, or all when none is."""

    def __init__(self, origins: tuple[str, ...] = ()) -> None:
        self._everybody = not origins or "*" in origins
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    def preflight(self, scope: Scope) -> Response | None:
        """Return the answer to a browser that asks before it calls, None when it does not ask."""
        headers = Headers(scope=scope)
        if scope["method"] != "OPTIONS" or "access-control-request-method" not in headers:
            return None
        allowed = self._headers(scope, headers)
        if "access-control-allow-origin" not in allowed:
            return None
        # A star would not cover Authorization.
        wanted = headers.get("access-control-request-headers", "").strip()
        if wanted and len(wanted) <= _LONGEST_NAMES and _HEADER_NAMES.fullmatch(wanted):
            allowed["access-control-allow-headers"] = wanted
        allowed |= {
            "access-control-allow-methods": _METHODS,
            "access-control-max-age": _DAY_S,
            "vary": "Origin, Access-Control-Request-Headers",
        }
        return Response(status_code=204, headers=allowed)

    def dress(self, scope: Scope, answer: MutableHeaders) -> None:
        """Add what every answer says to ``answer``, where it does not say it already."""
        for name, value in STRICT.items():
            answer.setdefault(name, value)
        for name, value in self._headers(scope, Headers(scope=scope)).items():
            if name == "vary":
                answer.add_vary_header(value)
            else:
                answer.setdefault(name, value)

    def _headers(self, scope: Scope, headers: Headers) -> dict[str, str]:
        path = str(scope["path"]).removeprefix(str(scope.get("root_path", "")))
        origin = headers.get("origin")
        if origin is None or not path.startswith(_SHARED):
            return {}
        # Realtime clients read headers whose names change.
        exposed = "*" if path.startswith("/realtime/") else _EXPOSED
        if self._everybody:
            return {"access-control-allow-origin": "*", "access-control-expose-headers": exposed}
        if origin.lower() not in self._origins:
            return {"vary": "Origin"}
        return {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": exposed,
            "vary": "Origin",
        }
