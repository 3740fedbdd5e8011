"""What is sent to a receiver: the body of an event, and the headers that sign it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from adapter.domain.job import Job
from adapter.domain.json import encode_json
from adapter.domain.signing import ALERT_HEADER, sign_standard
from adapter.domain.webhooks import ALERT, alert_body, event_id, lifecycle_body
from adapter.domain.wire import moment, status_word

#: A job for those who only try whether events arrive.
_TRIAL = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


def started_data(job: Job) -> dict[str, Any]:
    """Return what is kept of a job whose attempt has begun, as the outbox keeps those that ended."""
    return {
        "id": str(job.id),
        "type": job.type,
        "status": status_word(job.status),
        "epoch": job.epoch,
        "attempt": job.attempt,
        "tags": list(job.tags),
        "created": moment(job.created_at),
        "started": moment(job.started) if job.started else None,
        "at": moment(job.updated_at),
    }


def trial_data(now: datetime, event: str) -> dict[str, Any]:
    """Return what a job would leave that never was."""
    failed = event in {"RUN_FAILED", ALERT}
    return {
        "id": str(_TRIAL),
        "type": "webhook-test",
        "status": "FAILED" if failed else "EXECUTING" if event == "RUN_STARTED" else event.partition("_")[2],
        "epoch": 1,
        "attempt": 1,
        "tags": ["webhook-test"],
        "created": moment(now),
        "started": moment(now),
        "finished": None if event == "RUN_STARTED" else moment(now),
        "error": {"message": "This is only a test."} if failed else None,
    }


def message(
    event: str,
    data: Mapping[str, Any],
    secrets: Sequence[str],
    now: datetime,
    *,
    project: str,
    link: str,
) -> tuple[bytes, dict[str, str]]:
    """Return the body and its signature.

    Our own events follow Standard Webhooks, with one signature per secret, so that a receiver may have any
    of them. An alert has Trigger.dev's single one, by the newest secret.
    """
    given = dict(data)
    at = str(given.get("finished") or given.get("at") or moment(now))
    if event == ALERT:
        body = encode_json(alert_body(given, at, project=project, link=link))
        signature = hmac.new(secrets[0].encode(), body, hashlib.sha256).hexdigest()
        return body, {ALERT_HEADER: signature}
    body = encode_json(lifecycle_body(event, given, at))
    signed = [sign_standard(secret, event_id(event, given), now, body) for secret in secrets]
    return body, signed[0] | {"webhook-signature": " ".join(each["webhook-signature"] for each in signed)}
