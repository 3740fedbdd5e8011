"""``GET /api/jobs/{id}/stream``: a job as server-sent events, each the whole job, until it has ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic_core import to_jsonable_python
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from adapter.core.watching.feed import Interest
from adapter.domain.documents import job_document, job_run_document
from adapter.domain.errors import DatabaseUnavailableError, StoreError
from adapter.domain.identity import job_id_of, run_id_of
from adapter.web.auth import TOKEN_LIFE, Keyring, Principal
from adapter.web.errors import ApiError
from adapter.web.trigger_api.access import resources_of

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.domain.job import Job

#: How long nothing is said at most, in seconds: proxies cut a connection that is silent for a minute.
HEARTBEAT_S = 15.0
#: How soon a browser comes back after its connection was cut, in milliseconds.
_RETRY_MS = 2000
_FROM_QUERY = "adapter.token_from_query"
_HEARTBEAT = b": still here\n\n"
_NOT_FOUND = b'id: not_found\ndata: {"error":"not_found"}\n\n'
_SHAPES: dict[str, Callable[[Job], dict[str, Any]]] = {"job": job_document, "job_runs": job_run_document}


class StreamRoutes:
    """Jobs as they change.

    Beside a key or token in ``Authorization``, a public token may stand in the query as ``token``, since a
    browser's EventSource sends no headers. Queries end up in logs, so no key may, nor a token that lives longer
    than an hour.
    """

    def __init__(self, adapter: Adapter, keyring: Keyring) -> None:
        self._adapter = adapter
        self._keyring = keyring

    @property
    def routes(self) -> list[Route]:
        """The route."""
        return [Route("/api/jobs/{job}/stream", self.stream)]

    async def stream(self, request: Request) -> Response:
        """Send the job now, and again whenever it has changed, ``?shape=job`` or ``job_runs``.

        A client that comes back with the ``Last-Event-ID`` of the end is answered 204, which is what makes an
        EventSource stay away. Of a job that is not there the one event is ``{"error": "not_found"}``.
        """
        request = self._with_header(request)
        principal = await self._caller(request)
        shape = _SHAPES.get(request.query_params.get("shape", "job"))
        if shape is None:
            raise ApiError(400, f"shape is one of: {', '.join(_SHAPES)}.", code="invalid_query")
        last = request.headers.get("last-event-id", "")
        job_id = _job_id(request.path_params["job"])
        run_id = request.path_params["job"] if job_id is None else run_id_of(job_id)
        if job_id is None:
            principal.require("read", ("runs", run_id))
            return _answer(_nothing()) if last != "not_found" else Response(status_code=204)
        hub = self._adapter.hub
        async with hub.watch(Interest(job_id=job_id)) as feed:
            if not principal.can("read", ("runs", run_id)):
                _, jobs = await hub.read(feed, [job_id])
                principal.require("read", ("runs", run_id), *resources_of(jobs.get(job_id)))
            has_ended = not feed.open
            if (has_ended and last == feed.mark) or (not feed.ids and last == "not_found"):
                return Response(status_code=204)
        return _answer(self._events(job_id, last, shape, principal, request))

    @staticmethod
    def _with_header(request: Request) -> Request:
        """Return the request as if a token in its query had come in the header."""
        token = request.query_params.get("token")
        if token is None or "authorization" in request.headers:
            return request
        if token.count(".") != 2:
            raise ApiError(401, "In a query only a public token may stand, never a key.")
        shown = (b"authorization", f"Bearer {token}".encode("latin-1", "replace"))
        return Request({**request.scope, "headers": [*request.scope["headers"], shown], _FROM_QUERY: True})

    async def _caller(self, request: Request) -> Principal:
        now = self._adapter.clock.now()
        principal = await self._keyring.authenticate(request, now)
        if _FROM_QUERY in request.scope and (
            principal.ends_at is None or principal.ends_at - now.timestamp() > TOKEN_LIFE.total_seconds()
        ):
            raise ApiError(401, "A token in a query may live for an hour at most.")
        return principal

    async def _events(
        self,
        job_id: UUID,
        last: str,
        shape: Callable[[Job], dict[str, Any]],
        principal: Principal,
        request: Request,
    ) -> AsyncGenerator[bytes]:
        hub = self._adapter.hub
        yield b"retry: %d\n\n" % _RETRY_MS
        mark = last
        async with hub.watch(Interest(job_id=job_id)) as feed:
            while (left := await self._left(principal, request)) > 0 and not hub.is_closing:
                if feed.mark != mark:
                    try:
                        mark, jobs = await hub.read(feed, [job_id])
                    except DatabaseUnavailableError:
                        # The client has what there was; the rest comes when the database does.
                        yield _HEARTBEAT
                        await self._adapter.clock.sleep(1)
                        continue
                    job = jobs.get(job_id)
                    if job is None:
                        yield _NOT_FOUND
                        return
                    yield _event(mark, shape(job))
                    if job.status.is_terminal:
                        return
                if not await _moved(hub.until_moved(feed, mark), min(left, HEARTBEAT_S)):
                    yield _HEARTBEAT

    async def _left(self, principal: Principal, request: Request) -> float:
        """Return how long the caller may go on, in seconds: a stream ends with the token, key or session that opened it."""
        now = self._adapter.clock.now()
        if principal.ends_at is not None:
            return principal.ends_at - now.timestamp()
        try:
            return HEARTBEAT_S if await self._keyring.is_still_good(request, now) else 0.0
        except StoreError:
            # Nobody was told that it has ended.
            return HEARTBEAT_S


async def _moved(moving: Awaitable[None], within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            await moving
    except TimeoutError:
        return False
    return True


async def _nothing() -> AsyncGenerator[bytes]:
    yield _NOT_FOUND


def _answer(events: AsyncGenerator[bytes]) -> Response:
    # nginx would keep events back until it has some kilobytes of them.
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def _event(mark: str, document: dict[str, Any]) -> bytes:
    data = json.dumps(to_jsonable_python(document), ensure_ascii=False, separators=(",", ":"))
    return f"id: {mark}\ndata: {data}\n\n".encode()


def _job_id(text: str) -> UUID | None:
    try:
        return job_id_of(text) if text.startswith("run_") else UUID(text)
    except ValueError:
        return None
