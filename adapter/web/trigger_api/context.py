"""What every route of the API needs: the adapter, the caller, the body."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from uuid_utils.compat import uuid7

from adapter.core.single_use import spending
from adapter.domain.errors import BodyTooLargeError
from adapter.domain.task import DEFAULT_QUEUE
from adapter.web.bodies import BadJsonError, load_object, read_body
from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from uuid import UUID

    from starlette.requests import Request

    from adapter.app import Adapter
    from adapter.domain.job import Job
    from adapter.web.auth import Keyring, Principal

#: Upstream's limit for a trigger.
MOST_BODY_BYTES = 3 * 1024 * 1024
#: For bodies that hold a few names and numbers.
SMALL_BODY_BYTES = 64 * 1024
_LAST_SECOND = 2**33


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Shared by the route groups of one application."""

    adapter: Adapter
    keyring: Keyring

    async def caller(self, request: Request) -> Principal:
        """Return who calls, by a key or a public token; 401 otherwise."""
        return self._signs(await self.keyring.authenticate(request, self.adapter.clock.now()))

    async def root(self, request: Request) -> Principal:
        """Return who calls, by a key that may do everything; 401 or 403 otherwise."""
        return self._signs(await self.keyring.require_root(request, self.adapter.clock.now()))

    @staticmethod
    def _signs(principal: Principal) -> Principal:
        """Turn away callers for whom no token can be signed: half of these routes answer with one."""
        if not principal.key:
            raise ApiError(401, "Invalid API key")
        return principal

    @asynccontextmanager
    async def spending(self, request: Request, principal: Principal, for_what: str) -> AsyncGenerator[None]:
        """Use a single-use token up for the block; for any other caller this is nothing.

        Retries of one call, which carry the same ``x-trigger-request-idempotency-key``, are one use.

        Raises:
            TokenSpentError: 422; another call has used it.
        """
        if principal.once is None:
            yield
            return
        # A call to another path is another call, whatever it says.
        given = request.headers.get("x-trigger-request-idempotency-key") or str(uuid7())
        call = f"{request.url.path} {given}"
        # Whoever signs may write any number.
        ends = datetime.fromtimestamp(min(principal.ends_at or 0, _LAST_SECOND), UTC)
        token = bytes.fromhex(principal.once)
        async with spending(self.adapter.database, token, call, ends, for_what=for_what):
            yield

    async def read(self, request: Request, limit: int = MOST_BODY_BYTES) -> bytes:
        """Return the raw body; 413 above ``limit``. Upstream also refuses a missing length; we count."""
        try:
            return await read_body(request, limit)
        except BodyTooLargeError as error:
            raise ApiError(413, "Request body too large") from error

    async def job(self, job_id: UUID | None) -> Job | None:
        """Return the job behind one of our ids, None when there is none."""
        return None if job_id is None else await self.adapter.get_job(job_id)

    def own_queue(self, task: str) -> str:
        """Return the queue that a task's jobs are in by themselves."""
        known = self.adapter.registry.find(task)
        return DEFAULT_QUEUE if known is None else known.policy.queue.name


def json_object(raw: bytes, *, empty_ok: bool = False) -> dict[str, Any]:
    """Return the body as an object; an absent one is ``{}`` where the SDK sends none; 400 otherwise."""
    if not raw.strip():
        if empty_ok:
            return {}
        raise ApiError(400, "Request body is empty")
    try:
        return load_object(raw)
    except BadJsonError as error:
        raise ApiError(400, "Invalid JSON", details=str(error)) from error
