"""What a route of ours needs beside the adapter: who calls, the body and the query as models, the answer."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_jsonable_python
from starlette.responses import JSONResponse

from adapter.domain.errors import UnknownExecutorError
from adapter.web.bodies import BadJsonError, is_text, load_object, read_body
from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from starlette.requests import Request

    from adapter.app import Adapter
    from adapter.web.auth import Keyring, Principal

_MOST_BODY_BYTES = 256 * 1024


class Body(BaseModel):
    """A request's body: what it does not name is refused. Who asks is never in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_Body = TypeVar("_Body", bound=Body)


@dataclass(frozen=True, slots=True)
class Asking:
    """Shared by the route groups of one application."""

    adapter: Adapter
    keyring: Keyring

    async def caller(self, request: Request) -> Principal:
        """Return who calls; errors: see `Keyring.authenticate`."""
        return await self.keyring.authenticate(request, self.adapter.clock.now())

    async def root(self, request: Request) -> Principal:
        """Return who calls and may do everything; errors: see `Keyring.require_root`."""
        return await self.keyring.require_root(request, self.adapter.clock.now())

    async def body(
        self,
        request: Request,
        model: type[_Body],
        *,
        most: int = _MOST_BODY_BYTES,
        empty_ok: bool = False,
    ) -> _Body:
        """Return the body; with ``empty_ok`` an absent one says nothing.

        Raises:
            ApiError: 400, naming the paths and what is wrong there, never the values.
            BodyTooLargeError: 413.
        """
        raw = await read_body(request, most)
        if empty_ok and not raw.strip():
            raw = b"{}"
        try:
            return _validated(model, load_object(raw), "body")
        except BadJsonError as error:
            raise ApiError(400, f"The body is no JSON object: {error}.", code="invalid_body") from None

    def query(self, request: Request, model: type[_Body]) -> _Body:
        """Return the query; errors as for `body`."""
        given = dict(request.query_params)
        if not all(map(is_text, given.values())):
            raise ApiError(400, "The query holds what cannot be stored.", code="invalid_query")
        return _validated(model, given, "query")

    @contextmanager
    def asking(self) -> Generator[None]:
        """Answer 400 where an executor that nobody knows is the call's fault, not the configuration's."""
        try:
            yield
        except UnknownExecutorError as error:
            raise ApiError(400, str(error), code=error.code) from None


def answer(value: Any, headers: Mapping[str, str] | None = None, *, status: int = 200) -> JSONResponse:
    """Return what a verb returned, as JSON."""
    return JSONResponse(to_jsonable_python(value), status, headers=headers)


def _validated(model: type[_Body], value: Any, where: str) -> _Body:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [
            {"path": ".".join(map(str, each["loc"])), "problem": each["msg"]} for each in error.errors()
        ]
        said = "; ".join(f"{each['path'] or where}: {each['problem']}" for each in problems)
        raise ApiError(
            400, f"The {where} is not valid: {said[:1000]}", code=f"invalid_{where}", problems=problems
        ) from None
