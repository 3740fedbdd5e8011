"""The verbs by which an application makes wait tokens, completes them and looks at them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.option_checks import check_key, check_moment
from adapter.domain.errors import InvalidArgumentError, TokenNotFoundError
from adapter.domain.identity import public_id
from adapter.domain.json import problems
from adapter.domain.task import LONGEST_TAG, MOST_TAGS
from adapter.domain.wait_token import WAITPOINT, TokenFilter, TokenPage, WaitToken, token_id_of
from adapter.store import wait_tokens
from adapter.store.database import Database
from adapter.store.wakeup import FINISHED, Notifier

#: 256 bits: nobody finds a callback URL by trying.
_SECRET_BYTES = 32


class KeepsTokens:
    """Mixed into the adapter: tokens that handlers wait for, and anybody completes once."""

    database: Database
    notifier: Notifier

    async def create_token(
        self,
        *,
        timeout: timedelta | datetime | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: timedelta | None = None,
        tags: Sequence[str] = (),
    ) -> WaitToken:
        """Make a token for ``ctx.wait_for_token``, or find the one of that key (``is_cached``), however it ended.

        Options:
            timeout: how long, or until when, it waits; without one it waits for ever.
            idempotency_ttl: how long the key stands for this token; without one, as long as the token is kept.
            tags: up to 10 labels of up to 128 characters, for `list_tokens`.

        Raises:
            InvalidArgumentError: an option is out of range.
        """
        _check(timeout, idempotency_key, idempotency_ttl, tags)
        values = {
            "id": UUID(str(uuid7())),
            "timeout_at": timeout if isinstance(timeout, datetime) else None,
            "timeout": timeout if isinstance(timeout, timedelta) else None,
            "key": idempotency_key,
            "key_ttl": idempotency_ttl,
            "tags": list(dict.fromkeys(tags)),
            "secret": secrets.token_hex(_SECRET_BYTES),
        }
        async with self.database.transaction() as conn:
            return await wait_tokens.make(conn, self.database.schema, values)

    async def complete_token(
        self, token: WaitToken | UUID | str, output: Any = None, *, actor: str = "application"
    ) -> bool:
        """Complete a token, with any JSON that PostgreSQL can keep; whoever waits for it goes on.

        The first one counts: False when it has been completed or timed out before, and nothing was changed.

        Raises:
            InvalidArgumentError: PostgreSQL cannot keep the output.
            TokenNotFoundError: there is none of that id.
        """
        token_id = token_id_of(token)
        if found := next(problems(output, "output"), None):
            raise InvalidArgumentError(f"The token cannot be completed: {found}.")
        async with self.database.connection() as conn:
            completed = await wait_tokens.complete(conn, self.database.schema, token_id, output, actor)
            if not completed and await wait_tokens.get(conn, self.database.schema, token_id) is None:
                raise TokenNotFoundError(public_id(WAITPOINT, token_id))
        if completed:
            self.notifier.poke(FINISHED)
        return completed

    async def get_token(self, token: WaitToken | UUID | str) -> WaitToken | None:
        """Return a token as it is now, or None."""
        try:
            token_id = token_id_of(token)
        except TokenNotFoundError:
            return None
        async with self.database.connection() as conn:
            return await wait_tokens.get(conn, self.database.schema, token_id)

    async def list_tokens(self, wanted: TokenFilter | None = None) -> TokenPage:
        """Return a page of tokens, the newest first.

        Raises:
            InvalidArgumentError: a cursor is none of ours.
        """
        async with self.database.connection() as conn:
            return await wait_tokens.listed(conn, self.database.schema, wanted or TokenFilter())


def _check(
    timeout: timedelta | datetime | None, key: str | None, key_ttl: timedelta | None, tags: Sequence[str]
) -> None:
    if isinstance(timeout, datetime):
        check_moment("timeout", timeout)
    if any(
        each is not None and each < timedelta(0)
        for each in (key_ttl, timeout)
        if not isinstance(each, datetime)
    ):
        msg = "timeout= and idempotency_ttl= must not be negative."
        raise InvalidArgumentError(msg)
    check_key("idempotency_key", key)
    if isinstance(tags, str) or len(tags) > MOST_TAGS or not all(0 < len(tag) <= LONGEST_TAG for tag in tags):
        msg = f"tags= is a list of up to {MOST_TAGS} labels, each of 1 to {LONGEST_TAG} characters."
        raise InvalidArgumentError(msg)
