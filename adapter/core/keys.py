"""Keys of the HTTP API: the verbs that make and end them, and who a shown key belongs to."""

from __future__ import annotations

import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.domain.clock import Clock
from adapter.domain.errors import InvalidArgumentError, KeyNotFoundError
from adapter.domain.keys import (
    ALPHABET,
    PERSONAL,
    SECRET_LENGTH,
    ApiKey,
    MadeKey,
    beginning,
    checked_name,
    checked_scopes,
    digest,
    environment_of,
    prefix_of,
)
from adapter.store import api_keys as store
from adapter.store.database import Database

logger = logging.getLogger("adapter.keys")

#: How long a process believes what it was told of a key: a revocation holds everywhere after that.
FRESH_S = 1.0
_MOST_KNOWN = 4096
_NOT_AT_ALL = timedelta()


class KeepsKeys:
    """Mixed into the adapter: additional keys of its HTTP API, beside the root keys of the environment."""

    database: Database

    async def create_key(
        self,
        name: str,
        *,
        environment: str = "prod",
        scopes: list[str] | tuple[str, ...] | None = None,
        user_id: str | None = None,
        actor: str = "application",
    ) -> MadeKey:
        """Make a key; only its hash is kept, so this is the one time that it is shown.

        ``environment``: dev, stg, prod or preview; pat makes a personal access token. ``scopes``: what it
        may do (``read:runs``, ``trigger:tasks:echo``, …), None for everything. ``user_id``: it sees and
        steers only jobs of this user; 0, the system user, sees all.

        Raises:
            InvalidArgumentError: the name, the environment or a scope cannot be.
        """
        named, limits = checked_name(name), checked_scopes(scopes)
        if user_id is not None:
            checked_name(user_id)
        key, prefix = _new(environment)
        async with self.database.connection() as conn:
            about = await store.insert(
                conn,
                self.database.schema,
                key_id=UUID(str(uuid7())),
                prefix=prefix,
                digest=digest(key),
                scopes=limits,
                name=named,
                user_id=user_id,
            )
        _tell("made", about, actor)
        return MadeKey(key, about)

    async def list_keys(self, *, revoked: bool = False) -> list[ApiKey]:
        """Return the keys, the oldest first; ``revoked``: also those that are not good any more."""
        async with self.database.connection() as conn:
            return await store.entries(conn, self.database.schema, revoked=revoked)

    async def revoke_key(
        self, key_id: UUID, *, after: timedelta = _NOT_AT_ALL, actor: str = "application"
    ) -> ApiKey:
        """End a key, now or ``after`` a time; it holds in every process within a second.

        A key ends once: what ends it later than it would anyway changes nothing.

        Raises:
            KeyNotFoundError: there is no such key.
            InvalidArgumentError: the time is negative.
        """
        async with self.database.connection() as conn:
            about = await store.revoke(conn, self.database.schema, key_id, _ahead(after))
        if about is None:
            raise KeyNotFoundError(key_id)
        _tell("revoked", about, actor)
        return about

    async def rotate_key(
        self, key_id: UUID, *, overlap: timedelta = _NOT_AT_ALL, actor: str = "application"
    ) -> MadeKey:
        """Make a key with the name and rights of another, which ends once ``overlap`` is over.

        Raises:
            KeyNotFoundError: there is no such key, or it has been revoked.
            InvalidArgumentError: the time is negative.
        """
        async with self.database.transaction() as conn:
            old = await store.get(conn, self.database.schema, key_id)
            if old is None:
                raise KeyNotFoundError(key_id)
            key, prefix = _new(environment_of(old.prefix) or PERSONAL)
            about = await store.rotate(
                conn,
                self.database.schema,
                key_id,
                key_id=UUID(str(uuid7())),
                prefix=prefix,
                digest=digest(key),
                overlap=_ahead(overlap),
            )
        if about is None:
            raise KeyNotFoundError(key_id)
        _tell("rotated", about, actor)
        return MadeKey(key, about)


class KnownKeys:
    """Whose a shown key is, at most `FRESH_S` old; also for keys that are nobody's."""

    def __init__(self, database: Callable[[], Database], clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known = OrderedDict[bytes, tuple[float, ApiKey | None]]()

    async def find(self, key: str) -> ApiKey | None:
        """Return what is kept of a key, None when it is not good.

        The database compares hashes of what was shown: how long that takes tells nothing of any key.
        """
        wanted = digest(key)
        now = self._clock.monotonic()
        known = self._known.get(wanted)
        if known is not None and now - known[0] < FRESH_S:
            return known[1]
        database = self._database()
        async with database.connection() as conn:
            found = await store.use(conn, database.schema, wanted)
        self._known[wanted] = (now, found)
        self._known.move_to_end(wanted)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return found


def _new(environment: str) -> tuple[str, str]:
    key = beginning(environment) + "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    return key, prefix_of(key, environment)


def _ahead(time: timedelta) -> timedelta:
    if time < _NOT_AT_ALL:
        msg = "A key cannot end in the past."
        raise InvalidArgumentError(msg)
    return time


def _tell(what: str, about: ApiKey, actor: str) -> None:
    logger.info("%s key %s", what, about.prefix, extra={"key_id": str(about.id), "actor": actor})
