"""All routes of a cutover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapter.web.cutover.context import CutoverContext
from adapter.web.cutover.flags import FlagRoutes

if TYPE_CHECKING:
    from starlette.routing import Route

    from adapter.app import Adapter
    from adapter.web.auth import Keyring


def routes(adapter: Adapter, keyring: Keyring) -> list[Route]:
    """Return the route table; each group is one part of a cutover."""
    context = CutoverContext(adapter, keyring)
    groups = (FlagRoutes(context),)
    return [route for group in groups for route in group.routes]
