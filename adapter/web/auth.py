"""Who calls: root keys, and the public tokens that are made with them (Trigger.dev's API contract, 12).

A public token is an HS256 JWT whose secret is a root key. Trigger.dev's SDK also makes such tokens by
itself, so issuer, audience and claims are upstream's.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import jwt

from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from pydantic import SecretStr
    from starlette.requests import Request

ISSUER = "https://id.trigger.dev"
AUDIENCE = "https://api.trigger.dev"
#: What the SDK gives a run's token.
TOKEN_LIFE = timedelta(hours=1)

# Its types name classes of a package that is not needed for HS256.
_jwt: Any = jwt
_LONGEST_TOKEN = 8192
_MISSING_KEY = "Invalid or Missing API key"
_BAD_KEY = "Invalid API key"
_BAD_TOKEN = "Public Access Token is invalid"  # noqa: S105 - what upstream answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller whose credentials are good.

    ``id`` names the root key behind the call without revealing it. ``scopes`` None means everything.
    ``once`` is set for a single-use token: the same for every use of that token.
    """

    id: str
    key: str = field(repr=False)
    scopes: tuple[str, ...] | None = None
    once: str | None = None

    @property
    def is_root(self) -> bool:
        """Whether a root key itself was shown."""
        return self.scopes is None

    @property
    def actor(self) -> str:
        """Who did it, for histories and audits."""
        return f"api-key:{self.id}" if self.is_root else f"public-token:{self.id}"

    def can(self, action: str, *resources: tuple[str, str | None]) -> bool:
        """Whether any of ``resources``, each (kind, id or None for all of the kind), may be acted on.

        A scope is ``action:kind`` for all of a kind, ``action:kind:id`` for one.
        """
        if self.scopes is None:
            return True
        held = set(self.scopes)
        if held & {"admin", f"{action}:all"}:
            return True
        return any(
            f"{action}:{kind}" in held or (name is not None and f"{action}:{kind}:{name}" in held)
            for kind, name in resources
        )

    def require(self, action: str, *resources: tuple[str, str | None]) -> None:
        """Refuse with upstream's 403 unless `can`."""
        if not self.can(action, *resources):
            raise forbidden()


def forbidden() -> ApiError:
    """Return upstream's answer to a token without the scope."""
    return ApiError(403, "Unauthorized", code="unauthorized", param="access_token", type="authorization")


class Keyring:
    """The root keys of this adapter."""

    def __init__(self, keys: Iterable[SecretStr]) -> None:
        self._keys = tuple(value for key in keys if (value := key.get_secret_value()))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys, the first being the one that signs what no caller's key signs."""
        return self._keys

    async def authenticate(self, request: Request, now: datetime) -> Principal:
        """Return the caller.

        Raises:
            ApiError: 401, in upstream's words.
        """
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        credentials = credentials.strip()
        if scheme.lower() != "bearer" or not credentials:
            raise ApiError(401, _MISSING_KEY)
        if len(credentials) > _LONGEST_TOKEN:
            raise ApiError(401, _BAD_KEY)
        shown = credentials.encode("utf-8", "replace")
        # Every key is compared, so the time does not tell which one fits.
        matches = [key for key in self._keys if hmac.compare_digest(key.encode(), shown)]
        if matches:
            return Principal(id=key_id(matches[0]), key=matches[0])
        if credentials.count(".") == 2:
            return read_public_token(credentials, self._keys, now)
        raise ApiError(401, _BAD_KEY)

    async def require_root(self, request: Request, now: datetime) -> Principal:
        """Return the caller, who must have shown a root key.

        Raises:
            ApiError: 401 or 403.
        """
        principal = await self.authenticate(request, now)
        if not principal.is_root:
            raise forbidden()
        return principal


def key_id(key: str) -> str:
    """Return a short name of a key that cannot be turned back into it."""
    return hmac.new(key.encode(), b"trigger-adapter key id", hashlib.sha256).hexdigest()[:12]


def environment_id(key: str) -> str:
    """Return what tokens call the environment that a key opens."""
    return f"env_{key_id(key)}"


def make_public_token(key: str, scopes: Sequence[str], expires_in: timedelta, *, now: datetime) -> str:
    """Return a token limited to ``scopes``, signed with the root key ``key``."""
    claims: dict[str, Any] = {
        "sub": environment_id(key),
        "pub": True,
        "scopes": list(scopes),
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": int(now.timestamp()),
        "exp": int((now + expires_in).timestamp()),
    }
    return _jwt.encode(claims, hmac_key(key), algorithm="HS256")


def read_public_token(token: str, keys: Sequence[str], now: datetime) -> Principal:
    """Return the caller a token stands for; ``exp`` and ``nbf`` are held against ``now``.

    Raises:
        ApiError: 401, in upstream's words.
    """
    for key in keys:
        try:
            claims: dict[str, Any] = _jwt.decode(
                token,
                hmac_key(key),
                algorithms=["HS256"],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={
                    "require": ["exp", "iss", "aud"],
                    # The library would ask the machine's clock.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            continue
        return _principal(token, key, claims, now)
    raise ApiError(401, _BAD_TOKEN)


def _principal(token: str, key: str, claims: dict[str, Any], now: datetime) -> Principal:
    scopes: Any = claims.get("scopes", [])
    expires, begins = claims.get("exp"), claims.get("nbf", 0)
    sound = (
        claims.get("pub") is True
        and isinstance(scopes, list)
        and isinstance(expires, int | float)
        and isinstance(begins, int | float)
        and begins <= now.timestamp() < expires
    )
    if not sound:
        raise ApiError(401, _BAD_TOKEN)
    once = hashlib.sha256(token.encode()).hexdigest() if claims.get("otu") is True else None
    return Principal(
        id=key_id(key),
        key=key,
        scopes=tuple(each for each in cast("list[Any]", scopes) if isinstance(each, str)),
        once=once,
    )


def hmac_key(key: str) -> bytes:
    """Return the key that signs tokens."""
    # HMAC itself pads a short key with zeros, so this is the same key; PyJWT warns of short ones, and
    # Trigger.dev's keys are 31 characters long.
    return key.encode().ljust(32, b"\0")
