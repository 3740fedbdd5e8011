"""Cursors of pages: a moment and a job, between which and the next a page ends."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from uuid import UUID

from adapter.domain.errors import InvalidArgumentError


def cursor_at(at: datetime, job_id: UUID) -> str:
    """Return the cursor of a place."""
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{job_id}".encode()).decode()


def place_of(cursor: str) -> tuple[datetime, UUID]:
    """Return the place of a cursor.

    Raises:
        InvalidArgumentError: it is none of ours.
    """
    try:
        at, _, job_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition("|")
        return datetime.fromisoformat(at), UUID(job_id)
    except (ValueError, binascii.Error) as error:
        msg = "This cursor is none of ours."
        raise InvalidArgumentError(msg) from error
