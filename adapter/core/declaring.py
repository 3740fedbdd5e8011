"""Declaring a whole registry at once: from a mapping, or from a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adapter.core.registry import TaskDefinition, policies_from_mapping
from adapter.core.tasks import Task

Handlers = Mapping[str, Callable[..., Any]]


class DeclaresRegistries(ABC):
    """Declares many tasks at once, for whoever can declare one."""

    def declare(
        self, definitions: Mapping[str, Mapping[str, Any]], handlers: Handlers | None = None
    ) -> list[Task[Any, Any]]:
        """Declare a whole registry at once, in the shape the Trigger.dev guides use (`policies_from_mapping`)."""
        known = handlers or {}
        return [
            self._declared(TaskDefinition(policy, known.get(policy.id)))
            for policy in policies_from_mapping(definitions, known)
        ]

    def declare_file(self, path: Path | str, handlers: Handlers | None = None) -> list[Task[Any, Any]]:
        """Declare the registry of a TOML file: one table per task, with the guides' keys or ours.

        ``handlers``: the functions of tasks that can run here, by task.

        Raises:
            TaskDefinitionError: with the place of each fault in the file; nothing is declared then.
        """
        from adapter.core.task_files import definitions_of_file  # noqa: PLC0415 - its schema, only when there is a file

        return [self._declared(each) for each in list(definitions_of_file(path, handlers or {}))]

    @abstractmethod
    def _declared(self, definition: TaskDefinition[Any, Any]) -> Task[Any, Any]:
        """Add a task to the registry."""
