"""Whose is a request: what Trigger.dev's API is asked about, read off method and path alone.

Paths are decoded once, as ASGI servers hand them over. What a body names is looked at by `subjects_of`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, cast
from uuid import RFC_4122, UUID

from adapter.domain.identity import job_id_of

#: What Trigger.dev's clients call; everything else is ours alone.
_FAMILIES = re.compile(r"/(?:api|realtime|engine)/v\d{1,2}/")
#: Others would be names without end, among what is counted.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OURS_ALONE = re.compile(r"/api/v2/packet-store/|/api/v1/timezones$")
#: No id of ours was made earlier than this, or is made more than a day ahead of the clock.
_FIRST_ID_MS = 1_704_067_200_000
_AHEAD = timedelta(days=1)


class About(Enum):
    """What decides whose a request is."""

    TASK = "the task in the path"
    ID = "the id in the path"
    BODY = "the tasks or ids that the body names"
    QUEUE = "the queue in the path"
    CURSOR_LIST = "a list that both sides have, by cursors"
    NUMBERED_LIST = "a list that both sides have, by page numbers"
    PACKET = "a payload that was stored before its task is known"
    TOKEN = "a wait token that is to be made"  # noqa: S105 - no password
    KEY = "the caller's key itself"
    #: Lists and subscriptions of which one side only can answer.
    WHOLE = "everything that is there"
    REST = "nothing of ours"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. ``endpoint`` is its template, for counting; ``subject`` the task, id or name in its path."""

    endpoint: str
    about: About
    subject: str = ""


_TABLE: tuple[tuple[str, str, str, About], ...] = (
    ("POST", r"/api/v[12]/tasks/batch", "/tasks/batch", About.BODY),
    ("POST", r"/api/v1/tasks/(.+)/trigger", "/tasks/{task}/trigger", About.TASK),
    ("POST", r"/api/v1/tasks/(.+)/batch", "/tasks/{task}/batch", About.TASK),
    ("POST", r"/api/v3/batches", "/batches", About.BODY),
    ("*", r"/api/v\d/batches/([^/]+)(/items|/results)?", "/batches/{batch}", About.ID),
    ("GET", r"/api/v1/runs", "/runs", About.CURSOR_LIST),
    ("*", r"/api/v\d/runs/([^/]+)(/.+)?", "/runs/{run}", About.ID),
    ("POST", r"/api/v1/idempotencyKeys/.+/reset", "/idempotencyKeys/{key}/reset", About.BODY),
    ("POST", r"/api/v1/bulk-actions", "/bulk-actions", About.BODY),
    ("GET", r"/api/v1/bulk-actions", "/bulk-actions", About.WHOLE),
    ("*", r"/api/v1/bulk-actions/([^/]+)(/abort)?", "/bulk-actions/{bulk}", About.ID),
    ("GET", r"/api/v1/schedules", "/schedules", About.NUMBERED_LIST),
    ("POST", r"/api/v1/schedules", "/schedules", About.BODY),
    ("*", r"/api/v1/schedules/([^/]+)(/activate|/deactivate)?", "/schedules/{schedule}", About.ID),
    ("GET", r"/api/v1/queues", "/queues", About.NUMBERED_LIST),
    ("*", r"/api/v1/queues/(.+?)(/pause|/concurrency/override|/concurrency/reset)?", "/queues/{queue}", About.QUEUE),
    ("GET", r"/api/v1/waitpoints/tokens", "/waitpoints/tokens", About.CURSOR_LIST),
    ("POST", r"/api/v1/waitpoints/tokens", "/waitpoints/tokens", About.TOKEN),
    ("*", r"/api/v1/waitpoints/tokens/([^/]+)(/complete|/callback)?(?:/[^/]+)?", "/waitpoints/tokens/{token}", About.ID),
    ("*", r"/api/v[12]/packets/(.+)", "/packets/{packet}", About.PACKET),
    ("POST", r"/api/v1/auth/jwt/claims", "/auth/jwt/claims", About.KEY),
    ("POST", r"/api/v1/auth/public-tokens", "/auth/public-tokens", About.KEY),
    ("*", r"/realtime/v\d/runs/([^/]+)", "/realtime/runs/{run}", About.ID),
    ("*", r"/realtime/v\d/batches/([^/]+)", "/realtime/batches/{batch}", About.ID),
    ("*", r"/realtime/v\d/streams/([^/]+)(?:/.+)?", "/realtime/streams/{run}", About.ID),
    ("GET", r"/realtime/v\d/runs", "/realtime/runs", About.WHOLE),
)  # fmt: skip
_RULES = [(method, re.compile(pattern), template, about) for method, pattern, template, about in _TABLE]


def read(method: str, path: str) -> Asked | None:
    """Return what a request asks, None for a path that is no business of Trigger.dev's.

    A path with ``..`` in it is none: what reads it there might read it otherwise than we do.
    """
    if (
        method not in _METHODS
        or not _FAMILIES.match(path)
        or _OURS_ALONE.match(path)
        or ".." in path.split("/")
    ):
        return None
    # A preflight is about what will be asked.
    wanted = {method, "*"} if method != "OPTIONS" else {"*", "GET", "POST"}
    for rule_method, pattern, template, about in _RULES:
        found = pattern.fullmatch(path) if rule_method in wanted else None
        if found is None:
            continue
        subject = found[1] if pattern.groups else ""
        action = (found[2] or "") if pattern.groups > 1 else ""
        if action.count("/") > 1 and not action.startswith("/concurrency/"):
            action = "/" + action.split("/")[1]
        return Asked(f"{method} {template}{action}", about, subject)
    return Asked(f"{method} other", About.REST)


def made_here(text: str, now: datetime) -> UUID | None:
    """Return what ``run_…``, ``batch_…`` and the like was made of, None for what cannot be from here.

    Ours hold a version 7 UUID of a time since 2024. Trigger.dev's are random, in the same alphabet: few of
    them look like that, so this spares a look into the database and does not replace it.
    """
    _, _, digits = text.partition("_")
    made_of = job_id_of(f"run_{digits}")
    if made_of is None or made_of.version != 7 or made_of.variant != RFC_4122:
        return None
    return made_of if _FIRST_ID_MS <= made_of.int >> 80 <= (now + _AHEAD).timestamp() * 1000 else None


def subjects_of(endpoint: str, body: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the tasks and the ids that a body names; both empty: it names none."""
    tasks: list[Any] = []
    ids: list[Any] = []
    match endpoint.partition(" ")[2]:
        case "/tasks/batch":
            items: Any = body.get("items")
            listed = cast("list[Any]", items) if isinstance(items, list) else []
            tasks = [cast("dict[str, Any]", item).get("task") for item in listed if isinstance(item, dict)]
        case "/batches":
            named: Any = body.get("taskIdentifiers")
            tasks = cast("list[Any]", named) if isinstance(named, list) else []
        case "/bulk-actions":
            runs: Any = body.get("runIds")
            ids = cast("list[Any]", runs) if isinstance(runs, list) else []
        case "/schedules":
            tasks = [body.get("task")]
        case _:
            tasks = [body.get("taskIdentifier")]
    return [each for each in tasks if isinstance(each, str)], [each for each in ids if isinstance(each, str)]
