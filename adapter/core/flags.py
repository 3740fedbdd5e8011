"""The flags as one process sees them: environment, mounted file, store; never older than a second."""

from __future__ import annotations

import difflib
import logging
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from adapter.core.registry import Registry
from adapter.domain.clock import Clock
from adapter.domain.errors import ConfigurationError, UnknownExecutorError
from adapter.domain.job import LOCAL, executor_name
from adapter.domain.routing import EVERY_TASK, Flags, environment_spelling
from adapter.store.flags import read
from adapter.store.steps import Steps

logger = logging.getLogger("adapter.flags")

#: How old a snapshot may be that a scheduling call decides with.
OLDEST_S = 1.0


class FlagSource:
    """Keeps a snapshot of the flags and says when it is too old."""

    def __init__(
        self,
        registry: Registry,
        executors: list[str],
        clock: Clock,
        *,
        environment: Mapping[str, str],
        file: Path | None = None,
    ) -> None:
        self._registry = registry
        self._executors = executors
        self._clock = clock
        self._environment = environment
        self._file = file
        self._file_seen: tuple[int, int, int] | None = None
        self._file_given: dict[str, str] = {}
        self._snapshot: Flags | None = None
        self._read_at = 0.0

    def check(self) -> None:
        """Read the environment's and the file's switches once, strictly.

        Raises:
            UnknownExecutorError: one of them names an executor that is not configured.
            ConfigurationError: the file cannot be read.
        """
        self._switches(self._environment, "the environment")
        if self._file is not None:
            self._file_given = self._read_file(self._file)
            self._file_seen = _stamp(self._file)

    def _switches(self, given: Mapping[str, str], where: str) -> dict[str, str]:
        spelled = {environment_spelling(each.id): each.id for each in self._registry}
        switches: dict[str, str] = {}
        for name, value in given.items():
            if not value.strip():
                continue
            executor = executor_name(value.strip())
            if executor != LOCAL and executor not in self._executors:
                raise UnknownExecutorError(
                    executor, [LOCAL, *self._executors], f"A kill switch in {where} ({name})"
                )
            scope = EVERY_TASK if name == EVERY_TASK else spelled.get(environment_spelling(name))
            if scope is not None:
                switches[scope] = executor
        return switches

    def unmatched(self, advertised: frozenset[str]) -> dict[str, list[str]]:
        """Return the task switches that match no task here nor any advertised one, with the nearest names."""
        spelled = {environment_spelling(task) for task in {each.id for each in self._registry} | advertised}
        given = {**self._environment, **self._file_given}
        return {
            name: difflib.get_close_matches(environment_spelling(name), spelled, n=3)
            for name, value in given.items()
            if name != EVERY_TASK and value.strip() and environment_spelling(name) not in spelled
        }

    def _read_file(self, file: Path) -> dict[str, str]:
        """Read lines of TOML: ``"*" = "local"`` or ``process-large-dataset = "local"``."""
        if not file.exists():
            return {}
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            msg = f"The kill switch file {file} cannot be read: {error}"
            raise ConfigurationError(msg) from error
        wrong = [name for name, value in content.items() if not isinstance(value, str)]
        if wrong:
            msg = f"The kill switch file {file}: {wrong} must be the name of an executor."
            raise ConfigurationError(msg)
        given = {name: str(value) for name, value in content.items()}
        self._switches(given, str(file))
        return given

    def _refresh_file(self) -> None:
        if self._file is None or _stamp(self._file) == self._file_seen:
            return
        self._file_seen = _stamp(self._file)
        try:
            self._file_given = self._read_file(self._file)
        except ConfigurationError as error:
            # A running process keeps what it last read; a boot would refuse.
            logger.error("kill switches of the file stay as they were: %s", error)  # noqa: TRY400 - the message is all

    @property
    def fresh(self) -> Flags | None:
        """The snapshot if it is young enough to decide with, else None."""
        if self._snapshot is None or self._clock.monotonic() - self._read_at > OLDEST_S:
            return None
        return self._snapshot

    def forget(self) -> None:
        """Drop the snapshot: somebody said that the flags have changed."""
        self._snapshot = None

    def reading(self, *, keep: bool = True) -> Steps[Flags]:
        """Read the flags anew, on whatever connection carries the steps out.

        ``keep=False`` in a caller's transaction: what its snapshot shows may be old, and is for it alone.
        """
        began = self._clock.monotonic()
        stored = yield from read()
        self._refresh_file()
        snapshot = self.complete(stored)
        if keep:
            self._snapshot, self._read_at = snapshot, began
        return snapshot

    def complete(self, stored: Flags) -> Flags:
        """Add the switches of the environment and the file."""
        return replace(
            stored,
            kill_environment=self._switches(self._environment, "the environment"),
            kill_file=self._switches(self._file_given, "the kill switch file"),
        )


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        seen = file.stat()
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino
