"""The verbs by which people say who is told how jobs go, and see what became of it."""

from __future__ import annotations

import base64
import secrets as randomness
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from adapter.core.webhooks.bodies import trial_data
from adapter.core.webhooks.delivering import Deliverer
from adapter.domain.clock import Clock
from adapter.domain.errors import ConfigurationError, InvalidArgumentError, SubscriptionNotFoundError
from adapter.domain.signing import signing_key
from adapter.domain.webhooks import (
    MOST_SECRETS,
    State,
    WebhookDelivery,
    WebhookSubscription,
    check_events,
    check_url,
    event_id,
)
from adapter.executors.webhook_posts import Posted
from adapter.store import webhook_outbox as outbox
from adapter.store import webhook_subscriptions as store
from adapter.store.database import Database
from adapter.store.wakeup import FINISHED, Notifier

_MOST_LISTED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTest:
    """What a receiver said to a test event, and what was sent: good for asking once more with curl."""

    event: str
    url: str
    body: str
    headers: dict[str, str]
    posted: Posted


class TellsOthers:
    """Mixed into the adapter: subscriptions to how jobs go."""

    clock: Clock
    database: Database
    deliverer: Deliverer
    notifier: Notifier

    async def subscribe_webhook(
        self,
        url: str,
        events: Sequence[str] = (),
        *,
        name: str | None = None,
        secret: str | None = None,
        allow_private: bool = False,
    ) -> WebhookSubscription:
        """Tell ``url`` of ``events`` (see `adapter.domain.webhooks.EVENTS`; none named: all but the alert).

        Every process begins to write them down within a second. ``name``: a subscription of this name is
        changed instead of made. ``secret``: signs what is sent; one is made when it is not given, and
        `WebhookSubscription.secrets` of the answer is the only place that shows it. ``allow_private``: the
        receiver may be inside the own network.

        Raises:
            InvalidArgumentError: the URL, an event or the secret cannot be.
        """
        events, secret = check_events(tuple(events)), _secret(secret)
        id_ = UUID(str(uuid7()))
        async with self.database.connection() as conn:
            schema = self.database.schema
            await store.put(
                conn,
                schema,
                id_=id_,
                name=name,
                url=check_url(url),
                events=events,
                secrets=[secret],
                allow_private=allow_private,
            )
            made = next(
                each
                for each in await store.entries(conn, schema)
                if each.id == id_ or (name is not None and each.name == name)
            )
        await self._subscriptions_changed()
        return made

    async def webhook_subscriptions(self) -> list[WebhookSubscription]:
        """Return everybody who is told, with how much waits for them and was given up; without secrets."""
        async with self.database.connection() as conn:
            found = await store.entries(conn, self.database.schema)
        return [replace(each, secrets=()) for each in found]

    async def change_webhook(
        self,
        subscription_id: UUID,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        active: bool | None = None,
    ) -> WebhookSubscription:
        """Change where, of what, or whether somebody is told. ``active`` True also ends a pause of their own doing.

        Raises:
            SubscriptionNotFoundError, InvalidArgumentError
        """
        changes: dict[str, Any] = {"active": active}
        if url is not None:
            changes["url"] = check_url(url)
        if events is not None:
            changes["events"] = list(check_events(tuple(events)))
        async with self.database.connection() as conn:
            if not await store.change(conn, self.database.schema, subscription_id, **changes):
                raise SubscriptionNotFoundError(subscription_id)
        await self._subscriptions_changed()
        return replace(await self._subscription(subscription_id), secrets=())

    async def rotate_webhook_secret(
        self, subscription_id: UUID, *, secret: str | None = None, drop_old: bool = False
    ) -> WebhookSubscription:
        """Sign with a new secret too, of which the answer shows the only copy; with the old ones until they are dropped.

        ``drop_old``: make none, and keep only the newest. An alert has room for one signature: the newest
        secret makes it.

        Raises:
            SubscriptionNotFoundError, InvalidArgumentError
        """
        new = None if drop_old else _secret(secret)
        async with self.database.connection() as conn:
            schema = self.database.schema
            if not await store.rotate(
                conn, schema, subscription_id, new, most=1 if drop_old else MOST_SECRETS
            ):
                raise SubscriptionNotFoundError(subscription_id)
        found = await self._subscription(subscription_id)
        return replace(found, secrets=() if drop_old else found.secrets[:1])

    async def unsubscribe_webhook(self, subscription_id: UUID) -> None:
        """Tell somebody nothing more; what waits for them, and what was given up, goes too.

        Raises:
            SubscriptionNotFoundError
        """
        async with self.database.connection() as conn:
            if not await store.remove(conn, self.database.schema, subscription_id):
                raise SubscriptionNotFoundError(subscription_id)
        await self._subscriptions_changed()

    async def webhook_deliveries(
        self,
        subscription_id: UUID | None = None,
        *,
        state: State | None = None,
        before: UUID | None = None,
        limit: int = 50,
    ) -> list[WebhookDelivery]:
        """Return what was told or is to be, the newest first. ``before``: the id of the last one of the page before.

        Raises:
            InvalidArgumentError: the limit is not 1 to 1000.
        """
        if not 1 <= limit <= _MOST_LISTED:
            raise InvalidArgumentError(f"limit must be from 1 to {_MOST_LISTED}.")
        async with self.database.connection() as conn:
            rows = await outbox.deliveries(
                conn,
                self.database.schema,
                subscription=subscription_id,
                state=state,
                before=before,
                limit=limit,
            )
        return [_delivery(row) for row in rows]

    async def redrive_webhooks(
        self, subscription_id: UUID | None = None, *, deliveries: Sequence[UUID] | None = None
    ) -> int:
        """Offer dead deliveries once more, all tries anew, with the ids they had; returns how many."""
        async with self.database.connection() as conn:
            count = await outbox.redrive(conn, self.database.schema, subscription_id, deliveries)
        self.notifier.poke(FINISHED)
        return count

    async def test_webhook(
        self,
        to: str | UUID,
        *,
        event: str = "RUN_COMPLETED",
        secret: str | None = None,
        allow_private: bool = False,
    ) -> WebhookTest:
        """Send one signed event of a job that never was, at once, and return what came back.

        ``to``: a URL, or a subscription, whose URL and secrets are used.

        Raises:
            InvalidArgumentError, SubscriptionNotFoundError
        """
        (event,) = check_events((event,))
        if isinstance(to, UUID):
            found = await self._subscription(to)
            url, secrets, allow_private = found.url, found.secrets, found.allow_private
        else:
            url, secrets = check_url(to), (_secret(secret),)
        body, headers = self.deliverer.write(event, trial_data(self.clock.now(), event), secrets)
        posted = await self.deliverer.poster.post(url, body, headers, allow_private=allow_private)
        return WebhookTest(event=event, url=url, body=body.decode(), headers=headers, posted=posted)

    async def _subscription(self, subscription_id: UUID) -> WebhookSubscription:
        async with self.database.connection() as conn:
            found = await store.entries(conn, self.database.schema, subscription_id)
        if not found:
            raise SubscriptionNotFoundError(subscription_id)
        return found[0]

    async def _subscriptions_changed(self) -> None:
        await self.deliverer.look()
        self.notifier.poke(FINISHED)


def _secret(given: str | None) -> str:
    if given is None:
        return "whsec_" + base64.b64encode(randomness.token_bytes(32)).decode()
    try:
        signing_key(given)
    except ConfigurationError as error:
        raise InvalidArgumentError(str(error)) from None
    return given


def _delivery(row: dict[str, Any]) -> WebhookDelivery:
    data: dict[str, Any] = row.pop("data")
    return WebhookDelivery(**row, event_id=event_id(row["event"], data), job_id=UUID(data["id"]))
