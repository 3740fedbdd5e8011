"""How a command ends: exit codes, and errors as one line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import IntEnum

from adapter.domain import errors


class ExitCode(IntEnum):
    """What a script can rely on."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    CHECK = 3
    TIMEOUT = 4
    CONFLICT = 5
    NOT_FOUND = 6
    UNAVAILABLE = 7


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILURE: "it failed",
    ExitCode.USAGE: "the command line asks for what cannot be",
    ExitCode.CHECK: "a check failed, or was inconclusive",
    ExitCode.TIMEOUT: "not within the time given",
    ExitCode.CONFLICT: "somebody was faster, or the state does not allow it",
    ExitCode.NOT_FOUND: "there is no such thing",
    ExitCode.UNAVAILABLE: "a remote executor cannot be used",
}

#: The most specific class counts. A class that is not here ends as its base does.
BY_ERROR: dict[type[errors.AdapterError], ExitCode] = {
    errors.AdapterError: ExitCode.FAILURE,
    errors.UnknownExecutorError: ExitCode.USAGE,
    errors.RequestError: ExitCode.USAGE,
    errors.UnknownTaskError: ExitCode.NOT_FOUND,
    errors.TaskDisabledError: ExitCode.CONFLICT,
    errors.JobNotFoundError: ExitCode.NOT_FOUND,
    errors.DuplicateJobError: ExitCode.CONFLICT,
    errors.JobStateError: ExitCode.CONFLICT,
    errors.FlagConflictError: ExitCode.CONFLICT,
    errors.DrillConflictError: ExitCode.CONFLICT,
    errors.FinalizationError: ExitCode.CONFLICT,
    errors.ExecutorFinalizedError: ExitCode.CONFLICT,
    errors.ChangeNotFoundError: ExitCode.NOT_FOUND,
    errors.RecallNotFoundError: ExitCode.NOT_FOUND,
    errors.RecallConflictError: ExitCode.CONFLICT,
    errors.KeyNotFoundError: ExitCode.NOT_FOUND,
    errors.ScheduleNotFoundError: ExitCode.NOT_FOUND,
    errors.SubscriptionNotFoundError: ExitCode.NOT_FOUND,
    errors.ResultTimeoutError: ExitCode.TIMEOUT,
    errors.ExecutorError: ExitCode.UNAVAILABLE,
    errors.RejectedError: ExitCode.FAILURE,
    errors.UnsupportedError: ExitCode.FAILURE,
}


class CommandError(Exception):
    """What only the command line can get wrong; told like any error of ours."""

    def __init__(
        self, message: str, exit_code: ExitCode = ExitCode.USAGE, *, code: str = "usage", hint: str = ""
    ) -> None:
        super().__init__(f"{message} {hint}".rstrip())
        self.exit_code = exit_code
        self.code = code


def first(errors: BaseExceptionGroup[CommandError]) -> CommandError:
    """Return one error of many: what ends first takes the others with it."""
    error = errors.exceptions[0]
    return first(error) if isinstance(error, BaseExceptionGroup) else error


@dataclass(frozen=True, slots=True)
class Told:
    """An error as it is told: one line, a code for programs, and how the process ends."""

    message: str
    code: str
    exit_code: ExitCode


def told(error: Exception) -> Told | None:
    """Return how an error is told, None for one that nobody foresaw."""
    if isinstance(error, CommandError):
        return Told(str(error), error.code, error.exit_code)
    if isinstance(error, errors.AdapterError):
        code = next(BY_ERROR[kind] for kind in type(error).__mro__ if kind in BY_ERROR)
        return Told(str(error), error.code, code)
    return _of_the_database(error)


def _of_the_database(error: Exception) -> Told | None:
    # Whoever raised it has imported it: a command without a database need not.
    if "psycopg" not in sys.modules:
        return None
    import psycopg

    if not isinstance(error, psycopg.Error):
        return None
    # Only the first words: the rest can quote rows.
    words = error.diag.message_primary or str(error).partition("\n")[0]
    if isinstance(error, psycopg.OperationalError):
        return Told(f"The database cannot be reached: {words}", "store", ExitCode.FAILURE)
    return Told(f"The database refused: {type(error).__name__}: {words}", "store", ExitCode.FAILURE)


def epilog() -> str:
    """Return the exit codes as the help shows them."""
    codes = ", ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items())
    return f"Exit codes: {codes}."
