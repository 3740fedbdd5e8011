"""All routes of a cutover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapter.web.cutover.comparing import ComparingRoutes
from adapter.web.cutover.context import CutoverContext
from adapter.web.cutover.finishing import FinishingRoutes
from adapter.web.cutover.looking import LookingRoutes
from adapter.web.cutover.recalls import RecallRoutes
from adapter.web.cutover.schedules import ScheduleRoutes
from adapter.web.cutover.steering import SteeringRoutes

if TYPE_CHECKING:
    from starlette.routing import Route

    from adapter.app import Adapter
    from adapter.web.auth import Keyring


def routes(adapter: Adapter, keyring: Keyring) -> list[Route]:
    """Return the route table; each group is one part of a cutover."""
    context = CutoverContext(adapter, keyring)
    groups = (
        LookingRoutes(context),
        SteeringRoutes(context),
        ComparingRoutes(context),
        RecallRoutes(context),
        ScheduleRoutes(context),
        FinishingRoutes(context),
    )
    return [route for group in groups for route in group.routes]
