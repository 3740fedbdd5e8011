"""The layer before the routes: ours go on to them, the rest is handed to upstream, some lists are merged."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Match

from adapter.core.pass_through import Owner
from adapter.domain.errors import AdapterError, ExecutorError, NotSentError
from adapter.domain.identity import run_id_of
from adapter.domain.upstream import About, Asked, read
from adapter.web.bodies import read_body
from adapter.web.errors import ApiError, answer
from adapter.web.pass_through import merging
from adapter.web.pass_through.credentials import known_caller, upstream_credentials
from adapter.web.pass_through.pumping import pump

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from adapter.app import Adapter
    from adapter.web.auth import Keyring, Principal

#: Says on an answer that upstream has given it.
_BY = (b"x-adapter-forwarded", b"1")
#: What is read to find out whose a request is; upstream's own limit for a trigger.
_MOST_READ_BYTES = 3 * 1024 * 1024
_LONGEST_LINE = 4 * 1024 * 1024
_DEFAULT_SIZES = {"GET /schedules": 20, "GET /queues": 25}
_LEFT_OUT = b"x-adapter-left-out"


class PassingThrough:
    """Wraps the application. Without an upstream it is not there at all."""

    def __init__(
        self, app: ASGIApp, *, adapter: Adapter, keyring: Keyring, routes: Sequence[BaseRoute]
    ) -> None:
        self._app = app
        self._adapter = adapter
        self._keyring = keyring
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        asked = read(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if asked is None:
            await self._app(scope, receive, send)
            return
        try:
            await self._serve(asked, Request(scope, receive), send)
        except (ApiError, AdapterError) as error:
            await _answer(error)(scope, receive, send)

    async def _serve(self, asked: Asked, request: Request, send: Send) -> None:
        passing = self._adapter.pass_through
        shown = _bearer(request)
        caller: Principal | None = None
        if shown is not None:
            caller = await known_caller(self._keyring, request, self._adapter.clock.now())
        raw: bytes | None = None
        body: dict[str, Any] = {}
        if asked.about in {About.BODY, About.QUEUE} and request.method == "POST":
            raw = await read_body(request, _MOST_READ_BYTES)
            body = _object(raw)
        if shown is not None and caller is None:
            # Only for what is certainly ours: the rest is upstream's to judge, by a key that it may know.
            owner, _ = await passing.whose(asked, request.query_params, body)
            ours = owner in {Owner.OURS, Owner.MIXED} and asked.about in {
                About.TASK,
                About.ID,
                About.BODY,
                About.QUEUE,
            }
            certain = ours and (asked.about is not About.BODY or _names(body))
            await (
                self._own(request, raw, send) if certain else self._hand_on(asked, request, raw, send, None)
            )
            return
        if shown is None:
            # Nobody said who they are: only what is about an id of theirs, as a callback or a preflight.
            theirs = asked.about is About.ID and not await passing.owns_id(asked.subject)
            theirs = theirs or (
                request.method == "OPTIONS"
                and asked.about is About.TASK
                and not await passing.owns_task(asked.subject)
            )
            await (
                self._hand_on(asked, request, raw, send, None) if theirs else self._own(request, raw, send)
            )
            return
        assert caller is not None
        await self._for_caller(asked, request, raw, body, send, caller, shown)

    async def _for_caller(  # noqa: PLR0917 - one request, taken apart once
        self,
        asked: Asked,
        request: Request,
        raw: bytes | None,
        body: dict[str, Any],
        send: Send,
        caller: Principal,
        shown: str,
    ) -> None:
        passing = self._adapter.pass_through
        owner, named = await passing.whose(asked, request.query_params, body)
        if asked.about is About.REST and self._is_routed(request):
            owner = Owner.OURS
        if owner is Owner.MIXED:
            raise ApiError(
                422,
                f"This names what runs at two places ({named[:300]}). Send one request for each.",
                code="mixed_places",
            )
        credentials = None
        if owner is not Owner.OURS:
            credentials = await upstream_credentials(passing, caller, shown)
        if credentials is None:
            # A key of ours is never shown to others, so without one of theirs all of this stays here.
            await self._own(request, raw, self._saying_what_is_left_out(asked, send))
            return
        if owner is Owner.BOTH:
            await self._merge(asked, request, send, credentials)
            return
        if asked.about is About.ID and caller.is_root and asked.subject.startswith("run_"):
            job_id = await passing.job_of(asked.subject)
            if job_id is not None:
                await self._own(_renamed(request, asked.subject, run_id_of(job_id)), raw, send)
                return
        await self._hand_on(asked, request, raw, send, credentials, carrying=caller.is_root)

    async def _own(self, request: Request, raw: bytes | None, send: Send) -> None:
        await self._app(
            request.scope, request.receive if raw is None else _replayed(raw, request.receive), send
        )

    def _is_routed(self, request: Request) -> bool:
        return any(route.matches(request.scope)[0] is Match.FULL for route in self._routes)

    def _saying_what_is_left_out(self, asked: Asked, send: Send) -> Send:
        """Mark an answer of ours to what upstream could have added to."""
        if asked.about not in {About.WHOLE, About.CURSOR_LIST, About.NUMBERED_LIST}:
            return send

        async def marking(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (_LEFT_OUT, b"upstream")]
            await send(message)

        return marking

    # ---- handing on ------------------------------------------------------------------------------

    async def _hand_on(
        self,
        asked: Asked,
        request: Request,
        raw: bytes | None,
        send: Send,
        credentials: str | None,
        *,
        carrying: bool = False,
    ) -> None:
        passing = self._adapter.pass_through
        headers = [
            (name, value)
            for name, value in request.headers.raw
            if credentials is None or name != b"authorization"
        ]
        if credentials is not None:
            headers.append((b"authorization", f"Bearer {credentials}".encode()))
        content: bytes | AsyncIterator[bytes] | None = raw
        if raw is None and request.method not in {"GET", "HEAD", "OPTIONS"}:
            content = request.stream()
            if carrying and credentials is not None:
                content = await self._with_packets(asked, request, credentials)
        elif carrying and raw is not None and credentials is not None:
            for item in _items(raw):
                await passing.carry(item, credentials)
        task = asked.subject if asked.about is About.TASK else ""
        target: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
        if query := request.scope["query_string"]:
            target = target.partition(b"?")[0] + b"?" + query
        await pump(
            request.receive,
            send,
            lambda: passing.send(asked, target, headers, content, task=task),
            extra=_BY,
            watching=not isinstance(content, AsyncIterator),
        )

    async def _with_packets(self, asked: Asked, request: Request, key: str) -> bytes | AsyncIterator[bytes]:
        """Return the body, and see that payloads which were stored here are there before it is."""
        passing = self._adapter.pass_through
        if asked.about is About.TASK:
            raw = await read_body(request, _MOST_READ_BYTES)
            await passing.carry(_object(raw), key)
            return raw
        if asked.endpoint == "POST /batches/{batch}/items":
            return self._carried_lines(request, key)
        return request.stream()

    async def _carried_lines(self, request: Request, key: str) -> AsyncIterator[bytes]:
        async for line in _lines(request.stream()):
            if b"application/store" in line:
                await self._adapter.pass_through.carry(_object(line), key)
            yield line

    # ---- lists of both sides ---------------------------------------------------------------------

    async def _merge(self, asked: Asked, request: Request, send: Send, credentials: str) -> None:
        async def ours(query: Mapping[str, str]) -> dict[str, Any]:
            scope = dict(request.scope) | {"query_string": urlencode(query).encode()}
            return await _captured(self._app, scope, request.receive)

        async def theirs(query: Mapping[str, str]) -> dict[str, Any]:
            headers = [
                each for each in request.headers.raw if each[0] not in {b"authorization", b"accept-encoding"}
            ]
            headers.append((b"authorization", f"Bearer {credentials}".encode()))
            target = f"{request.url.path}?{urlencode(query)}".encode()
            passed = await self._adapter.pass_through.send(asked, target, headers, None)
            try:
                raw = await passed.read()
            finally:
                await passed.close()
            if passed.status != 200:
                raise _SideError(passed.status, passed.headers, raw)
            return _object(raw)

        query = dict(parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True))
        try:
            if asked.about is About.CURSOR_LIST:
                page = await merging.by_cursor(ours, theirs, query)
            else:
                page = await merging.by_number(ours, theirs, query, _DEFAULT_SIZES[asked.endpoint])
        except _SideError as error:
            await error.sent(send)
            return
        await JSONResponse(page)(request.scope, request.receive, send)


class _SideError(Exception):
    """One side did not give its part of a list: its answer is the answer."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        super().__init__(status)
        self._status, self._body = status, body
        self._headers = [each for each in headers if each[0] not in {b"content-length", b"content-encoding"}]

    async def sent(self, send: Send) -> None:
        length = (b"content-length", str(len(self._body)).encode())
        await send(
            {"type": "http.response.start", "status": self._status, "headers": [*self._headers, length]}
        )
        await send({"type": "http.response.body", "body": self._body})


async def _captured(app: ASGIApp, scope: Scope, receive: Receive) -> dict[str, Any]:
    """Return what a route of ours answers, as an object.

    Raises:
        _SideError: it is no 200.
    """
    heads, body = list[Any](), bytearray()

    async def keep(message: Message) -> None:
        if message["type"] == "http.response.start":
            heads.append(message)
        elif message["type"] == "http.response.body":
            body.extend(message.get("body", b""))

    await app(scope, receive, keep)
    if heads[0]["status"] != 200:
        raise _SideError(heads[0]["status"], list(heads[0].get("headers", [])), bytes(body))
    return _object(bytes(body))


def _answer(error: ApiError | AdapterError) -> JSONResponse:
    """What the SDK tries again: 503 when nothing has left for upstream, 502 when that is not sure."""
    if isinstance(error, ExecutorError):
        status = 503 if isinstance(error, NotSentError) else 502
        return JSONResponse({"error": str(error), "code": error.code}, status)
    return answer(error)


def _bearer(request: Request) -> str | None:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return credentials.strip() or None if scheme.lower() == "bearer" else None


def _object(raw: bytes) -> dict[str, Any]:
    """Return the object, an empty one for what is none: whoever answers finds the words for that."""
    try:
        value: Any = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _items(raw: bytes) -> list[dict[str, Any]]:
    items: Any = _object(raw).get("items") if b"application/store" in raw else None
    listed = cast("list[Any]", items) if isinstance(items, list) else []
    return [cast("dict[str, Any]", item) for item in listed if isinstance(item, dict)]


def _names(body: Mapping[str, Any]) -> bool:
    return any(body.get(name) for name in ("task", "taskIdentifier", "taskIdentifiers", "items", "runIds"))


def _replayed(raw: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that hands out a body which was read already."""
    left: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


def _renamed(request: Request, old: str, new: str) -> Request:
    """Return the same request about another id."""
    scope = dict(request.scope)
    scope["path"] = scope["path"].replace(old, new, 1)
    if raw_path := scope.get("raw_path"):
        scope["raw_path"] = raw_path.replace(old.encode(), new.encode(), 1)
    return Request(scope, request.receive)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield whole lines, each with its end.

    Raises:
        ApiError: 413 for one that is longer than any item may be.
    """
    kept = bytearray()
    async for chunk in chunks:
        kept += chunk
        while (end := kept.find(b"\n")) >= 0:
            yield bytes(kept[: end + 1])
            del kept[: end + 1]
        if len(kept) > _LONGEST_LINE:
            raise ApiError(413, "Request body too large")
    if kept:
        yield bytes(kept)
