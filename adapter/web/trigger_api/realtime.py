"""Subscriptions to runs: ``/realtime/v1/…``, the Electric shape protocol (Trigger.dev's API contract, 14).

The client asks for a snapshot and then, again and again, for what has changed. Such a request is held until
something has: the client itself never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.core.watching.feed import Feed, Interest
from adapter.domain.durations import parse_duration
from adapter.domain.errors import InvalidArgumentError
from adapter.domain.identity import job_id_of, own_id
from adapter.web.errors import ApiError, bad_query
from adapter.web.trigger_api.access import resources_of
from adapter.web.trigger_api.shapes import (
    FROM_THE_START,
    MUST_REFETCH,
    UP_TO_DATE,
    Ask,
    change,
    handle_of,
    read_ask,
    since_of,
)
from adapter.web.trigger_api.wire import BATCH

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.core.watching.hub import Hub
    from adapter.web.trigger_api.context import ApiContext

#: How long a request is held at most while nothing happens, in seconds; and at least, as a share of that: those who
#: came together are not to come back together.
HOLD_S, _SHARE = 20.0, 0.75
#: How far back a feed of tags begins, unless the client says.
_DEFAULT_WINDOW = timedelta(hours=24)
_LONGEST_WINDOW = timedelta(days=366)
#: Feeds begin at whole minutes, so that those who ask for the same share one.
_STEP_S = 60
_MOST_TAGS = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RealtimeRoutes:
    """Feeds of a run, of tags and of a batch."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/realtime/v1/runs", self.tags),
            Route("/realtime/v1/runs/{run}", self.run),
            Route("/realtime/v1/batches/{batch}", self.batch),
        ]

    async def run(self, request: Request) -> Response:
        """Feed one run."""
        principal = await self._context.caller(request)
        run_id: str = request.path_params["run"]
        ask = read_ask(request.query_params, principal.skip_columns)
        job_id = job_id_of(run_id)
        if job_id is None:
            principal.require("read", ("runs", run_id))
            raise ApiError(404, "Not found")
        async with self._hub.watch(Interest(job_id=job_id)) as feed:
            if not principal.can("read", ("runs", run_id)):
                _, jobs = await self._hub.read(feed, feed.ids)
                principal.require("read", ("runs", run_id), *resources_of(jobs.get(job_id)))
            if not feed.ids:
                raise ApiError(404, "Not found")
            return await self._answer(feed, ask, handle_of(run_id, ask))

    async def tags(self, request: Request) -> Response:
        """Feed the runs that carry all of some tags, those to come as well."""
        principal = await self._context.caller(request)
        params = request.query_params
        tags = frozenset(tag for tag in params.get("tags", "").split(",") if tag)
        ask = read_ask(params, principal.skip_columns)
        if not tags or len(tags) > _MOST_TAGS or any("\x00" in tag for tag in tags):
            raise bad_query(f"tags: 1 to {_MOST_TAGS} of them are needed")
        # Every run it shows carries each of them, so one that may be read is enough.
        principal.require("read", ("runs", None), *(("tags", tag) for tag in tags))
        window = _window(params.get("createdAt"))
        since = since_of(ask.handle) if ask.offset != FROM_THE_START else None
        if since is None:
            begin = self._context.adapter.clock.now() - window
            since = int(begin.timestamp()) // _STEP_S * _STEP_S
        handle = handle_of(f"tags {sorted(tags)} {window}", ask, since)
        interest = Interest(tags=tags, created_from=_EPOCH + timedelta(seconds=since))
        async with self._hub.watch(interest) as feed:
            return await self._answer(feed, ask, handle)

    async def batch(self, request: Request) -> Response:
        """Feed the runs of a batch."""
        principal = await self._context.caller(request)
        name: str = request.path_params["batch"]
        ask = read_ask(request.query_params, principal.skip_columns)
        principal.require("read", ("batch", name), ("runs", None))
        batch_id = own_id(BATCH, name)
        if batch_id is None:
            raise ApiError(404, "Not found")
        async with self._hub.watch(Interest(batch_id=batch_id)) as feed:
            if not feed.ids and await self._context.adapter.get_batch(batch_id) is None:
                raise ApiError(404, "Not found")
            return await self._answer(feed, ask, handle_of(name, ask))

    @property
    def _hub(self) -> Hub:
        return self._context.adapter.hub

    async def _answer(self, feed: Feed, ask: Ask, handle: str) -> Response:
        headers = {"electric-handle": handle, "cache-control": "no-store"}
        if ask.offset == FROM_THE_START:
            changes = dict.fromkeys(feed.ids, True)
        elif ask.handle != handle:
            return JSONResponse([MUST_REFETCH], 409, headers)
        else:
            changes = await self._hub.changes(feed, ask.offset)
            if ask.live and not changes:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HOLD_S * random.uniform(_SHARE, 1)):  # noqa: S311 - no secret
                        await self._hub.until_moved(feed, ask.offset)
                changes = await self._hub.changes(feed, ask.offset)
        mark, jobs = await self._hub.read(feed, changes)
        messages: list[dict[str, Any]] = [
            change(jobs[job_id], ask, is_new=is_new) for job_id, is_new in changes.items() if job_id in jobs
        ]
        now = self._context.adapter.clock.now()
        headers |= {
            "electric-offset": mark,
            "electric-cursor": str(int(now.timestamp() * 1000)),
            # Values come as what they are in JSON, so none is to be parsed.
            "electric-schema": "{}",
            "electric-up-to-date": "",
        }
        return JSONResponse([*messages, UP_TO_DATE], headers=headers)


def _window(given: str | None) -> timedelta:
    if not given:
        return _DEFAULT_WINDOW
    try:
        return min(parse_duration(given), _LONGEST_WINDOW)
    except InvalidArgumentError as error:
        raise bad_query(f"createdAt: {error}") from None
