"""What an endpoint takes, read from its own code: the models that it hands its request to.

So the document cannot say anything else than what is done, and no route has to be described twice.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
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

    It looks for ``….body(request, Model)``, ``….query(request, Model)``, ``validated(Model, …)`` and
    ``read_body(Model, …)``.
    """
    function: Any = inspect.unwrap(getattr(endpoint, "__func__", endpoint))
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except OSError:
        # An installation without its sources.
        return Takes()
    names: dict[str, Any] = function.__globals__
    found: dict[str, Model] = {}
    for call in ast.walk(tree):
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
    return Takes(found.get("body"), found.get("query"))
