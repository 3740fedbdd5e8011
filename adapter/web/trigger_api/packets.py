"""Large payloads: presigned URLs that point at ourselves (Trigger.dev's API contract, 4.2).

The SDK stores what is 128 KiB or more before it triggers. The URL it is given carries its own proof,
an HMAC with a root key over method, name and expiry, so the transfer needs no other credentials.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.domain.packets import JSON, SUPERJSON, TEXT
from adapter.web.bodies import is_text
from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.web.trigger_api.context import ApiContext

MOST_PACKET_BYTES = 10 * 1024 * 1024
URL_LIFE = timedelta(minutes=5)

_LONGEST_NAME = 512
_STORE = "/api/v2/packet-store/"
_TYPES = frozenset({JSON, SUPERJSON, TEXT})
#: What was uploaded must never run as a page of ours.
INERT = {
    "content-disposition": "attachment",
    "content-security-policy": "sandbox; default-src 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class PacketRoutes:
    """Asking for a URL, and the transfer itself."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes; version 1 is what older clients and all readers ask."""
        methods = ["GET", "PUT"]
        return [
            Route("/api/v2/packets/{name:path}", self.presign, methods=methods),
            Route("/api/v1/packets/{name:path}", self.presign, methods=methods),
            Route(_STORE + "{name:path}", self.transfer, methods=methods),
        ]

    async def presign(self, request: Request) -> Response:
        """Answer a URL for one PUT or GET, good for `URL_LIFE`. Root keys only."""
        principal = await self._context.root(request)
        name = _name(request)
        method = "PUT" if request.method == "PUT" else "GET"
        path = _STORE + quote(name, safe="")
        url = presigned_url(self._context, request, principal.key, method=method, name=name, path=path)
        return JSONResponse({"presignedUrl": url, "storagePath": name})

    async def transfer(self, request: Request) -> Response:
        """Store or hand out a packet, for whoever holds the URL."""
        name = _name(request)
        method = "PUT" if request.method == "PUT" else "GET"
        check_signature(self._context, request, method, name)
        packets = self._context.adapter.packets
        if method == "PUT":
            given = request.headers.get("content-type", JSON)
            content_type = given.partition(";")[0].strip().lower()
            if content_type not in _TYPES:
                raise ApiError(415, f"A packet is one of {', '.join(sorted(_TYPES))}.")
            await packets.put(name, content_type, await self._context.read(request, MOST_PACKET_BYTES))
            return Response(status_code=200)
        found = await packets.get(name)
        if found is None:
            raise ApiError(404, "Not found")
        return Response(found[1], media_type=found[0], headers=INERT)


def presigned_url(
    context: ApiContext, request: Request, key: str, *, method: str, name: str, path: str
) -> str:
    """Return the URL of ``path`` with the proof that ``method`` is allowed on ``name``, good for `URL_LIFE`."""
    expires = int((context.adapter.clock.now() + URL_LIFE).timestamp())
    query = urlencode({"expires": expires, "signature": sign(key, method, name, expires)})
    base = context.adapter.settings.public_url or str(request.base_url)
    return f"{base.rstrip('/')}{path}?{query}"


def check_signature(context: ApiContext, request: Request, method: str, name: str) -> None:
    """Refuse what `presigned_url` did not allow.

    Raises:
        ApiError: 403.
    """
    expires, signature = request.query_params.get("expires", ""), request.query_params.get("signature", "")
    good = expires.isascii() and expires.isdecimal() and len(expires) <= 12
    signed = good and any(
        hmac.compare_digest(sign(key, method, name, int(expires)), signature.encode())
        for key in context.keyring.keys
    )
    if not signed or context.adapter.clock.now().timestamp() >= int(expires):
        raise ApiError(403, "This URL is not valid, or not any more.")


def sign(key: str, method: str, name: str, expires: int) -> bytes:
    """Return the proof in a URL, as hex."""
    text = f"packet\n{method}\n{expires}\n{name}"
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest().encode()


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    if not 0 < len(name) <= _LONGEST_NAME or not is_text(name) or not name.isprintable():
        raise ApiError(400, "Params Error", details=["name"])
    return name
