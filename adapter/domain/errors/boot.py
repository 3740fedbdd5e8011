"""What stops a boot."""

from __future__ import annotations

from adapter.domain.errors.base import AdapterError


class ConfigurationError(AdapterError):
    """The settings or the registry contradict themselves; the process must not start."""

    code = "configuration"


class UnknownExecutorError(ConfigurationError):
    """An executor was named that this adapter does not have."""

    code = "unknown_executor"

    def __init__(self, name: str, known: list[str], where: str) -> None:
        super().__init__(
            f"{where} names executor {name!r}, which is not configured. Known: {', '.join(known)}."
        )
        self.name = name


class TaskDefinitionError(ConfigurationError):
    """A task is declared wrongly, or twice."""

    code = "task_definition"


class NotOpenError(ConfigurationError):
    """The adapter was used before it was opened, or after it was closed."""

    code = "not_open"

    def __init__(self) -> None:
        super().__init__(
            "The adapter is not open. Use `async with adapter:` or `await adapter.open()` first."
        )
