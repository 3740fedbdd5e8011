"""``/api/v1/queues`` (Trigger.dev's API contract, 10). Root keys only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from pydantic import Field
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.domain.errors import QueueNotFoundError, UnknownTaskError
from adapter.domain.identity import queue_id_of
from adapter.domain.wire import moment
from adapter.web.auth import SOURCE
from adapter.web.bodies import is_text
from adapter.web.errors import ApiError, bad_query
from adapter.web.trigger_api.authorship import said_by
from adapter.web.trigger_api.context import SMALL_BODY_BYTES, json_object
from adapter.web.trigger_api.options import Wire, validated
from adapter.web.trigger_api.pages import numbered_page, offset_page

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.store.queues import QueueInfo
    from adapter.web.trigger_api.context import ApiContext

_Kind: TypeAlias = Literal["id", "task", "custom"]
_Body = TypeVar("_Body", bound=Wire)
_KINDS: dict[str, _Kind] = {"id": "id", "task": "task", "custom": "custom"}
_USUAL_PAGE = 25
#: The SDK's own bound.
_MOST = 100_000


class QueueBody(Wire):
    """Which of its names a path says."""

    type: _Kind = "id"


class PauseBody(QueueBody):
    """What becomes of a queue."""

    action: Literal["pause", "resume"]


class OverrideBody(QueueBody):
    """A limit over the declared one."""

    concurrency_limit: int = Field(ge=0, le=_MOST)


class QueueRoutes:
    """Queues: list, show, pause, resume, limit."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes. A queue's name may hold slashes, so what stands behind it comes first."""
        one = "/api/v1/queues/{queue:path}"
        return [
            Route("/api/v1/queues", self.list_queues),
            Route(f"{one}/pause", self.pause, methods=["POST"]),
            Route(f"{one}/concurrency/override", self.override, methods=["POST"]),
            Route(f"{one}/concurrency/reset", self.reset, methods=["POST"]),
            Route(one, self.retrieve),
        ]

    async def list_queues(self, request: Request) -> Response:
        """Answer one page, by name."""
        await self._context.root(request)
        page, size = numbered_page(request.query_params, usual=_USUAL_PAGE)
        found = await self._context.adapter.page_queues(limit=size, offset=(page - 1) * size)
        data = [shown(each) for each in found.queues]
        return JSONResponse(offset_page(data, page=page, size=size, total=found.total))

    async def retrieve(self, request: Request) -> Response:
        """Answer a queue, by its id, by its name, or as the queue of a task."""
        await self._context.root(request)
        kind = request.query_params.get("type", "id")
        known = _KINDS.get(kind)
        if known is None:
            raise bad_query(f"type is one of {', '.join(_KINDS)}")
        return JSONResponse(shown(await self._found(request, known, to_change=False)))

    async def pause(self, request: Request) -> Response:
        """Let nothing more of a queue start, or let it start again; triggers are accepted all the while."""
        principal = await self._context.root(request)
        body = await self.body(request, PauseBody)
        queue = await self._found(request, body.type, to_change=True)
        verb = (
            self._context.adapter.pause_queue
            if body.action == "pause"
            else self._context.adapter.resume_queue
        )
        await verb(queue.name, **said_by(principal))
        return await self._again(queue.name)

    async def override(self, request: Request) -> Response:
        """Set a limit over the declared one; it stays until it is reset. 0 lets nothing start."""
        principal = await self._context.root(request)
        body = await self.body(request, OverrideBody)
        queue = await self._found(request, body.type, to_change=True)
        await self._context.adapter.set_queue_limits(
            queue.name, concurrency_limit=body.concurrency_limit, **said_by(principal)
        )
        return await self._again(queue.name)

    async def reset(self, request: Request) -> Response:
        """Let the declared limit hold again."""
        principal = await self._context.root(request)
        body = await self.body(request, QueueBody)
        queue = await self._found(request, body.type, to_change=True)
        await self._context.adapter.set_queue_limits(
            queue.name, concurrency_limit="registry", **said_by(principal)
        )
        return await self._again(queue.name)

    async def body(self, request: Request, model: type[_Body]) -> _Body:
        """Return the body; 400 where it does not fit."""
        return validated(model, json_object(await self._context.read(request, SMALL_BODY_BYTES)))

    async def _found(self, request: Request, kind: _Kind, *, to_change: bool) -> QueueInfo:
        # The SDK writes a slash as %2F before it encodes the name.
        given = str(request.path_params["queue"]).replace("%2F", "/")
        adapter = self._context.adapter
        if not is_text(given):
            raise ApiError(404, "queue-not-found")
        try:
            if kind == "id":
                return await adapter.find_queue(queue_id=given)
            if kind == "custom":
                return await adapter.find_queue(name=given)
            queue = adapter.queue_of_task(given)
            if to_change and queue.shared_with:
                raise ApiError(
                    422,
                    f"Jobs of {given} go to the queue {queue.name}, and so do those of {len(queue.shared_with)} other"
                    f" tasks. Name the queue itself with type custom, or give the task one of its own.",
                )
            return await adapter.find_queue(name=queue.name)
        except (QueueNotFoundError, UnknownTaskError):
            raise ApiError(404, "queue-not-found") from None

    async def _again(self, name: str) -> Response:
        return JSONResponse(shown(await self._context.adapter.find_queue(name=name)))


def shown(queue: QueueInfo) -> dict[str, Any]:
    """Return what every route answers of a queue: one of upstream's V1, whose limit is its own."""
    override = queue.overrides.get("concurrency_limit")
    is_set = "concurrency_limit" in queue.overrides
    # Upstream names a person there, and nobody where it was done through the API.
    by = queue.limits_set_by if queue.limits_set_from != SOURCE else None
    return {
        "id": queue_id_of(queue.name),
        "name": queue.name,
        "type": "custom",
        "running": queue.running,
        "queued": queue.waiting,
        "paused": queue.paused_at is not None,
        "concurrencyLimit": queue.limits.concurrency_limit,
        "concurrency": {
            "current": queue.limits.concurrency_limit,
            "base": queue.declared.concurrency_limit,
            "override": override,
            "overriddenAt": moment(queue.limits_set_at) if is_set and queue.limits_set_at else None,
            "overriddenBy": by if is_set else None,
        },
    }
