"""All routes of the Trigger.dev-compatible API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapter.web.trigger_api.absent import AbsentRoutes
from adapter.web.trigger_api.batches import BatchRoutes
from adapter.web.trigger_api.bulk_actions import BulkActionRoutes
from adapter.web.trigger_api.context import ApiContext
from adapter.web.trigger_api.idempotency_keys import IdempotencyKeyRoutes
from adapter.web.trigger_api.lookups import LookupRoutes
from adapter.web.trigger_api.packets import PacketRoutes
from adapter.web.trigger_api.queues import QueueRoutes
from adapter.web.trigger_api.realtime import RealtimeRoutes
from adapter.web.trigger_api.run_metadata import MetadataRoutes
from adapter.web.trigger_api.run_packets import RunPacketRoutes
from adapter.web.trigger_api.run_traces import TraceRoutes
from adapter.web.trigger_api.runs import RunRoutes
from adapter.web.trigger_api.schedules import ScheduleRoutes
from adapter.web.trigger_api.tasks import TaskRoutes
from adapter.web.trigger_api.tokens import TokenRoutes
from adapter.web.trigger_api.variables import VariableRoutes
from adapter.web.trigger_api.wait_tokens import WaitTokenRoutes

if TYPE_CHECKING:
    from starlette.routing import Route

    from adapter.app import Adapter
    from adapter.web.auth import Keyring


def routes(adapter: Adapter, keyring: Keyring) -> list[Route]:
    """Return the route table."""
    context = ApiContext(adapter, keyring)
    groups = (
        TaskRoutes,
        BatchRoutes,
        RunRoutes,
        MetadataRoutes,
        TraceRoutes,
        RunPacketRoutes,
        BulkActionRoutes,
        IdempotencyKeyRoutes,
        PacketRoutes,
        TokenRoutes,
        LookupRoutes,
        ScheduleRoutes,
        QueueRoutes,
        WaitTokenRoutes,
        RealtimeRoutes,
    )
    # While an upstream has the project, its variables and deployments are what callers mean.
    alone = () if adapter.settings.upstream_url else (VariableRoutes, AbsentRoutes)
    return [route for group in (*groups, *alone) for route in group(context).routes]
