"""What a caller shows upstream: its own key or token, or what takes the place of one of ours. Never ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import jwt

from adapter.web.auth import AUDIENCE, MisplacedKeyError, environment_id, hmac_key
from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from datetime import datetime

    from starlette.requests import Request

    from adapter.core.pass_through import PassThrough
    from adapter.web.auth import Keyring, Principal

# Its types name classes of a package that is not needed for HS256.
_jwt: Any = jwt


async def known_caller(keyring: Keyring, request: Request, now: datetime) -> Principal | None:
    """Return who calls, None when the credentials are none of ours: upstream may know them."""
    try:
        return await keyring.authenticate(request, now)
    except ApiError as error:
        if error.status != 401 or isinstance(error, MisplacedKeyError):
            raise
        return None


async def upstream_credentials(passing: PassThrough, principal: Principal, shown: str) -> str | None:
    """Return the key or token that stands for a caller of ours there; None: it has none, and stays here.

    A public token is made anew with upstream's key: the same claims, so it can do no more there than here,
    and the same text each time, so a token for one use stays one.

    Raises:
        ExecutorError: upstream does not say what it calls the environment.
    """
    theirs = passing.key_for(principal.key)
    if theirs is None or principal.is_root:
        return theirs
    if principal.ends_at is None:
        # No token but a key with limits, or a session: nothing there is limited in the same way.
        return None
    claims: dict[str, Any] = _jwt.decode(shown, options={"verify_signature": False}, audience=AUDIENCE)
    if claims.get("sub") != environment_id(principal.key) and theirs == principal.key:
        # Both sides have this key, and the token is upstream's own.
        return shown
    return cast(
        "str",
        _jwt.encode(claims | {"sub": await passing.environment(theirs)}, hmac_key(theirs), algorithm="HS256"),
    )
