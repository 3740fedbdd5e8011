"""Who is told how jobs go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString
from uuid import UUID

from adapter.domain.webhooks import WebhookSubscription
from adapter.store.database import Connection, Schema, fetch

_MADE: LiteralString = """
INSERT INTO {s}.webhook_subscriptions AS w (id, name, url, events, secrets, allow_private)
VALUES (%(id)s, %(name)s, %(url)s, %(events)s, %(secrets)s, %(allow_private)s)
ON CONFLICT (name) DO UPDATE SET url = EXCLUDED.url, events = EXCLUDED.events, secrets = EXCLUDED.secrets,
  allow_private = EXCLUDED.allow_private, active = true, disabled_because = NULL, updated_at = now()
WHERE (w.url, w.events, w.secrets, w.allow_private, w.active) IS DISTINCT FROM
  (EXCLUDED.url, EXCLUDED.events, EXCLUDED.secrets, EXCLUDED.allow_private, true)
"""

_CHANGE: LiteralString = """
UPDATE {s}.webhook_subscriptions SET url = COALESCE(%(url)s, url), events = COALESCE(%(events)s, events),
  active = COALESCE(%(active)s, active), updated_at = now(),
  disabled_because = CASE WHEN %(active)s THEN NULL ELSE disabled_because END,
  failures = CASE WHEN %(active)s THEN 0 ELSE failures END, open_until = CASE WHEN NOT COALESCE(%(active)s, false) THEN open_until END
WHERE id = %(id)s RETURNING id
"""

_ROTATE: LiteralString = """
UPDATE {s}.webhook_subscriptions SET updated_at = now(),
  secrets = (CASE WHEN %(secret)s::text IS NULL THEN secrets ELSE ARRAY[%(secret)s::text] || array_remove(secrets, %(secret)s) END)[1:%(most)s]
WHERE id = %(id)s RETURNING id
"""

_REMOVE: LiteralString = """
WITH gone AS (DELETE FROM {s}.webhook_subscriptions WHERE id = %(id)s RETURNING id), with_it AS (
  DELETE FROM {s}.webhook_deliveries d USING gone WHERE d.subscription_id = gone.id)
SELECT id FROM gone
"""

_LIST: LiteralString = """
SELECT w.*, c.pending, c.dead FROM {s}.webhook_subscriptions w CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE state = 'pending') AS pending, count(*) FILTER (WHERE state = 'dead') AS dead
  FROM {s}.webhook_deliveries d WHERE d.subscription_id = w.id AND d.state <> 'delivered') AS c
WHERE %(id)s::uuid IS NULL OR w.id = %(id)s ORDER BY w.created_at, w.id
"""


async def put(
    conn: Connection,
    schema: Schema,
    *,
    id_: UUID,
    name: str | None,
    url: str,
    events: Sequence[str],
    secrets: Sequence[str],
    allow_private: bool,
) -> None:
    """Make a subscription, or make the one of that name say the same."""
    parameters = {
        "id": id_,
        "name": name,
        "url": url,
        "events": list(events),
        "secrets": list(secrets),
        "allow_private": allow_private,
    }
    await fetch(conn, schema, _MADE, parameters)


async def entries(conn: Connection, schema: Schema, id_: UUID | None = None) -> list[WebhookSubscription]:
    """Return every subscription, or the one, secrets and all."""
    return [_subscription(row) for row in await fetch(conn, schema, _LIST, {"id": id_})]


def _subscription(row: dict[str, Any]) -> WebhookSubscription:
    events, secrets = tuple(row.pop("events")), tuple(row.pop("secrets"))
    return WebhookSubscription(**row, events=events, secrets=secrets, secret_count=len(secrets))


async def change(conn: Connection, schema: Schema, id_: UUID, **changes: Any) -> bool:
    """Change ``url``, ``events`` or ``active``; None leaves one as it is. False: there is no such subscription."""
    return bool(
        await fetch(conn, schema, _CHANGE, {"id": id_, "url": None, "events": None, "active": None} | changes)
    )


async def rotate(conn: Connection, schema: Schema, id_: UUID, secret: str | None, *, most: int) -> bool:
    """Put a secret before the others, of which ``most`` stay in all; without one only drop the oldest."""
    return bool(await fetch(conn, schema, _ROTATE, {"id": id_, "secret": secret, "most": most}))


async def remove(conn: Connection, schema: Schema, id_: UUID) -> bool:
    """Remove a subscription and all that was to be told to it."""
    return bool(await fetch(conn, schema, _REMOVE, {"id": id_}))
