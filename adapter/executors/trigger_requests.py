"""Requests to Trigger.dev: options, tags, queries, paths (its API contract, 4, 5, 7, 8). Pure."""

from __future__ import annotations

import math
import re
from datetime import UTC, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from adapter.domain import identity
from adapter.domain.errors import InvalidArgumentError
from adapter.domain.packets import JSON
from adapter.domain.task import DEFAULT_QUEUE
from adapter.executors.trigger_runs import words_for

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from adapter.executors.base import RunFilter, Submission

#: Time to live where the job brings none, and the most Trigger.dev keeps.
LONGEST_TTL = timedelta(days=14)
#: How long a tombstone would wait if nobody canceled it: beyond the look-up, within its key's life.
TOMBSTONE_DELAY = timedelta(days=10)

_MOST_TAGS = 10
_LONGEST_TAG = 128
_SHORTEST_RUN_S = 5
_MOST_PER_PAGE = 100
_MOST_TAGS_ASKED = 100
_OUR_TAGS = ("job:", "tombstone:")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_KIND = re.compile(r"tr_([a-z]+)_")


def environment_of(secret_key: str, branch: str | None, host: str) -> str:
    """Return the kind of the key (``prod``) and a digest over key, branch and host."""
    kind = _KIND.match(secret_key)
    digest = sha256(f"{host}\n{branch or ''}\n{secret_key}".encode()).hexdigest()
    return f"{kind[1] if kind else 'key'}-{digest[:12]}"


def trigger_headers(submission: Submission) -> dict[str, str]:
    """Return what a trigger carries beside the key: the request key, and the trace if it is one."""
    headers = {"x-trigger-request-idempotency-key": identity.request_key(submission.job_id, submission.epoch)}
    if submission.traceparent is not None and _TRACEPARENT.fullmatch(submission.traceparent):
        headers["traceparent"] = submission.traceparent
    return headers


def trigger_options(submission: Submission, now: datetime) -> dict[str, Any]:
    """Return the options of a run that does an epoch's work."""
    delay = submission.delay_until
    options: dict[str, Any] = {
        **_keys(submission),
        "payloadType": JSON,
        "tags": _tags(submission),
        "ttl": _ttl(submission.ttl, None if delay is None else delay - now),
        "maxAttempts": max(submission.max_attempts, 1),
    }
    if submission.max_duration is not None:
        options["maxDuration"] = max(_whole_seconds(submission.max_duration), _SHORTEST_RUN_S)
    if submission.metadata:
        options["metadata"] = submission.metadata
    if submission.priority:
        options["priority"] = submission.priority
    if submission.concurrency_key is not None:
        options["concurrencyKey"] = submission.concurrency_key
    if submission.queue not in {None, DEFAULT_QUEUE}:
        options["queue"] = {"name": submission.queue}
    if delay is not None:
        options["delay"] = _iso(delay)
    return options


def tombstone_options(submission: Submission, now: datetime) -> dict[str, Any]:
    """Return the options of a run that only proves that its keys stood for no other."""
    return {
        **_keys(submission),
        "payloadType": JSON,
        "tags": [identity.tombstone_tag(submission.job_id, submission.epoch)],
        "delay": _iso(now + TOMBSTONE_DELAY),
        "ttl": _whole_seconds(LONGEST_TTL),
        "maxAttempts": 1,
    }


def replay_tags(run_id: str, tags: Iterable[str]) -> list[str]:
    """Return the tags of a replay: what it copies, and not the tags of our epochs."""
    return [f"replay-of:{run_id}", *(tag for tag in tags if not tag.startswith(_OUR_TAGS))][:_MOST_TAGS]


def list_query(wanted: RunFilter, cursor: str | None) -> dict[str, str]:
    """Return the query of a list, not encoded.

    Raises:
        InvalidArgumentError: more than 100 tags.
    """
    if len(wanted.tags) > _MOST_TAGS_ASKED:
        raise InvalidArgumentError(f"A list asks for at most {_MOST_TAGS_ASKED} tags.")
    query = {
        "filter[createdAt][from]": str(_milliseconds(wanted.since)),
        "page[size]": str(min(max(wanted.page_size, 1), _MOST_PER_PAGE)),
    }
    if wanted.until is not None:
        query["filter[createdAt][to]"] = str(_milliseconds(wanted.until))
    several: dict[str, Iterable[str]] = {
        "filter[tag]": wanted.tags,
        "filter[taskIdentifier]": wanted.tasks,
        "filter[status]": words_for(wanted.statuses),
    }
    query |= {name: ",".join(values) for name, values in several.items() if values}
    return query if cursor is None else query | {"page[after]": cursor}


def path_segment(text: str) -> str:
    """Percent-encode one part of a path; a part of dots alone would climb."""
    encoded = quote(text, safe="")
    return encoded if encoded.strip(".") else encoded.replace(".", "%2E")


def _keys(submission: Submission) -> dict[str, Any]:
    key = identity.idempotency_key(submission.job_id, submission.epoch)
    return {
        "idempotencyKey": identity.hashed_key(key),
        "idempotencyKeyTTL": "30d",
        "idempotencyKeyOptions": {"key": key, "scope": "global"},
    }


def _tags(submission: Submission) -> list[str]:
    users = (tag.strip()[:_LONGEST_TAG] for tag in submission.tags)
    users = (tag for tag in users if tag and not tag.startswith(_OUR_TAGS))
    tags = [identity.epoch_tag(submission.job_id, submission.epoch), *users]
    return list(dict.fromkeys(tags))[:_MOST_TAGS]


def _ttl(ttl: timedelta | None, delay: timedelta | None) -> int:
    """Return whole seconds, at least 1 (0 would mean none). Theirs count after the delay, ours from now."""
    if ttl is None:
        return _whole_seconds(LONGEST_TTL)
    left = ttl - max(delay or timedelta(), timedelta())
    return max(_whole_seconds(min(left, LONGEST_TTL)), 1)


def _whole_seconds(duration: timedelta) -> int:
    return math.ceil(duration.total_seconds())


def _milliseconds(at: datetime) -> int:
    return math.floor(at.timestamp() * 1000)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
