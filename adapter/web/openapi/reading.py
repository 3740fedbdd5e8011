"""What an endpoint takes, read from its own code: the models that it hands its request to.

So the document cannot say anything else than what is done, and no route has to be described twice.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

Model = type[BaseModel]


@dataclass(frozen=True, slots=True)
class Takes:
    """The models of an endpoint's body and query; None where it takes none, or reads it by itself."""

    body: Model | None = None
    query: Model | None = None


def takes(endpoint: Callable[..., Any]) -> Takes:
    """Return what an endpoint reads its request into.

    It looks, also in the methods of its group that it calls, for ``….body(request, Model)``, ``….query(request, Model)``, ``validated(Model, …)`` and
    ``read_body(Model, …)``.
    """
    found: dict[str, Model] = {}
    group: object = getattr(endpoint, "__self__", None)
    for function in (endpoint, *_own_steps(endpoint, group)):
        found = _models(function) | found
    return Takes(found.get("body"), found.get("query"))


def _models(function: Callable[..., Any]) -> dict[str, Model]:
    names: dict[str, Any] = _plain(function).__globals__
    found: dict[str, Model] = {}
    for call in _calls(function):
        match call:
            case ast.Call(func=ast.Attribute(attr="body" | "query" as kind), args=[_, ast.Name(id=name), *_]):
                pass
            case ast.Call(func=ast.Name(id="validated" | "read_body"), args=[ast.Name(id=name), *_]):
                kind = "body"
            case _:
                continue
        model = names.get(name)
        if isinstance(model, type) and issubclass(model, BaseModel):
            found[kind] = model
    return found


def _own_steps(endpoint: Callable[..., Any], group: object) -> Iterator[Callable[..., Any]]:
    """Yield the methods of its own group that an endpoint calls: several may share their reading."""
    for call in _calls(endpoint):
        match call.func:
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if inspect.isfunction(
                step := inspect.getattr_static(group.__class__, name, None)
            ):
                yield step
            case _:
                pass


def _calls(function: Callable[..., Any]) -> list[ast.Call]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(_plain(function))))
    except OSError:
        # An installation without its sources.
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _plain(function: Callable[..., Any]) -> Any:
    return inspect.unwrap(getattr(function, "__func__", function))
