"""``/api/v1/projects/{project}/envvars/{slug}`` (Trigger.dev's API contract, 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter.domain.errors import InvalidArgumentError
from adapter.web.errors import ApiError
from adapter.web.trigger_api.context import json_object
from adapter.web.trigger_api.options import Wire, validated

if TYPE_CHECKING:
    from starlette.requests import Request

    from adapter.domain.variable import Variable, VariableEnvironment
    from adapter.web.auth import Principal
    from adapter.web.trigger_api.context import ApiContext

#: What the path may call an environment.
_SLUGS: dict[str, VariableEnvironment] = {
    "dev": "dev",
    "development": "dev",
    "stg": "staging",
    "staging": "staging",
    "prod": "prod",
    "production": "prod",
    "preview": "preview",
}
_MOST_BODY_BYTES = 1024 * 1024
_REDACTED = "<redacted>"


class VariableBody(Wire):
    """A variable to be set."""

    name: str
    value: str
    is_secret: bool = False


class ValueBody(Wire):
    """Another value."""

    value: str


class ImportBody(Wire):
    """Many at once."""

    variables: dict[str, str]
    override: bool = False
    is_secret: bool = False


class VariableRoutes:
    """Environment variables: list, set, import, show, change, remove. One project, whatever the path calls it."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        base = "/api/v1/projects/{project}/envvars/{environment}"
        return [
            Route(base, self.list_variables, methods=["GET"]),
            Route(base, self.create, methods=["POST"]),
            Route(f"{base}/import", self.import_many, methods=["POST"]),
            Route(f"{base}/{{name}}", self.retrieve, methods=["GET"]),
            Route(f"{base}/{{name}}", self.change, methods=["PUT"]),
            Route(f"{base}/{{name}}", self.remove, methods=["DELETE"]),
        ]

    async def list_variables(self, request: Request) -> Response:
        """Answer all variables of an environment, secret ones without their values."""
        await self._context.root(request)
        found = await self._context.adapter.list_variables(environment=_environment(request))
        return JSONResponse([_shown(each) for each in found])

    async def create(self, request: Request) -> Response:
        """Set a variable, whether it is there or not."""
        principal = await self._context.root(request)
        body = validated(VariableBody, await self._object(request))
        return await self._set(
            request, principal, {body.name: body.value}, secret=body.is_secret, override=True
        )

    async def import_many(self, request: Request) -> Response:
        """Set many variables, all or none; what is there already is 400 unless the body says ``override``."""
        principal = await self._context.root(request)
        body = validated(ImportBody, await self._object(request))
        return await self._set(
            request, principal, body.variables, secret=body.is_secret, override=body.override
        )

    async def retrieve(self, request: Request) -> Response:
        """Answer one variable; a secret one without its value."""
        await self._context.root(request)
        found = await self._context.adapter.get_variable(
            request.path_params["name"], environment=_environment(request)
        )
        if found is None:
            raise _not_found()
        return JSONResponse(_shown(found))

    async def change(self, request: Request) -> Response:
        """Give a variable another value."""
        principal = await self._context.root(request)
        body = validated(ValueBody, await self._object(request))
        try:
            changed = await self._context.adapter.change_variable(
                request.path_params["name"],
                body.value,
                environment=_environment(request),
                actor=principal.actor,
            )
        except InvalidArgumentError as error:
            raise ApiError(400, str(error)) from None
        if not changed:
            raise _not_found()
        return JSONResponse({"success": True})

    async def remove(self, request: Request) -> Response:
        """Remove a variable."""
        await self._context.root(request)
        name: str = request.path_params["name"]
        if not await self._context.adapter.delete_variable(name, environment=_environment(request)):
            raise _not_found()
        return JSONResponse({"success": True})

    async def _object(self, request: Request) -> dict[str, Any]:
        return json_object(await self._context.read(request, _MOST_BODY_BYTES))

    async def _set(
        self,
        request: Request,
        principal: Principal,
        variables: dict[str, str],
        *,
        secret: bool,
        override: bool,
    ) -> Response:
        try:
            await self._context.adapter.set_variables(
                variables,
                environment=_environment(request),
                secret=secret,
                override=override,
                actor=principal.actor,
            )
        except InvalidArgumentError as error:
            raise ApiError(400, str(error)) from None
        return JSONResponse({"success": True})


def _environment(request: Request) -> VariableEnvironment:
    found = _SLUGS.get(request.path_params["environment"])
    if found is None:
        raise ApiError(404, "Environment not found")
    return found


def _shown(variable: Variable) -> dict[str, Any]:
    value = _REDACTED if variable.is_secret else variable.value
    return {"name": variable.name, "value": value, "isSecret": variable.is_secret}


def _not_found() -> ApiError:
    return ApiError(404, "Environment variable not found")
