"""Payloads and outputs that are too large to be part of an answer (Trigger.dev's API contract, 4.3).

They are handed out from the run itself, by a URL that carries its own proof.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.domain.identity import job_id_of, run_id_of
from adapter.domain.job import JobStatus
from adapter.domain.packets import JSON
from adapter.web.errors import ApiError
from adapter.web.trigger_api.access import readable
from adapter.web.trigger_api.packets import INERT, check_signature, presigned_url

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.domain.job import Job
    from adapter.web.trigger_api.context import ApiContext

#: From this size on a client does not send a payload inline, nor do we.
LARGE_BYTES = 128 * 1024
_FIELDS = ("payload", "output")


class RunPacketRoutes:
    """Asking for the URL of a run's payload or output, and the transfer."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/api/v1/runs/{run}/packets/{field}", self.presign),
            Route("/api/v2/run-packets/{run}/{field}", self.transfer),
        ]

    async def presign(self, request: Request) -> Response:
        """Answer a URL to read the payload or output at; 404 when there is none."""
        job, principal = await readable(self._context, request)
        field: str = request.path_params["field"]
        if field not in _FIELDS:
            raise ApiError(400, "Params Error", details=["field"])
        if value_of(job, field) is None:
            raise ApiError(404, "Not found")
        return JSONResponse({"presignedUrl": packet_url(self._context, request, principal.key, job, field)})

    async def transfer(self, request: Request) -> Response:
        """Hand it out, for whoever holds the URL."""
        run_id, field = str(request.path_params["run"]), str(request.path_params["field"])
        check_signature(self._context, request, "GET", _name(run_id, field))
        job = await self._context.job(job_id_of(run_id))
        value = None if job is None else value_of(job, field)
        if value is None:
            raise ApiError(404, "Not found")
        return Response(_text(value), media_type=JSON, headers=INERT)


def value_of(job: Job, field: str) -> Any:
    """Return the payload, or the output of a run that completed; None when there is none."""
    if field == "payload":
        return job.data
    return job.result if job.status is JobStatus.COMPLETED else None


def is_large(value: Any) -> bool:
    """Whether it is left out of answers."""
    return len(_text(value)) >= LARGE_BYTES


def packet_url(context: ApiContext, request: Request, key: str, job: Job, field: str) -> str:
    """Return the URL at which it can be read."""
    run_id = run_id_of(job.id)
    path = f"/api/v2/run-packets/{run_id}/{field}"
    return presigned_url(context, request, key, method="GET", name=_name(run_id, field), path=path)


def _text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _name(run_id: str, field: str) -> str:
    # No stored packet is called so: their names have no line feeds.
    return f"run\n{run_id}\n{field}"
