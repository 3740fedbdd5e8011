"""Wait tokens: what a handler waits for until somebody outside completes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from adapter.domain.errors import TokenNotFoundError
from adapter.domain.identity import own_id

#: What ids of tokens begin with where we speak Trigger.dev's language.
WAITPOINT = "waitpoint_"


class TokenStatus(StrEnum):
    """Where a token stands. Nothing leaves the last two."""

    #: Nobody has completed it yet.
    WAITING = "WAITING"
    #: Somebody has, with an output.
    COMPLETED = "COMPLETED"
    #: Its time was over before.
    TIMED_OUT = "TIMED_OUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitToken:
    """A token as it was when looked at. ``output`` is what it was completed with, any JSON.

    ``timeout_at`` None: it waits for ever. ``ended_by``: who completed it. ``callback_secret`` completes it by
    itself, so it is shown to nobody who may not. ``is_cached``: the call found it by its ``idempotency_key``.
    """

    id: UUID
    status: TokenStatus
    created_at: datetime
    timeout_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None
    idempotency_key: str | None
    idempotency_expires_at: datetime | None
    tags: tuple[str, ...]
    callback_secret: str = field(repr=False)
    output: Any = field(repr=False)
    is_cached: bool = False


def token_id_of(token: WaitToken | UUID | str) -> UUID:
    """Return the id of a token, which may be given as it is shown: ``waitpoint_…``.

    Raises:
        TokenNotFoundError: it is none of ours.
    """
    if isinstance(token, WaitToken):
        return token.id
    found = own_id(WAITPOINT, token) if isinstance(token, str) else token
    if found is None:
        raise TokenNotFoundError(token)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFilter:
    """Which tokens a list has, and which page. Of ``tags`` any one is enough; ``before`` wins over ``after``."""

    statuses: tuple[TokenStatus, ...] = ()
    idempotency_key: str | None = None
    tags: tuple[str, ...] = ()
    created_from: datetime | None = None
    created_to: datetime | None = None
    limit: int = 25
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class TokenPage:
    """Tokens, the newest first, and the cursors of the pages beside, None where there is none."""

    tokens: tuple[WaitToken, ...]
    next: str | None
    previous: str | None
