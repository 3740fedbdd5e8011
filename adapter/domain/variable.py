"""Environment variables that are kept beside the jobs, for whoever deploys and for handlers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias, get_args

from adapter.domain.errors import InvalidArgumentError

#: As Trigger.dev calls them.
VariableEnvironment: TypeAlias = Literal["dev", "staging", "prod", "preview"]
MOST_VALUE_CHARS = 64 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One variable. The value of a secret one is read in Python, and shown by no route."""

    environment: str
    name: str
    value: str = field(repr=False)
    is_secret: bool
    changed_by: str
    created_at: datetime
    updated_at: datetime


def is_name(name: str) -> bool:
    """Whether a variable can have that name."""
    return _NAME.fullmatch(name) is not None


def check_variable(environment: str, name: str, value: str) -> None:
    """Refuse what cannot be a variable; what is said never has the value.

    Raises:
        InvalidArgumentError: there is no such environment, or the name or the value cannot be one.
    """
    check_environment(environment)
    if not is_name(name):
        msg = f"{name[:80]!r} is no name of a variable: letters, digits and _, up to 256, no digit first."
        raise InvalidArgumentError(msg)
    if len(value) > MOST_VALUE_CHARS or "\0" in value:
        msg = f"The value of {name} is longer than {MOST_VALUE_CHARS} characters, or has one that cannot be stored."
        raise InvalidArgumentError(msg)


def check_environment(environment: str) -> None:
    """Refuse a name of an environment that is none.

    Raises:
        InvalidArgumentError: it is none.
    """
    if environment not in get_args(VariableEnvironment):
        msg = (
            f"An environment is one of {', '.join(get_args(VariableEnvironment))}, not {environment[:40]!r}."
        )
        raise InvalidArgumentError(msg)
