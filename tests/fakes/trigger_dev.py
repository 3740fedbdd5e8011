"""Trigger.dev in memory: for faults a real peer does not produce on demand, and for the simulation.

It follows the API contract's sections 3, 5, 7 and 8: keys, request keys, lag of lists, TTL, cancel. It
is deterministic and synchronous. A test drives the runs (`start`, `complete`, `fail` …), the time
(`advance`) and the network (`next_fault`), and reads what happened in `ledger` and `requests`.
"""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast
from urllib.parse import unquote

import httpx

from adapter.domain.durations import parse_duration
from adapter.domain.packets import decode_packet
from tests.fakes.clock import ManualClock
from tests.fakes.trigger_engine import (
    CANCEL_GRACE,
    ENDED,
    FAILED_LIKE,
    STORE_URL,
    WORDS,
    shown,
)
from tests.fakes.trigger_schedules import FakeSchedules

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

SECRET_KEY = "tr_prod_fake0123456789abcdefghij"
API_URL = "https://api.trigger.test"

Word: TypeAlias = Literal[
    "connect_error",
    "connect_timeout",
    "pool_timeout",
    "timeout_before",
    "timeout_after",
    "reset_before",
    "reset_after",
    "garbled_after",
]
Call: TypeAlias = Literal[
    "trigger",
    "retrieve",
    "list",
    "cancel",
    "replay",
    "packet",
    "store",
    "schedules",
    "activate",
    "deactivate",
]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived. ``body`` is parsed JSON, None without a body."""

    call: str
    method: str
    path: str
    headers: httpx.Headers
    query: httpx.QueryParams
    body: Any


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Word | int
    on: Call | None
    after: bool
    headers: dict[str, str]
    content: bytes


class FakeTriggerDev(FakeSchedules):
    """One environment of one project, behind `transport`."""

    def __init__(self, clock: ManualClock | None = None, *, lag: float = 0.0, key: str = SECRET_KEY) -> None:
        super().__init__(clock or ManualClock())
        self.lag = timedelta(seconds=lag)
        self.requests: list[Seen] = []
        self._key = key
        self._faults: deque[Fault] = deque()
        self._keys: dict[tuple[str, str], tuple[str, datetime]] = {}
        self._request_keys: dict[tuple[str, str], tuple[str, datetime]] = {}

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.handle)

    # What a test does to the network and to time.

    def next_fault(
        self,
        kind: Word | int,
        *,
        on: Call | None = None,
        after: bool = False,
        headers: dict[str, str] | None = None,
        content: bytes = b'{"error":"injected"}',
    ) -> None:
        """Let the next request (to ``on``) end so; ``after``, and a kind of that name: once it is done."""
        self._faults.append(Fault(kind, on, after, headers or {}, content))

    # The server.

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.settle()
        path, _, _ = request.url.raw_path.decode().partition("?")
        for call, method, pattern, act in self._routes():
            found = re.fullmatch(pattern, path)
            if found is None or request.method != method:
                continue
            content = request.content
            is_json = request.headers.get("content-type", "").startswith("application/json")
            body = json.loads(content) if content and is_json else None
            self.requests.append(Seen(call, method, path, request.headers, request.url.params, body))
            return self._with_fault(
                cast("Call", call),
                request,
                lambda act=act, found=found: act(request, *map(unquote, found.groups())),
            )
        return _json(404, {"error": f"No route {request.method} {path}"})

    def _routes(self) -> tuple[tuple[str, str, str, Callable[..., httpx.Response]], ...]:
        return (
            ("trigger", "POST", r"/api/v1/tasks/([^/]+)/trigger", self._trigger),
            ("retrieve", "GET", r"/api/v3/runs/([^/]+)", self._retrieve),
            ("list", "GET", r"/api/v1/runs", self._list),
            ("cancel", "POST", r"/api/v[12]/runs/([^/]+)/cancel", self._cancel),
            ("replay", "POST", r"/api/v1/runs/([^/]+)/replay", self._replay),
            ("packet", "PUT", r"/api/v2/packets/([^/]+)", self._packet),
            ("packet", "GET", r"/api/v1/packets/([^/]+)", self._packet),
            *self.schedule_routes(),
            ("store", "PUT", r"/((?:trigger|runs)/.+)", self._put),
            ("store", "GET", r"/((?:trigger|runs)/.+)", self._get),
        )

    def _with_fault(
        self, call: Call, request: httpx.Request, act: Callable[[], httpx.Response]
    ) -> httpx.Response:
        fault = next((each for each in self._faults if each.on in {None, call}), None)
        if fault is None:
            return self._checked(call, request) or act()
        self._faults.remove(fault)
        if fault.after or str(fault.kind).endswith("_after"):
            _ = self._checked(call, request) or act()
        match fault.kind:
            case int():
                return httpx.Response(fault.kind, content=fault.content, headers=fault.headers)
            case "garbled_after":
                return httpx.Response(200, content=b'{"id":"run_')
            case "connect_error":
                raise httpx.ConnectError("injected", request=request)
            case "connect_timeout":
                raise httpx.ConnectTimeout("injected", request=request)
            case "pool_timeout":
                raise httpx.PoolTimeout("injected", request=request)
            case "timeout_before" | "timeout_after":
                raise httpx.ReadTimeout("injected", request=request)
            case "reset_before" | "reset_after":
                raise httpx.ReadError("injected", request=request)

    def _checked(self, call: Call, request: httpx.Request) -> httpx.Response | None:
        if call == "store":
            assert "authorization" not in request.headers, "a presigned URL must not get our key"
            return None
        if request.headers.get("authorization") != f"Bearer {self._key}":
            return _json(401, {"error": "Invalid API key"})
        if call == "trigger" and not 0 < int(request.headers.get("content-length", 0)) <= 3 * 1024 * 1024:
            return _json(413, {"error": "Request body too large"})
        return None

    def _trigger(self, request: httpx.Request, task: str) -> httpx.Response:
        body: dict[str, Any] = json.loads(request.content)
        options: dict[str, Any] = body.get("options", {})
        now = self.clock.now()
        request_key = request.headers.get("x-trigger-request-idempotency-key")
        first = self._request_keys.get((task, request_key or ""))
        if first is not None and now < first[1]:
            return _json(200, {"id": first[0], "isCached": False})
        tags = [options["tags"]] if isinstance(options.get("tags"), str) else options.get("tags", [])
        if any(len(tag) > 128 for tag in tags):
            return _json(400, {"error": "Validation error: a tag is too long"})
        if len(tags) > 10:
            words = f"Runs can only have 10 tags, you're trying to set {len(tags)}."
            return _json(422, {"error": words})
        key = options.get("idempotencyKey")
        known = self._keys.get((task, key)) if key else None
        if known is not None and now < known[1]:
            old = self.runs.get(known[0])
            if old is not None and old.status not in FAILED_LIKE:
                self._remember(task, request_key, old.id)
                return _json(200, {"id": old.id, "isCached": True})
        run = self.make(task, self._payload(body.get("payload"), options), options, tags)
        if key:
            self._keys[task, key] = run.id, now + _key_ttl(options.get("idempotencyKeyTTL"))
        self._remember(task, request_key, run.id)
        return _json(200, {"id": run.id, "isCached": False}, {"x-trigger-jwt": "fake.jwt"})

    def _remember(self, task: str, request_key: str | None, run_id: str) -> None:
        if request_key:
            self._request_keys[task, request_key] = run_id, self.clock.now() + timedelta(hours=24)

    def _payload(self, payload: Any, options: dict[str, Any]) -> Any:
        kind = options.get("payloadType", "application/json")
        if kind == "application/store":
            content, kind = self.store[payload]
            return decode_packet(content.decode(), kind)
        return payload if kind == "application/json" else decode_packet(payload, kind)

    def _retrieve(self, request: httpx.Request, run_id: str) -> httpx.Response:
        run = self.runs.get(run_id)
        if run is None:
            return _json(404, {"error": "Not found"}, {"x-should-retry": "true"})
        body: dict[str, Any] = {**shown(run), "payload": run.payload, "relatedRuns": {}, "attempts": []}
        if run.status == "COMPLETED":
            body |= (
                {"output": run.output} if run.output_url is None else {"outputPresignedUrl": run.output_url}
            )
        if run.error is not None:
            body["error"] = run.error
        if "x-trigger-api-version" not in request.headers and run.status == "DEQUEUED":
            body["status"] = "EXECUTING"
        return _json(200, body)

    def _list(self, request: httpx.Request) -> httpx.Response:
        query, now = request.url.params, self.clock.now()
        size, wanted = query.get("page[size]", "25"), _several(query, "status")
        if not size.isdecimal() or not 1 <= int(size) <= 100 or not set(wanted) <= WORDS:
            return _json(400, {"error": "Query Error"})
        since, until = query.get("filter[createdAt][from]"), query.get("filter[createdAt][to]")
        floor = now - timedelta(days=7) if since is None and until is None else None
        tags, tasks = set(_several(query, "tag")), _several(query, "taskIdentifier")
        schedule = query.get("filter[schedule]")
        found: list[tuple[int, dict[str, Any]]] = []
        for run in sorted(self.runs.values(), key=lambda each: (each.created_at, each.number), reverse=True):
            seen = next((body for at, body in reversed(run.history) if at <= now - self.lag), None)
            made = run.created_at.timestamp() * 1000
            if (
                seen is None
                or (floor is not None and run.created_at < floor)
                or (since is not None and made < int(since))
                or (until is not None and made > int(until))
                or (wanted and seen["status"] not in wanted)
                or (tags and not tags & set(run.tags))
                or (tasks and run.task not in tasks)
                or (schedule is not None and run.options.get("schedule") != schedule)
            ):
                continue
            found.append((run.number, seen))
        after = query.get("page[after]")
        if after is not None:
            found = [each for each in found if each[0] < int(after.removeprefix("cursor_"))]
        page = found[: int(size)]
        more = {"next": f"cursor_{page[-1][0]}"} if len(found) > len(page) else {}
        data = [body | {"env": {"id": "env_fake", "name": "prod"}} for _, body in page]
        return _json(200, {"data": data, "pagination": more})

    def _cancel(self, request: httpx.Request, run_id: str) -> httpx.Response:
        run = self.runs.get(run_id)
        if run is None:
            return _json(404, {"error": "Resource not found"})
        if run.status not in ENDED:
            if run.running:
                run.kill_at = self.clock.now() + CANCEL_GRACE
            else:
                run.finished_at = self.clock.now()
            self.move(run, "CANCELED")
        return _json(200, {"id": run_id})

    def _replay(self, request: httpx.Request, run_id: str) -> httpx.Response:
        old = self.runs.get(run_id)
        if old is None:
            return _json(404, {"error": "Resource not found"})
        changes: dict[str, Any] = json.loads(request.content) if request.content else {}
        keys = ("idempotencyKey", "idempotencyKeyTTL", "delay", "ttl", "tags")
        kept = {name: value for name, value in old.options.items() if name not in keys}
        tags = changes.get("tags", list(old.tags))
        run = self.make(old.task, changes.get("payload", old.payload), kept | changes, tags)
        return _json(200, {"id": run.id})

    def _packet(self, request: httpx.Request, path: str) -> httpx.Response:
        return _json(200, {"presignedUrl": STORE_URL + path, "storagePath": path})

    def _put(self, request: httpx.Request, path: str) -> httpx.Response:
        self.store[path] = request.content, request.headers.get("content-type", "")
        return httpx.Response(200)

    def _get(self, request: httpx.Request, path: str) -> httpx.Response:
        if path not in self.store:
            return httpx.Response(404, text="<Error>NoSuchKey</Error>")
        content, kind = self.store[path]
        return httpx.Response(200, content=content, headers={"content-type": kind})


def _json(status: int, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, json=body, headers=headers)


def _several(query: httpx.QueryParams, name: str) -> list[str]:
    return [each for each in query.get(f"filter[{name}]", "").split(",") if each]


def _key_ttl(text: str | None) -> timedelta:
    if text is None or not re.fullmatch(r"\d+[smhd]", text):
        return timedelta(days=30)
    return parse_duration(text)
