"""Webhooks to others: what is told, how long it is tried, and which addresses it may go to."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit
from uuid import UUID

from adapter.domain.errors import InvalidArgumentError
from adapter.domain.identity import run_id_of
from adapter.domain.wire import error_fields

Event: TypeAlias = Literal["RUN_STARTED", "RUN_COMPLETED", "RUN_FAILED", "RUN_CANCELED", "alert.run.failed"]
EVENTS: tuple[str, ...] = get_args(Event)
#: Trigger.dev's own, told in its words and signed as it signs.
ALERT = "alert.run.failed"
#: What a subscription hears that names nothing.
LIFECYCLE: tuple[str, ...] = tuple(event for event in EVENTS if event != ALERT)

State: TypeAlias = Literal["pending", "delivered", "dead"]

#: The shape of our own events; only additions leave it as it is.
VERSION = 1
#: The waits before each further try, some 16 hours in all; each is stretched or shrunk by up to a fifth.
WAITS_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0)
_JITTER = 0.2
#: A receiver is not asked to wait for longer than this.
_LONGEST_WAIT_S = 86_400.0
#: After so many rounds in a row in which it took nothing, a receiver is left alone, longer each time.
ROUNDS_TO_OPEN = 3
MOST_SECRETS = 3
_LONGEST_URL = 2048
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSubscription:
    """Somebody who is told. ``secrets``: the newest first; empty where they are not to be shown.

    ``active`` False: nothing is written for it, and nothing sent. ``failures`` and ``open_until``: see `ROUNDS_TO_OPEN`.
    """

    id: UUID
    name: str | None
    url: str
    events: tuple[str, ...]
    secrets: tuple[str, ...]
    secret_count: int
    allow_private: bool
    active: bool
    disabled_because: str | None
    failures: int
    open_until: datetime | None
    created_at: datetime
    updated_at: datetime
    pending: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDelivery:
    """One event for one subscription. ``event_id`` is what the receiver tells repeats by."""

    id: UUID
    subscription_id: UUID
    event: str
    event_id: str
    job_id: UUID
    state: State
    attempts: int
    next_at: datetime
    status: int | None
    error: str | None
    created_at: datetime
    settled_at: datetime | None


def wait_after(attempts: int, chance: float, retry_after_s: float | None = None) -> float | None:
    """Return the seconds before the next try, None when it was the last one.

    ``chance``: a random number from 0 to 1, for the jitter. ``retry_after_s``: what the receiver asked for.
    """
    if attempts > len(WAITS_S):
        return None
    wait = WAITS_S[attempts - 1] * (1 - _JITTER + 2 * _JITTER * chance)
    return max(wait, min(retry_after_s or 0.0, _LONGEST_WAIT_S))


def check_url(url: str) -> str:
    """Return the URL.

    Raises:
        InvalidArgumentError: it is not http(s), or carries credentials or a fragment.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound, parts = False, urlsplit("")
    if not sound or "@" in parts.netloc or parts.fragment or len(url) > _LONGEST_URL or not url.isprintable():
        raise InvalidArgumentError("The URL of a receiver is an http or https URL without credentials.")
    return url


def check_events(events: tuple[str, ...]) -> tuple[str, ...]:
    """Return the events, each once; all of our own when none is named.

    Raises:
        InvalidArgumentError: there is no such event.
    """
    if unknown := [event for event in events if event not in EVENTS]:
        raise InvalidArgumentError(f"There is no event {unknown[0]!r}: there are {', '.join(EVENTS)}.")
    return tuple(event for event in EVENTS if event in events) or LIFECYCLE


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, whatever it is wrapped in."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        # All that was ever given out; the rest leads nowhere, or is translated by who knows whom.
        if found not in _GLOBAL_V6:
            return False
    return found.is_global and not found.is_multicast


def event_id(event: str, data: dict[str, Any]) -> str:
    """Return what stays the same over all tries of the same thing, to whomever it is told."""
    run_id = run_id_of(UUID(data["id"]))
    if event == ALERT:
        return f"alert_{run_id.removeprefix('run_')}{data['epoch']}"
    return f"{run_id}:{data['epoch']}:{data['attempt']}:{event}"


def lifecycle_body(event: str, data: dict[str, Any], at: str) -> dict[str, Any]:
    """Return what is said of a job. The job's tags travel along: by one a peer adapter knows its own job."""
    optional: dict[str, Any] = {
        "startedAt": data.get("started"),
        "finishedAt": data.get("finished"),
        "error": error_fields(data.get("error")) if event in {"RUN_FAILED", "RUN_CANCELED"} else None,
    }
    run: dict[str, Any] = {
        "id": run_id_of(UUID(data["id"])),
        "status": data["status"],
        "taskIdentifier": data["type"],
        "attempt": data["attempt"],
        "tags": data.get("tags") or [],
        "updatedAt": at,
        **{name: value for name, value in optional.items() if value is not None},
    }
    if data["status"] == "COMPLETED" and data.get("omitted"):
        run["outputOmitted"] = True
    elif data["status"] == "COMPLETED" and data.get("result") is not None:
        run["output"] = data["result"]
    return {"type": event, "version": VERSION, "timestamp": at, "data": {"source": "engine", "run": run}}


def alert_body(data: dict[str, Any], at: str, *, project: str, link: str) -> dict[str, Any]:
    """Return ``alert.run.failed`` in Trigger.dev's own shape (its API contract, 15.2).

    There are no organizations, deployments or run numbers here: what stands for them is the same for every run.
    """
    error = error_fields(data.get("error")) or {"message": "no message was kept"}
    optional = {
        "startedAt": data.get("started"),
        "completedAt": data.get("finished"),
        "idempotencyKey": data.get("key"),
    }
    return {
        "id": event_id(ALERT, data),
        "created": at,
        "webhookVersion": "v1",
        "type": ALERT,
        "object": {
            "task": {
                "id": data["type"],
                "filePath": "Unknown",
                "version": "Unknown",
                "sdkVersion": "Unknown",
                "cliVersion": "Unknown",
            },
            "run": {
                "id": run_id_of(UUID(data["id"])),
                "number": 0,
                "status": data["status"],
                "createdAt": data["created"],
                "isTest": False,
                "tags": data.get("tags") or [],
                "error": {
                    "type": "BUILT_IN_ERROR",
                    "name": error.get("name", "Error"),
                    "message": error["message"],
                    "stackTrace": error.get("stackTrace", ""),
                },
                "isOutOfMemoryError": False,
                "machine": "small-1x",
                "dashboardUrl": f"{link.rstrip('/')}/api/v3/runs/{run_id_of(UUID(data['id']))}",
                **{name: value for name, value in optional.items() if value is not None},
            },
            "environment": {"id": "env_adapter", "type": "PRODUCTION", "slug": "prod"},
            "organization": {"id": "org_adapter", "slug": "adapter", "name": "adapter"},
            "project": {"id": project, "ref": project, "slug": "adapter", "name": "adapter"},
        },
    }
