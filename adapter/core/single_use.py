"""Tokens that are good for one call."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime

from adapter.domain.errors import RequestError, TokenSpentError
from adapter.store import spent_tokens
from adapter.store.database import Database


@asynccontextmanager
async def spending(
    database: Database, token: bytes, call: str, expires_at: datetime, *, for_what: str
) -> AsyncGenerator[None]:
    """Use a token up for the block. The same ``call`` may come again, as retries do; no other may.

    It is used up before the block begins: a process that dies in between has used it. A block that was
    refused has done nothing, so the token is good again; of a repeat that is not known.

    Raises:
        TokenSpentError: another call has used it.
    """
    async with database.connection() as conn:
        use = await spent_tokens.spend(conn, database.schema, token, call, expires_at)
    if use is None:
        raise TokenSpentError(for_what)
    try:
        yield
    except RequestError:
        if use == "repeat":
            # The first of them may have done something.
            raise
        async with database.connection() as conn:
            await spent_tokens.give_back(conn, database.schema, token, call)
        raise
    if use == "repeat":
        # The first of them may have been refused meanwhile, and have given back what this one has used.
        async with database.connection() as conn:
            await spent_tokens.spend(conn, database.schema, token, call, expires_at)
