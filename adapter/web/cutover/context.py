"""What every route of a cutover needs: the adapter, who calls and whether they may, the body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from adapter.web.bodies import BadJsonError, load_object, read_body
from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.app import Adapter
    from adapter.web.auth import Keyring, Principal

#: Where these routes are.
PREFIX = "/api/admin/cutover"
#: How changes made here are told from others in the audit.
SOURCE = "http"
_RESOURCE = ("cutover", None)
_MOST_BODY_BYTES = 256 * 1024


class Body(BaseModel):
    """A request's body: what it does not name is refused. Who asks is never in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_Body = TypeVar("_Body", bound=Body)


@dataclass(frozen=True, slots=True)
class CutoverContext:
    """Shared by the route groups of one application."""

    adapter: Adapter
    keyring: Keyring

    def reader(self, request: Request) -> Principal:
        """Return who asks, by a root key or a token that may ``read:cutover``; 401 or 403 otherwise."""
        return self._caller(request, "read")

    def changer(self, request: Request) -> Principal:
        """Return who changes, by a root key or a token that may ``admin:cutover``; 401 or 403 otherwise."""
        return self._caller(request, "admin")

    def _caller(self, request: Request, action: str) -> Principal:
        principal = self.keyring.authenticate(request, self.adapter.clock.now())
        principal.require(action, _RESOURCE)
        return principal

    async def body(self, request: Request, model: type[_Body]) -> _Body:
        """Return the body.

        Raises:
            ApiError: 400, naming the paths and what is wrong there, never the values.
            BodyTooLargeError: 413.
        """
        raw = await read_body(request, _MOST_BODY_BYTES)
        try:
            return model.model_validate(load_object(raw))
        except BadJsonError as error:
            raise ApiError(400, f"The body is no JSON object: {error}.", code="invalid_body") from None
        except ValidationError as error:
            problems = [
                {"path": ".".join(map(str, each["loc"])), "problem": each["msg"]} for each in error.errors()
            ]
            said = "; ".join(f"{each['path'] or 'body'}: {each['problem']}" for each in problems)
            raise ApiError(
                400, f"The body is not valid: {said[:1000]}", code="invalid_body", problems=problems
            ) from None
