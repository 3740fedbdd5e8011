"""A whole registry in a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from adapter.core.registry import TaskDefinition, problems_of
from adapter.core.tasks import TaskOptions, policy_of
from adapter.domain.cron import Cron
from adapter.domain.durations import parse_duration
from adapter.domain.errors import InvalidArgumentError, InvalidCronError, TaskDefinitionError
from adapter.domain.job import LOCAL
from adapter.domain.task import DEFAULT_QUEUE, Queue, RetryPolicy


def _duration(value: Any) -> Any:
    try:
        return parse_duration(value) if isinstance(value, str) else value
    except InvalidArgumentError as error:
        raise ValueError(str(error)) from None


Duration = Annotated[timedelta, BeforeValidator(_duration)]


def _queue(value: Any) -> Any:
    known = {each.name for each in fields(Queue)}
    if isinstance(value, dict) and (strange := sorted(set(cast("dict[str, Any]", value)) - known)):
        raise ValueError(f"unknown keys {strange}. Known: {sorted(known)}")
    return value  # pyright: ignore[reportUnknownVariableType] - of any type on purpose


class _Entry(BaseModel):
    """One task of a file: the keys of the guides, and those of `TaskOptions` that can be written down."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    id: str | None = Field(default=None, validation_alias=AliasChoices("id", "workerJobType"))
    executor: str = LOCAL
    trigger_task_id: str | None = Field(
        default=None, validation_alias=AliasChoices("triggerTaskId", "trigger_task_id")
    )
    remote_id: dict[str, str] = Field(default_factory=dict[str, str])
    description: str = ""
    retry: RetryPolicy = Field(default=RetryPolicy(), validation_alias=AliasChoices("retry", "retryConfig"))
    queue: Annotated[str | Queue, BeforeValidator(_queue)] = DEFAULT_QUEUE
    priority: int = 0
    max_duration: Duration | None = None
    ttl: Duration | None = None
    keep_for: Duration | None = None
    keep_failed_for: Duration | None = None
    persistent: bool = False
    idempotent: bool = False
    pure: bool = False
    enabled: bool = True
    fallback: str | None = None
    safe_executor: str | None = None
    on_kill: Literal["move", "keep"] = "move"
    on_rejected: str | None = None
    hash_by: str = "tag"
    remote_delay: bool = False
    max_snoozes: int | None = 1000
    cron: str | None = None
    cron_timezone: str | None = None

    def options(self) -> TaskOptions:
        """Return what a declaration in Python would say."""
        left_out = {"id", "trigger_task_id", "cron", "cron_timezone"}
        given: dict[str, Any] = {
            name: getattr(self, name) for name in self.model_fields_set if name not in left_out
        }
        remote = {"trigger": self.trigger_task_id} if self.trigger_task_id else {}
        given |= {"executor": self.executor, "remote_id": {**remote, **self.remote_id}}
        if self.cron is not None:
            given["cron"] = Cron(self.cron, self.cron_timezone)
        return cast("TaskOptions", given)


def definitions_of_file(
    path: Path | str, handlers: Mapping[str, Callable[..., Any]]
) -> Iterable[TaskDefinition[Any, Any]]:
    """Read a registry from a TOML file, one table per task.

    Raises:
        TaskDefinitionError: it cannot be read, or an entry is wrong; all that is wrong, by its place in the file.
    """
    entries = _entries(Path(path))
    named = {entry.id or name for name, entry in entries.items()}
    if strange := sorted(set(handlers) - named):
        raise TaskDefinitionError(
            f"{path}: there are handlers for tasks it does not have: {', '.join(strange)}."
        )
    for name, entry in entries.items():
        task = entry.id or name
        try:
            policy = policy_of(task, runs_locally=task in handlers, options=entry.options())
        except (TaskDefinitionError, InvalidCronError) as error:
            raise TaskDefinitionError(f"{path}: {name}: {error}") from None
        yield TaskDefinition(policy, handlers.get(task))


def _entries(path: Path) -> dict[str, _Entry]:
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TaskDefinitionError(f"{path} cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise TaskDefinitionError(f"{path} is no TOML: {error}.") from None
    entries: dict[str, _Entry] = {}
    wrong: list[str] = []
    for name, table in tables.items():
        if not isinstance(table, dict):
            wrong.append(f"{name}: a table is expected, as [{name}]")
            continue
        try:
            entries[name] = _Entry.model_validate(table)
        except TaskDefinitionError as error:
            wrong.append(f"{name}: {str(error).rstrip('.')}")
        except ValidationError as error:
            wrong += [f"{name}.{problem}" for problem in problems_of(error)]
    if wrong:
        raise TaskDefinitionError(f"{path}: {'; '.join(wrong)}.")
    return entries
