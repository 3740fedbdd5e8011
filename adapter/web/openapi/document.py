"""OpenAPI 3.1, made of the routes, the models their endpoints take, and what their docstrings say."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from importlib import metadata
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute, Route

from adapter.domain.job import Job
from adapter.web.openapi.reading import Model, Takes, takes

_REF = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
#: The first prefix that fits says what a route is about.
_TAGS = {
    "/api/v1/": "Trigger.dev",
    "/api/v2/": "Trigger.dev",
    "/api/v3/": "Trigger.dev",
    "/realtime/": "Trigger.dev",
    "/api/jobs": "Jobs",
    "/api/admin/cutover/": "Cutover",
    "/api/admin/": "Administration",
    "/api/trigger/": "Webhooks",
}
#: Nobody has to say who they are: what is asked is no secret, or the request carries a proof of its own.
OPEN = frozenset(
    {
        "/livez",
        "/readyz",
        "/api/openapi.json",
        "/api/v1/timezones",
        "/api/v1/waitpoints/tokens/{token}/callback/{secret}",
        "/api/v2/packet-store/{name}",
        "/api/v2/run-packets/{run}/{field}",
        "/api/trigger/webhook",
        "/api/trigger/claim",
    }
)
_ERRORS = {
    "401": "Who calls is not known.",
    "403": "Who calls may not do this.",
    "429": "Too many calls; `x-ratelimit-reset` says until when, in unix milliseconds.",
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string", "description": "For people."},
        "code": {"type": "string", "description": "For programs, where there is one."},
        "problems": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "problem": {"type": "string"}},
            },
        },
    },
}


def document(routes: Iterable[BaseRoute], *, url: str | None = None) -> dict[str, Any]:
    """Return the document of ``routes``; ``url`` is where they are served."""
    served = [(route, takes(route.endpoint)) for route in routes if isinstance(route, Route)]
    models = {model for _, taken in served for model in (taken.body, taken.query) if model is not None}
    ordered = sorted(models, key=lambda model: (model.__name__, model.__module__))
    made, whole = models_json_schema([(model, "validation") for model in ordered], ref_template=_REF)
    references = {model: made[model, "validation"] for model in ordered}
    job = TypeAdapter(Job).json_schema(mode="serialization", ref_template=_REF)
    schemas: dict[str, Any] = {**job.pop("$defs", {}), **whole.get("$defs", {}), "Error": _ERROR}
    job["properties"].pop("deduplicated")
    job["properties"] |= {"run_id": {"type": "string"}}
    schemas["Job"] = job
    writer = _Writer(references, schemas)
    paths: dict[str, Any] = {}
    for route, taken in served:
        path = _PARAMETER.sub(r"{\1}", route.path)
        for method in sorted((route.methods or set[str]()) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = writer.operation(route, path, method, taken)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "adapter",
            "version": metadata.version("trigger-adapter"),
            "description": "Jobs that run here or elsewhere: Trigger.dev's API, and ours for jobs, cutover and keys.",
        },
        **({"servers": [{"url": url}]} if url else {}),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key, or a public token."}
            },
        },
    }


class _Writer:
    """Writes operations, each under a name of its own."""

    def __init__(self, references: dict[Model, Any], schemas: dict[str, Any]) -> None:
        self._references = references
        self._schemas = schemas
        self._names = set[str]()

    def operation(self, route: Route, path: str, method: str, taken: Takes) -> dict[str, Any]:
        """Return one operation."""
        told = inspect.getdoc(route.endpoint) or ""
        summary, _, rest = told.partition("\n\n")
        is_open = path in OPEN
        responses: dict[str, Any] = {"200": _success(path)}
        failures = {} if is_open else dict(_ERRORS)
        failures |= {"400": "The request cannot be read."} if taken.body or taken.query else {}
        failures |= {"404": "There is no such thing, or not for who calls."} if "{" in path else {}
        for status, text in sorted(failures.items()):
            responses[status] = {
                "description": text,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            }
        found: dict[str, Any] = {
            "operationId": self._name(route, method),
            "tags": [next((tag for prefix, tag in _TAGS.items() if path.startswith(prefix)), "Health")],
            "summary": " ".join(summary.split()),
            "responses": responses,
            "security": [] if is_open else [{"key": []}],
        }
        if rest:
            found["description"] = rest
        if parameters := [*_in_path(path), *self._in_query(taken.query)]:
            found["parameters"] = parameters
        if taken.body is not None:
            schema = self._references[taken.body]
            found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        return found

    def _name(self, route: Route, method: str) -> str:
        words: str = getattr(route.endpoint, "__qualname__", route.name)
        plain = "_".join(part.removesuffix("Routes") for part in words.split(".") if part != "<locals>")
        for name in (plain, f"{plain}_{method.lower()}"):
            if name not in self._names:
                break
        else:
            name = f"{plain}_{method.lower()}_{len(self._names)}"
        self._names.add(name)
        return name

    def _in_query(self, model: Model | None) -> Iterable[dict[str, Any]]:
        if model is None:
            return
        schema = self._schemas[self._references[model]["$ref"].rpartition("/")[2]]
        required = set(schema.get("required", ()))
        for name, field in schema.get("properties", {}).items():
            # Several values of one field stand in one parameter, with commas.
            yield {
                "name": name,
                "in": "query",
                "schema": field,
                "required": name in required,
                "explode": False,
            }


def _in_path(path: str) -> Iterable[dict[str, Any]]:
    for name in _PARAMETER.findall(path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _success(path: str) -> dict[str, Any]:
    if path == "/metrics":
        return {"description": "Done.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    if path.endswith("/stream"):
        return {"description": "Events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
    one_job = path.startswith("/api/jobs/{job}") and not path.endswith("/events")
    schema = {"$ref": "#/components/schemas/Job"} if one_job else {}
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}}
