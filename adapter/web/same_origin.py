"""The rule against forged requests, for callers that a browser's cookie stands for.

A key in a header is never sent by a browser on its own, a cookie is. So what changes something has to
come from a page of this origin: the browser says so in ``Sec-Fetch-Site``, or at least in ``Origin``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Container

    from starlette.requests import Request

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def require_same_origin(request: Request, also: Container[str] = ()) -> None:
    """Refuse what another site's page may have sent. ``also``: hosts under which others reach us.

    Raises:
        ApiError: 403.
    """
    if request.method in _SAFE:
        return
    origin = host_of(request.headers.get("origin", ""))
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        good = site in {"same-origin", "none"} or (origin is not None and origin in also)
    else:
        good = origin is not None and (origin == request.headers.get("host", "").lower() or origin in also)
    if not good:
        raise ApiError(
            403,
            "This request comes from another site, or does not say where from. Send Origin.",
            code="cross_site",
        )


def host_of(url: str) -> str | None:
    """Return host and port of a URL, None when it has none or cannot be read."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower() or None
    except ValueError:
        return None
