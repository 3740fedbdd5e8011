"""What is true of this process: the event loop of its tries, if it is a child of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

loop: asyncio.AbstractEventLoop | None = None
