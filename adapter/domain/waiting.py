"""What keeps a job from running, in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

#: docs/operations.md says what each of them means.
WaitCode = Literal[
    "not_routed",
    "due",
    "paused",
    "concurrency_limit",
    "key_limit",
    "rate",
    "key_rate",
    "parent_first",
    "no_worker",
    "no_handler",
    "ahead",
    "ready",
    "children",
    "token",
    "circuit",
    "throttled",
    "submit",
    "remote",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitReason:
    """One thing that keeps a job from running.

    ``text``: a sentence for people. ``since`` and ``until``: when it began, and when it ends by itself, where
    that is known; by the database's clock. ``detail``: its numbers and names, as JSON.
    """

    code: WaitCode
    text: str
    since: datetime | None = None
    until: datetime | None = None
    detail: dict[str, Any] = field(default_factory=dict[str, Any])
