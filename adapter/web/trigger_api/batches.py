"""Batches: opened and filled by a stream, or in one request; retrieved (Trigger.dev's API contract, 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.domain.batch import MOST_ITEMS as MOST_STREAMED
from adapter.domain.batch import Added, Batch
from adapter.domain.errors import BatchNotFoundError, InvalidArgumentError
from adapter.domain.identity import own_id, public_id, run_id_of
from adapter.domain.task import LONGEST_KEY
from adapter.domain.wire import moment
from adapter.web.auth import TOKEN_LIFE, forbidden, make_public_token
from adapter.web.errors import ApiError
from adapter.web.trigger_api.batch_items import BatchBody, ItemReader, tasks_of
from adapter.web.trigger_api.context import json_object
from adapter.web.trigger_api.lines import lines
from adapter.web.trigger_api.options import KeyOptions, Wire, key_life, validated
from adapter.web.trigger_api.results import run_result
from adapter.web.trigger_api.tasks import parent_of, request_key, task_id
from adapter.web.trigger_api.wire import BATCH

if TYPE_CHECKING:
    from uuid import UUID

    from starlette.requests import Request

    from adapter.core.batches import FindPacket
    from adapter.core.planning import JobSpec
    from adapter.domain.batch import ItemFailure
    from adapter.domain.job import Job
    from adapter.web.auth import Principal
    from adapter.web.authorization import Resource
    from adapter.web.trigger_api.context import ApiContext

_MOST_OPEN_BYTES = 128 * 1024
_MOST_BODY_BYTES = 1024 * 1024
#: How much of a stream is kept in memory before it is held in the database.
_MOST_BUFFERED = 4 * 1024 * 1024


class OpenBody(Wire):
    """What opens a batch."""

    run_count: int = Field(gt=0, le=MOST_STREAMED)
    task_identifiers: list[str] | None = None
    parent_run_id: str | None = None
    resume_parent_on_completion: bool | None = None
    idempotency_key: str | None = Field(default=None, max_length=LONGEST_KEY)
    idempotency_key_options: KeyOptions | None = None


class BatchRoutes:
    """Everything about batches."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._adapter = context.adapter

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/api/v3/batches", self.open, methods=["POST"]),
            Route("/api/v3/batches/{batch}/items", self.items, methods=["POST"]),
            Route("/api/v2/tasks/batch", self.at_once, methods=["POST"]),
            Route("/api/v1/tasks/batch", self.at_once_with_runs, methods=["POST"]),
            Route("/api/v1/tasks/{task:path}/batch", self.of_one_task, methods=["POST"]),
            Route("/api/v2/batches/{batch}", self.retrieve),
            Route("/api/v1/batches/{batch}", self.retrieve_briefly),
            Route("/api/v1/batches/{batch}/results", self.results),
        ]

    # ---- a stream --------------------------------------------------------------------------------

    async def open(self, request: Request) -> Response:
        """Open a batch: 202, or 200 with ``isCached`` when its idempotency key was known.

        A batch whose items never came is not cached, whatever upstream does: the SDK would send none.
        """
        principal = await self._context.caller(request)
        raw = await self._context.read(request, _MOST_OPEN_BYTES)
        body = validated(OpenBody, json_object(raw))
        _may_trigger(principal, body.task_identifiers)
        parent = await parent_of(self._context, principal, body.parent_run_id)
        key = body.idempotency_key or request.headers.get("idempotency-key") or None
        detail = _detail(principal, body.resume_parent_on_completion, body.idempotency_key_options)
        async with self._context.spending(request, principal, "a batch"):
            batch = await self._open(
                request, principal, body.run_count, key=key, parent=parent, detail=detail
            )
        answer = {
            "id": public_id(BATCH, batch.id),
            "runCount": batch.run_count,
            "isCached": batch.deduplicated,
            **_key(batch),
        }
        return self._answer(principal, batch, answer, 200 if batch.deduplicated else 202)

    async def items(self, request: Request) -> Response:
        """Take the items of a batch; ``sealed`` says whether all are there and their runs made."""
        principal = await self._context.caller(request)
        batch = await self._find(request)
        if batch is None or not _may_see(principal, batch):
            raise ApiError(422, "Batch not found")
        if principal.once is not None and batch.request_key != f"once:{principal.once}":
            raise forbidden()
        parent = None if batch.parent_id is None else await self._adapter.get_job(batch.parent_id)
        reader = ItemReader(self._context, parent, batch.detail)
        accepted, repeated, buffer, size = 0, 0, dict[int, str](), 0
        try:
            async for line in lines(request):
                _may_trigger(principal, [line.task])
                if line.place >= batch.run_count:
                    raise ApiError(
                        422, f"Index {line.place} is out of range: the batch has {batch.run_count} items"
                    )
                if line.place in buffer:
                    repeated += 1
                    continue
                buffer[line.place], size = line.text, size + len(line.text)
                reader.lines[line.place] = line
                if size > _MOST_BUFFERED:
                    added = await self._add(batch.id, buffer, reader)
                    accepted, repeated = accepted + added.accepted, repeated + added.deduplicated
                    buffer, size = {}, 0
                    reader.lines.clear()
        except ClientDisconnect:
            # What has come need not come again.
            await self._add(batch.id, buffer, reader)
            raise
        added = await self._add(batch.id, buffer, reader)
        answer = {
            "id": public_id(BATCH, batch.id),
            "itemsAccepted": accepted + added.accepted,
            "itemsDeduplicated": repeated + added.deduplicated,
            "sealed": added.sealed,
            "runCount": batch.run_count,
        }
        if not added.sealed:
            answer |= {"enqueuedCount": added.held, "expectedCount": batch.run_count}
        return JSONResponse(answer)

    async def _add(self, batch_id: UUID, items: dict[int, str], reader: ItemReader) -> Added:
        try:
            return await self._adapter.add_items(batch_id, items, reader.of_line)
        except BatchNotFoundError as error:
            raise ApiError(422, "Batch not found") from error

    # ---- one request -----------------------------------------------------------------------------

    async def at_once(self, request: Request) -> Response:
        """Take a whole batch: 202 ``{"id", "runCount"}``."""
        principal, raw = await self._asked(request)
        body = validated(BatchBody, json_object(raw))
        batch = await self._whole(request, principal, body, strict=False)
        answer: dict[str, Any] = {
            "id": public_id(BATCH, batch.id),
            "runCount": batch.run_count,
            **_key(batch),
        }
        if batch.deduplicated:
            answer["isCached"] = True
        return self._answer(principal, batch, answer, 202)

    async def at_once_with_runs(self, request: Request) -> Response:
        """Take a whole batch, or nothing of it, and answer with its runs."""
        principal, raw = await self._asked(request)
        body = validated(BatchBody, json_object(raw))
        batch = await self._whole(request, principal, body, strict=True)
        shown: list[dict[str, Any]] = []
        for job in await self._adapter.batch_jobs(batch.id):
            cached = job.batch_id != batch.id
            run = {"id": run_id_of(job.id), "taskIdentifier": job.type, "isCached": cached}
            shown.append(run | ({"idempotencyKey": job.idempotency_key} if job.idempotency_key else {}))
        answer: dict[str, Any] = {
            "id": public_id(BATCH, batch.id),
            "isCached": batch.deduplicated,
            "runs": shown,
            **_key(batch),
        }
        return self._answer(principal, batch, answer, 200)

    async def of_one_task(self, request: Request) -> Response:
        """Take a whole batch of the task that the path names, or nothing of it."""
        principal, raw = await self._asked(request)
        body = validated(BatchBody, json_object(raw))
        task = task_id(request.path_params["task"])
        batch = await self._whole(request, principal, body, strict=True, task=task)
        answer = {"batchId": public_id(BATCH, batch.id), "runs": [run_id_of(each) for each in batch.job_ids]}
        return self._answer(principal, batch, answer, 200)

    async def _asked(self, request: Request) -> tuple[Principal, bytes]:
        principal = await self._context.caller(request)
        return principal, await self._context.read(request, _MOST_BODY_BYTES)

    async def _whole(
        self,
        request: Request,
        principal: Principal,
        body: BatchBody,
        *,
        strict: bool,
        task: str | None = None,
    ) -> Batch:
        tasks = tasks_of(body, task)
        _may_trigger(principal, tasks)
        parent = await parent_of(self._context, principal, body.parent_run_id)
        key = request.headers.get("idempotency-key") or None
        detail = _detail(principal, body.resume_parent_on_completion, None)
        reader = ItemReader(self._context, parent, detail, strict=strict)

        async def read(place: int, _text: str, find: FindPacket) -> JobSpec | ItemFailure:
            item = body.items[place]
            return await reader.spec(tasks[place], item.payload, item.options, find)

        places = dict.fromkeys(range(len(tasks)), "")
        async with self._context.spending(request, principal, "a batch"):
            batch = await self._open(request, principal, len(tasks), key=key, parent=parent, detail=detail)
            if batch.sealed_at is not None:
                return batch
            try:
                return (await self._adapter.add_items(batch.id, places, read, strict=strict)).batch
            except InvalidArgumentError as error:
                raise ApiError(422, str(error)) from error

    async def _open(
        self,
        request: Request,
        principal: Principal,
        run_count: int,
        *,
        key: str | None,
        parent: Job | None,
        detail: dict[str, Any],
    ) -> Batch:
        life = key_life(request.headers.get("idempotency-key-ttl"))
        batch = await self._adapter.open_batch(
            run_count,
            key=key,
            **({} if life is None else {"key_ttl": life}),
            request_key=request_key(request, principal),
            parent_id=parent.id if parent else None,
            detail=detail,
        )
        if not _may_see(principal, batch):
            raise ApiError(404, "Not found")
        return batch

    # ---- reading ---------------------------------------------------------------------------------

    async def retrieve(self, request: Request) -> Response:
        """Answer how a batch stands, and what became of its items."""
        batch = await self._readable(request)
        processing: dict[str, Any] = {"errors": list(batch.errors)}
        if batch.sealed_at is not None:
            processing["completedAt"] = moment(batch.sealed_at)
        return JSONResponse(_shown(batch) | {"processing": processing})

    async def retrieve_briefly(self, request: Request) -> Response:
        """Answer how a batch stands."""
        return JSONResponse(_shown(await self._readable(request)))

    async def results(self, request: Request) -> Response:
        """Answer the results of those runs that have ended, in the order of their items."""
        batch = await self._readable(request)
        ended = [job for job in await self._adapter.batch_jobs(batch.id) if job.finished is not None]
        return JSONResponse({"id": public_id(BATCH, batch.id), "items": [run_result(job) for job in ended]})

    async def _readable(self, request: Request) -> Batch:
        principal = await self._context.caller(request)
        batch = await self._find(request)
        principal.require("read", ("batch", request.path_params["batch"]), *_owner(batch))
        if batch is None:
            raise ApiError(404, "Batch not found")
        return batch

    async def _find(self, request: Request) -> Batch | None:
        batch_id = own_id(BATCH, request.path_params["batch"])
        return None if batch_id is None else await self._adapter.get_batch(batch_id)

    def _answer(self, principal: Principal, batch: Batch, body: dict[str, Any], status: int) -> Response:
        scopes = [f"read:batch:{public_id(BATCH, batch.id)}"]
        token = make_public_token(principal.key, scopes, TOKEN_LIFE, now=self._adapter.clock.now())
        return JSONResponse(body, status, {"x-trigger-jwt": token})


def _may_trigger(principal: Principal, tasks: list[str] | None) -> None:
    """Refuse with 403 what a token does not allow; tasks that are not named are all there may be."""
    for task in sorted(set(tasks)) if tasks else [None]:
        principal.require("batchTrigger", ("tasks", task), *principal.own)


def _may_see(principal: Principal, batch: Batch) -> bool:
    """Whether it is not another user's."""
    return not principal.is_bound or batch.detail.get("user_id") == principal.user_id


def _owner(batch: Batch | None) -> list[Resource]:
    return [] if batch is None else [("users", batch.detail.get("user_id"))]


def _detail(
    principal: Principal,
    resumes: bool | None,  # noqa: FBT001 - a field as it came
    options: KeyOptions | None,
) -> dict[str, Any]:
    detail: dict[str, Any] = {"resumes_parent": True} if resumes else {}
    if principal.is_bound:
        detail["user_id"] = principal.user_id
    return detail | ({"idempotency": options.model_dump(exclude_none=True)} if options else {})


def _key(batch: Batch) -> dict[str, str]:
    return {} if batch.idempotency_key is None else {"idempotencyKey": batch.idempotency_key}


def _shown(batch: Batch) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": public_id(BATCH, batch.id),
        "status": batch.status,
        "createdAt": moment(batch.created_at),
        "updatedAt": moment(batch.updated_at),
        "runCount": batch.run_count,
        "runs": [run_id_of(each) for each in batch.job_ids],
    }
    kept: Any = batch.detail.get("idempotency") or {}
    key = kept.get("key") or batch.idempotency_key
    return shown | {"idempotencyKey": key} if key is not None else shown
