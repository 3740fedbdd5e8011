"""Declaring tasks: one by one, or a whole registry from a mapping or a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, Unpack, overload

from pydantic import ValidationError

from adapter.core.registry import TaskDefinition, problems_of
from adapter.core.tasks import BatchDecorator, Task, TaskDecorator, TaskOptions, hooks_of, policy_of
from adapter.domain.errors import TaskDefinitionError
from adapter.domain.job import LOCAL, executor_name
from adapter.domain.task import Batch, RetryPolicy, TaskPolicy

P = TypeVar("P")
Handlers = Mapping[str, Callable[..., Any]]


class DeclaresTasks(ABC):
    """Declares tasks, for whoever has a registry to add them to."""

    @overload
    def task(self, task: str, *, batch: Batch, **options: Unpack[TaskOptions]) -> BatchDecorator: ...
    @overload
    def task(self, task: str, **options: Unpack[TaskOptions]) -> TaskDecorator: ...
    def task(
        self, task: str, *, batch: Batch | None = None, **options: Unpack[TaskOptions]
    ) -> TaskDecorator | BatchDecorator:
        """Declare a task whose handler is here: ``@adapter.task("send-email", queue=Queue("mail"))``.

        ``batch``: one call for several jobs; the handler takes ``list[BatchItem[Payload]]``.
        """

        def declare(handler: Callable[..., Any]) -> Task[Any, Any]:
            policy = policy_of(task, runs_locally=True, options=options, batch=batch)
            return self._declared(TaskDefinition(policy, handler, own_hooks=hooks_of(options)))

        return TaskDecorator(declare) if batch is None else BatchDecorator(declare)

    @overload
    def remote_task(self, task: str, *, payload: type[P], **options: Unpack[TaskOptions]) -> Task[P, Any]: ...
    @overload
    def remote_task(self, task: str, **options: Unpack[TaskOptions]) -> Task[Any, Any]: ...
    def remote_task(self, task: str, *, payload: Any = Any, **options: Unpack[TaskOptions]) -> Task[Any, Any]:
        """Declare a task that only other executors can run."""
        policy = policy_of(task, runs_locally=False, options=options)
        return self._declared(TaskDefinition(policy, None, payload))

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


def policies_from_mapping(
    definitions: Mapping[str, Mapping[str, Any]], handlers: Mapping[str, Any]
) -> Iterable[TaskPolicy]:
    """Read a registry written as one mapping, in the shape of the Trigger.dev guides.

    ``{"processLargeDataset": {"executor": "trigger", "triggerTaskId": "process-large-dataset",
    "description": "...", "retryConfig": {"maxAttempts": 3, ...}}}``; ``workerJobType`` names the local
    task where it differs. ``handlers`` says which of them can run here.

    Raises:
        TaskDefinitionError: a key is not known, or a value does not fit.
    """
    known = {"executor", "triggerTaskId", "workerJobType", "description", "retryConfig"}
    for name, definition in definitions.items():
        if strange := sorted(set(definition) - known):
            msg = f"Task {name!r}: unknown keys {strange}. Known: {sorted(known)}."
            raise TaskDefinitionError(msg)
        try:
            retry = RetryPolicy.model_validate(definition.get("retryConfig", {}))
        except ValidationError as error:
            msg = f"Task {name!r}: retryConfig: {'; '.join(problems_of(error))}."
            raise TaskDefinitionError(msg) from None
        remote = definition.get("triggerTaskId")
        task = str(definition.get("workerJobType", name))
        executor = executor_name(str(definition.get("executor", LOCAL)))
        remote_ids = {"trigger": str(remote)} if remote else {}
        if executor != LOCAL:
            remote_ids.setdefault(executor, task)
        yield TaskPolicy(
            id=task,
            runs_locally=task in handlers,
            description=str(definition.get("description", "")),
            executor=executor,
            remote_ids=remote_ids,
            retry=retry,
        )
