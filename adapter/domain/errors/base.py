"""The root of the tree."""

from __future__ import annotations

from typing import ClassVar


class AdapterError(Exception):
    """The base of every error here.

    ``code`` is stable and meant for programs; the message is for people and says what to do.
    """

    code: ClassVar[str] = "adapter"
