"""From upstream's answer to ours, chunk by chunk, for as long as somebody listens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Receive, Send

    from adapter.executors.upstream import Passed


async def pump(
    receive: Receive,
    send: Send,
    ask: Callable[[], Awaitable[Passed]],
    *,
    extra: tuple[bytes, bytes],
    watching: bool,
) -> None:
    """Ask, and send what comes back with one more header.

    A caller that goes away ends the request to upstream too, be it before the first byte (a long poll) or
    after. ``watching`` False: the request's body is still being read, and that finds out by itself.

    Raises:
        ExecutorError: there was no answer, or it broke off; then half of it may have left already.
    """
    if not watching:
        await _relay(send, ask, extra)
        return
    async with asyncio.TaskGroup() as group:
        relaying = group.create_task(_relay_quietly(send, ask, extra))
        listening = group.create_task(_gone(receive))
        await asyncio.wait({relaying, listening}, return_when=asyncio.FIRST_COMPLETED)
        relaying.cancel()
        listening.cancel()
    error = None if relaying.cancelled() else relaying.result()
    if error is not None:
        raise error


async def _relay_quietly(
    send: Send, ask: Callable[[], Awaitable[Passed]], extra: tuple[bytes, bytes]
) -> Exception | None:
    """Relay; an error is returned, so that the group does not wrap it."""
    try:
        await _relay(send, ask, extra)
    except Exception as error:  # noqa: BLE001 - raised by the caller
        return error
    return None


async def _relay(send: Send, ask: Callable[[], Awaitable[Passed]], extra: tuple[bytes, bytes]) -> None:
    passed = await ask()
    try:
        await send(
            {"type": "http.response.start", "status": passed.status, "headers": [*passed.headers, extra]}
        )
        async for chunk in passed.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        await passed.close()


async def _gone(receive: Receive) -> None:
    """Return when the caller has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
