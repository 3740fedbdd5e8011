"""Delivering what the outbox holds: by leases, each receiver on its own, again for hours.

A receiver may get an event twice and in any order; the event's id is the same each time. One that takes
nothing is left alone for a while, longer each time, and keeps nobody else waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from adapter.core.loops import Poller
from adapter.core.parts import Parts
from adapter.core.webhooks.bodies import message, started_data
from adapter.domain.errors import AdapterError, StoreError
from adapter.domain.job import Job
from adapter.domain.webhooks import ROUNDS_TO_OPEN, wait_after
from adapter.executors.webhook_posts import Posted, WebhookPoster
from adapter.store import webhook_outbox as outbox
from adapter.store.wakeup import FINISHED
from adapter.store.webhook_outbox import Outgoing, Settled

logger = logging.getLogger("adapter.outgoing")

#: How old the knowledge may be of whether anybody is subscribed.
_FRESH_S = 1.0
#: Starts that wait to be written; beyond that the oldest are dropped, as they are only news.
_MOST_STARTS = 10_000


class Deliverer:
    """Any number of processes may run it."""

    def __init__(
        self,
        parts: Parts,
        poster: WebhookPoster,
        *,
        project: str,
        link: str,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._database = parts.database
        self._observers = parts.observers
        self._clock = parts.clock
        self.poster = poster
        self._project = project
        self._link = link
        self._chance = chance
        self._looked_at: float | None = None
        self._anybody = False
        self._starts = deque[dict[str, Any]](maxlen=_MOST_STARTS)
        self._sending: dict[UUID, asyncio.Task[None]] = {}
        self.loop = Poller("outgoing webhooks", self._work, parts.clock, FINISHED)

    async def look(self) -> None:
        """Find out whether anybody is subscribed; from then on what ends in this process is written down."""
        async with self._database.connection() as conn:
            self._anybody, starts = await outbox.heard(conn, self._database.schema)
        self._looked_at = self._clock.monotonic()
        self._database.schema.tell(outbox.TOLD if self._anybody else "")
        self._observers.on_started(self._begun, wanted=starts)

    def _begun(self, job: Job) -> None:
        self._starts.append(started_data(job))
        self.loop.heard({FINISHED})

    async def run_once(self) -> int:
        """Send what is due and wait until that is settled; returns how many events were in hand."""
        await self.look()
        found = await self._begin()
        if self._sending:
            await asyncio.wait(set(self._sending.values()))
        return found

    async def _work(self) -> int:
        if self._looked_at is None or self._clock.monotonic() - self._looked_at >= _FRESH_S:
            await self.look()
        return await self._begin() if self._anybody else 0

    async def _begin(self) -> int:
        """Take what is due and begin to send it; a receiver that is slow is waited for by nobody."""
        schema = self._database.schema
        async with self._database.connection() as conn:
            if self._starts:
                begun = list(self._starts)
                await outbox.started(conn, schema, begun)
                for _ in begun:
                    self._starts.popleft()
            taken = await outbox.take(conn, schema, list(self._sending), rounds=ROUNDS_TO_OPEN)
        by_receiver = defaultdict[UUID, list[Outgoing]](list)
        for each in taken:
            by_receiver[each.subscription_id].append(each)
        for subscription_id, events in by_receiver.items():
            task = asyncio.create_task(self._send(events), name=f"webhooks {subscription_id}")
            self._sending[subscription_id] = task
            task.add_done_callback(lambda _, ended=subscription_id: self._sent(ended))
        return len(taken)

    def _sent(self, subscription_id: UUID) -> None:
        self._sending.pop(subscription_id, None)
        # There may be more where these came from.
        self.loop.heard({FINISHED})

    async def _send(self, events: list[Outgoing]) -> None:
        try:
            settled = await asyncio.gather(*map(self._deliver, events))
            async with self._database.connection() as conn:
                receivers = await outbox.settle(conn, self._database.schema, settled, rounds=ROUNDS_TO_OPEN)
        except StoreError as error:
            # They are sent once more when their lease is over.
            logger.warning("deliveries could not be settled: %s", type(error).__name__)
            return
        taken = sum(each.ok for each in settled)
        self._observers.counts["webhook_sent"] += taken
        self._observers.counts["webhook_failed"] += len(settled) - taken
        for row in receivers:
            if row["gone"]:
                logger.error("subscription %s ends: its receiver answered 410 Gone", row["id"])
            elif row["failures"] == ROUNDS_TO_OPEN:
                logger.warning("subscription %s takes nothing and is left alone for a while", row["id"])

    def write(
        self, event: str, data: Mapping[str, Any], secrets: Sequence[str]
    ) -> tuple[bytes, dict[str, str]]:
        """Return the body and the headers of an event; see `message`."""
        return message(event, data, secrets, self._clock.now(), project=self._project, link=self._link)

    async def _deliver(self, event: Outgoing) -> Settled:
        try:
            body, headers = self.write(event.event, event.data, event.secrets)
        except (AdapterError, ValueError, KeyError) as error:
            logger.exception("a webhook could not be written", extra={"delivery": str(event.id)})
            return Settled(event.id, event.attempts, ok=False, error=f"it could not be written: {error}")
        posted = await self.poster.post(event.url, body, headers, allow_private=event.allow_private)
        return self._settled(event, posted)

    def _settled(self, event: Outgoing, posted: Posted) -> Settled:
        if posted.is_taken:
            return Settled(event.id, event.attempts, ok=True, status=posted.status)
        gone = posted.status == 410
        wait = None if gone else wait_after(event.attempts, self._chance(), posted.retry_after_s)
        if wait is None:
            logger.error("a webhook is given up: %s", posted.error, extra={"delivery": str(event.id)})
        return Settled(
            event.id,
            event.attempts,
            ok=False,
            wait_s=wait,
            gone=gone,
            status=posted.status,
            error=posted.error,
        )

    async def drain(self, deadline: timedelta = timedelta(seconds=5)) -> None:
        """Write what has begun, and wait for what is being sent; what is not settled by then is sent again."""
        if self._starts:
            with contextlib.suppress(StoreError):
                async with self._database.connection() as conn:
                    await outbox.started(conn, self._database.schema, list(self._starts))
                self._starts.clear()
        left = set(self._sending.values())
        if left:
            await asyncio.wait(left, timeout=deadline.total_seconds())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
