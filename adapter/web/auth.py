"""Who calls: keys, and the public tokens that are made with them (Trigger.dev's API contract, 12).

A public token is an HS256 JWT whose secret is a root key. Trigger.dev's SDK also makes such tokens by
itself, so issuer, audience and claims are upstream's.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import jwt
from starlette.requests import Request

from adapter.domain.errors import ConfigurationError
from adapter.domain.keys import PERSONAL, ApiKey, beginning, environment_of
from adapter.web.authorization import SYSTEM_USER, Authorize, Resource, allowed_by_default
from adapter.web.errors import ApiError
from adapter.web.middleware import headers_of
from adapter.web.same_origin import require_same_origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from pydantic import SecretStr

    from adapter.web.rates import RateLimit

#: How changes made over HTTP are told from others in an audit.
SOURCE = "http"
ISSUER = "https://id.trigger.dev"
AUDIENCE = "https://api.trigger.dev"
#: What the SDK gives a run's token.
TOKEN_LIFE = timedelta(hours=1)

# Its types name classes of a package that is not needed for HS256.
_jwt: Any = jwt
_LONGEST_TOKEN = 8192
_KEPT = re.compile(r"tr_[a-z]+_(sk_)?[0-9A-Za-z]{24}")
_CALLER = "adapter.caller"
#: Where personal access tokens are good.
_PROJECTS = "/api/v1/projects/"
#: What upstream does not count (its API contract, 16).
_FREE = ("/api/v1/auth/jwt/claims", "/api/v1/packets/", "/api/v2/packets/")
_MISSING_KEY = "Invalid or Missing API key"
_BAD_KEY = "Invalid API key"
_BAD_TOKEN = "Public Access Token is invalid"  # noqa: S105 - what upstream answers

#: Looks a kept key up by what was shown.
FindKey = Callable[[str], Awaitable[ApiKey | None]]
#: Says who a request without a key is from, by a session of the application; None: nobody it knows.
Authenticate = Callable[[Request], Awaitable["Principal | None"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller whose credentials are good.

    ``id`` names what was shown without revealing it; limits are counted by it. ``scopes`` None means
    everything. ``user_id``: whom the caller acts for; None is nobody in particular, ``0`` the system user.
    ``name`` is what audits call them. ``key``: the root key that signs tokens for this caller, empty where
    there is none. ``once`` is set for a single-use token: the same for every use of that token, which ends
    at ``ends_at`` (unix seconds). ``skip_columns``: what a token leaves out of realtime rows.
    """

    id: str
    key: str = field(default="", repr=False)
    scopes: tuple[str, ...] | None = None
    user_id: str | None = None
    name: str = ""
    once: str | None = None
    ends_at: float | None = None
    skip_columns: tuple[str, ...] = ()
    rule: Authorize = field(default=allowed_by_default, repr=False, compare=False)

    @property
    def is_bound(self) -> bool:
        """Whether the caller acts for one user, and so for nobody else."""
        return self.user_id not in {None, SYSTEM_USER}

    @property
    def is_root(self) -> bool:
        """Whether the caller may do everything, as the holder of a root key may."""
        return self.scopes is None and not self.is_bound

    @property
    def actor(self) -> str:
        """Who did it, for histories and audits."""
        return self.name or (f"user:{self.user_id}" if self.user_id is not None else f"api-key:{self.id}")

    @property
    def own(self) -> tuple[Resource, ...]:
        """The resource that stands for what this caller's user owns; what they make is theirs."""
        return (("users", self.user_id),) if self.is_bound else ()

    def can(self, action: str, *resources: Resource) -> bool:
        """Whether it may be done, when any of ``resources`` allows it; the rule is the application's."""
        return self.rule(self, action, resources)

    def require(self, action: str, *resources: Resource) -> None:
        """Refuse unless `can`: with upstream's 403, or 404 where a user is not to learn what there is."""
        if not self.can(action, *resources):
            raise ApiError(404, "Not found") if self.is_bound else forbidden()


class MisplacedKeyError(ApiError):
    """A key of ours that is not good here; nobody else is to be asked about it."""


def forbidden() -> ApiError:
    """Return upstream's answer to a token without the scope."""
    return ApiError(403, "Unauthorized", code="unauthorized", param="access_token", type="authorization")


class Keyring:
    """Who calls: root keys of the environment, kept keys, public tokens, and whom the application knows.

    Without a root key nobody gets in by a key or a token: it is what signs tokens, and the switch that
    turns the API on.
    """

    def __init__(
        self,
        keys: Iterable[SecretStr],
        *,
        find: FindKey | None = None,
        authenticate: Authenticate | None = None,
        authorize: Authorize = allowed_by_default,
        key_rate: RateLimit | None = None,
        token_rate: RateLimit | None = None,
        hosts: frozenset[str] = frozenset(),
    ) -> None:
        self._keys = tuple(value for key in keys if (value := key.get_secret_value()))
        self._find = find
        self._authenticate = authenticate
        self._rule = authorize
        self._key_rate = key_rate
        self._token_rate = token_rate
        self._hosts = hosts

    @property
    def keys(self) -> tuple[str, ...]:
        """The root keys, the first being the one that signs what no caller's key signs."""
        return self._keys

    async def authenticate(self, request: Request, now: datetime) -> Principal:
        """Return the caller.

        Raises:
            ApiError: 401 in upstream's words; 403 for what another site's page may have sent in a user's
                name; 429 when the caller has called too often.
        """
        # A request is authenticated, and counted, once, whoever asks again on its way.
        known: Principal | None = request.scope.get(_CALLER)
        if known is not None:
            return known
        principal = replace(await self._caller(request, now), rule=self._rule)
        rate = self._token_rate if principal.ends_at is not None else self._key_rate
        if rate is not None and not _is_free(request):
            headers_of(request.scope).update(rate.take(principal.id))
        request.scope[_CALLER] = principal
        return principal

    async def require_root(self, request: Request, now: datetime) -> Principal:
        """Return the caller, who must be allowed everything.

        Raises:
            ApiError: as `authenticate`; 403 or 404 for others.
        """
        principal = await self.authenticate(request, now)
        if not principal.is_root:
            raise forbidden()
        return principal

    async def is_still_good(self, request: Request, now: datetime) -> bool:
        """Whether who sent this request, which was authenticated once, would still be known; it is not counted."""
        try:
            await self._caller(request, now)
        except ApiError:
            return False
        return True

    async def _caller(self, request: Request, now: datetime) -> Principal:
        shown = request.headers.get("authorization")
        if shown is None and self._authenticate is not None:
            known = await self._authenticate(request)
            if known is None:
                raise ApiError(401, _MISSING_KEY)
            require_same_origin(request, self._hosts)
            return replace(known, key=self._signing(None))
        scheme, _, credentials = (shown or "").partition(" ")
        credentials = credentials.strip()
        if scheme.lower() != "bearer" or not credentials:
            raise ApiError(401, _MISSING_KEY)
        if len(credentials) > _LONGEST_TOKEN or not self._keys:
            raise ApiError(401, _BAD_KEY)
        given = credentials.encode("utf-8", "replace")
        # Every key is compared, so the time does not tell which one fits.
        matches = [key for key in self._keys if hmac.compare_digest(key.encode(), given)]
        if matches:
            return Principal(id=key_id(matches[0]), key=matches[0])
        if credentials.count(".") == 2:
            return read_public_token(credentials, self._keys, now)
        return await self._kept(credentials, request)

    async def _kept(self, credentials: str, request: Request) -> Principal:
        known = None
        # What cannot be one of ours is not asked of the database.
        if self._find is not None and _KEPT.fullmatch(credentials):
            known = await self._find(credentials)
        personal = credentials.startswith(beginning(PERSONAL))
        if known is None:
            raise ApiError(401, _BAD_KEY)
        if personal and not _path(request).startswith(_PROJECTS):
            raise MisplacedKeyError(401, _BAD_KEY)
        return Principal(
            id=str(known.id),
            key=self._signing(environment_of(known.prefix)),
            scopes=known.scopes,
            user_id=known.user_id,
            name=f"api-key:{known.name} ({known.prefix})",
        )

    def _signing(self, environment: str | None) -> str:
        """Return the root key of an environment, or else the first."""
        same = [key for key in self._keys if environment and environment_of(key) == environment]
        return next(iter(same or self._keys), "")


def _path(request: Request) -> str:
    scope = request.scope
    return str(scope["path"]).removeprefix(str(scope.get("root_path", "")))


def _is_free(request: Request) -> bool:
    return _path(request).startswith(_FREE)


def key_id(key: str) -> str:
    """Return a short name of a key that cannot be turned back into it."""
    return hmac.new(key.encode(), b"trigger-adapter key id", hashlib.sha256).hexdigest()[:12]


def environment_id(key: str) -> str:
    """Return what tokens call the environment that a key opens."""
    return f"env_{key_id(key)}"


def make_public_token(
    key: str,
    scopes: Sequence[str],
    expires_in: timedelta,
    *,
    now: datetime,
    more: Mapping[str, Any] | None = None,
) -> str:
    """Return a token limited to ``scopes``, signed with the root key ``key``; ``more`` claims beside these.

    Raises:
        ConfigurationError: there is no root key.
    """
    if not key:
        msg = "Public tokens are signed with a root key: set ADAPTER_API_KEYS."
        raise ConfigurationError(msg)
    claims: dict[str, Any] = dict(more or {}) | {
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
        id=hashlib.sha256(token.encode()).hexdigest()[:12],
        key=key,
        scopes=_texts(scopes),
        name=f"public-token:{key_id(key)}",
        once=once,
        ends_at=float(cast("float", expires)),
        skip_columns=_skipped(claims.get("realtime")),
    )


def _skipped(realtime: Any) -> tuple[str, ...]:
    columns: Any = cast("dict[str, Any]", realtime).get("skipColumns") if isinstance(realtime, dict) else None
    return _texts(columns) if isinstance(columns, list) else ()


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(each for each in cast("list[Any]", values) if isinstance(each, str))


def hmac_key(key: str) -> bytes:
    """Return the key that signs tokens."""
    # HMAC itself pads a short key with zeros, so this is the same key; PyJWT warns of short ones, and
    # Trigger.dev's keys are 31 characters long.
    return key.encode().ljust(32, b"\0")
