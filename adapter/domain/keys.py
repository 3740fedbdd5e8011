"""Secret keys: what they look like, what they may be limited to, and what is kept of them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from adapter.domain.errors import InvalidArgumentError

#: The environments a key may name, as Trigger.dev's keys do, and the word of a personal access token.
ENVIRONMENTS = ("dev", "stg", "prod", "preview")
PERSONAL = "pat"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: Trigger.dev's SDK knows an additional key by exactly so many characters; 24 of 62 are 142 bits.
SECRET_LENGTH = 24

_SHOWN = 4
_LONGEST_NAME = 100
_MOST_SCOPES = 100
_LONGEST_SCOPE = 512
_SCOPE = re.compile(r"(admin|(read|write|trigger|batchTrigger|admin):[A-Za-z]+(:.+)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept: everything but the key.

    ``prefix``: its first characters, by which people know it. ``scopes``: what it may do, None for
    everything. ``user_id``: whose jobs it is for, None for all. ``revoked_at`` may lie ahead, while
    another key takes its place. ``last_used_at`` is a minute exact.
    """

    id: UUID
    name: str
    prefix: str
    scopes: tuple[str, ...] | None
    user_id: str | None
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A new key. ``secret`` is shown here and never again."""

    secret: str = field(repr=False)
    about: ApiKey


def beginning(environment: str) -> str:
    """Return what a key of an environment begins with.

    Raises:
        InvalidArgumentError: there is no such environment.
    """
    if environment == PERSONAL:
        return "tr_pat_"
    if environment not in ENVIRONMENTS:
        msg = (
            f"A key is for one of {', '.join(ENVIRONMENTS)}, or {PERSONAL} for a person; not {environment!r}."
        )
        raise InvalidArgumentError(msg)
    return f"tr_{environment}_sk_"


def environment_of(key: str) -> str | None:
    """Return the environment that a key, or the prefix of one, names; None when it names none."""
    parts = key.split("_")
    return parts[1] if len(parts) > 2 and parts[0] == "tr" and parts[1] in ENVIRONMENTS else None


def prefix_of(key: str, environment: str) -> str:
    """Return the part of a new key that may be shown."""
    return key[: len(beginning(environment)) + _SHOWN]


def digest(key: str) -> bytes:
    """Return what is kept of a key.

    A plain SHA-256: nobody can guess 142 random bits, so neither salt nor slowness would add anything,
    and a hash with a secret of its own would make keys depend on one more secret.
    """
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def checked_name(name: str) -> str:
    """Return the name without the spaces around it.

    Raises:
        InvalidArgumentError: it is empty, too long, or cannot be printed.
    """
    name = name.strip()
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        msg = f"A key needs a name of 1 to {_LONGEST_NAME} printable characters."
        raise InvalidArgumentError(msg)
    return name


def checked_scopes(scopes: list[str] | tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return the scopes, None for everything.

    Raises:
        InvalidArgumentError: one of them is none, or none is given at all.
    """
    if scopes is None:
        return None
    wrong = [each for each in scopes if len(each) > _LONGEST_SCOPE or not _SCOPE.fullmatch(each)]
    if wrong or not 0 < len(scopes) <= _MOST_SCOPES:
        msg = (
            f"These are no scopes: {', '.join(map(repr, wrong[:5])) or 'none was given, or too many'}. A scope is "
            "action:resource or action:resource:id, such as read:runs or trigger:tasks:echo; or admin."
        )
        raise InvalidArgumentError(msg)
    return tuple(dict.fromkeys(scopes))
