"""Where a child process finds a handler: in the application the command was given, else in its own module."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from adapter.core.hooks import Hooks
from adapter.core.registry import Registry, TaskDefinition
from adapter.core.tasks import Task
from adapter.domain.errors import TaskDefinitionError

_MAIN = "__main__"
#: What a program's own file is called in a child, where `__main__` is the child itself.
_MAIN_THERE = "__adapter_main__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """``app`` is ``pkg.mod:adapter``; without one, ``module`` (or the ``file`` of a script) has the task."""

    task: str
    app: str | None = None
    module: str = ""
    file: str | None = None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Address:
        """Return what `dataclasses.asdict` has written."""
        return cls(**given)


def address_of(definition: TaskDefinition[Any, Any], app: str | None) -> Address:
    """Return where a child will look for a task's handler.

    Raises:
        TaskDefinitionError: it would not find it there.
    """
    if app is not None:
        return Address(task=definition.id, app=app)
    name = str(getattr(definition.handler, "__module__", None))
    module = sys.modules.get(name)
    found = None if module is None else _find(module, definition.id)
    if module is None or found is None or found[0] is not definition:
        raise TaskDefinitionError(
            f"Task {definition.id!r} has isolation='process', but a child process cannot find its handler in"
            f" {name!r}. Declare it with the decorator on a function at the top of a module, or run the"
            " worker with `adapter --app pkg.mod:adapter worker`."
        )
    if name != _MAIN:
        return Address(task=definition.id, module=name)
    spec = getattr(module, "__spec__", None)
    if spec is not None:
        return Address(task=definition.id, module=spec.name)
    file = getattr(module, "__file__", None)
    if file is None:
        msg = f"Task {definition.id!r} has isolation='process' and is declared where there is no file to import."
        raise TaskDefinitionError(msg)
    return Address(task=definition.id, file=file)


def check_addresses(registry: Registry, app: str | None) -> None:
    """See that children will find every task that is isolated.

    Raises:
        TaskDefinitionError: they will not find one.
    """
    for definition in registry:
        if definition.is_isolated:
            address_of(definition, app)


def resolve(address: Address) -> tuple[TaskDefinition[Any, Any], Registry]:
    """Import what the address names, in the child, and return the task with all its hooks, and where it is declared."""
    found = _in_app(address) if address.app is not None else _find(_imported(address), address.task)
    if found is None:
        msg = f"Task {address.task!r} is not found in {address.app or address.module or address.file!r}."
        raise TaskDefinitionError(msg)
    return found


def _in_app(address: Address) -> tuple[TaskDefinition[Any, Any], Registry] | None:
    name, _, attribute = str(address.app).partition(":")
    app: Any = functools.reduce(getattr, (attribute or "adapter").split("."), importlib.import_module(name))
    registry: Registry = app.registry
    found = registry.find(address.task)
    return None if found is None else (_with_hooks(found, registry.hooks), registry)


def _imported(address: Address) -> ModuleType:
    if address.file is None:
        return importlib.import_module(address.module)
    if (known := sys.modules.get(_MAIN_THERE)) is not None:
        return known
    spec = importlib.util.spec_from_file_location(_MAIN_THERE, address.file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[_MAIN_THERE] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _find(module: ModuleType, task: str) -> tuple[TaskDefinition[Any, Any], Registry] | None:
    for value in list(vars(module).values()):
        if isinstance(value, Task) and (found := cast("Task[Any, Any]", value)).id == task:
            return _with_hooks(found.definition, found.registry.hooks), found.registry
    return None


def _with_hooks(definition: TaskDefinition[Any, Any], outer: Hooks) -> TaskDefinition[Any, Any]:
    if definition.hooks is None:
        # The registry of a child is never opened, which would put them together.
        definition.hooks = definition.own_hooks.under(outer)
    return definition
