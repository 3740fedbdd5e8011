"""Cursors of pages: a moment and an id, between which and the next a page ends."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from adapter.domain.errors import InvalidArgumentError

_Item = TypeVar("_Item")


def cursor_at(at: datetime, item_id: UUID) -> str:
    """Return the cursor of a place."""
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{item_id}".encode()).decode()


def place_of(cursor: str) -> tuple[datetime, UUID]:
    """Return the place of a cursor.

    Raises:
        InvalidArgumentError: it is none of ours.
    """
    try:
        at, _, item_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition("|")
        return datetime.fromisoformat(at), UUID(item_id)
    except (ValueError, binascii.Error) as error:
        msg = "This cursor is none of ours."
        raise InvalidArgumentError(msg) from error


def page_of(
    found: list[_Item],
    place: Callable[[_Item], tuple[datetime, UUID]],
    *,
    limit: int,
    after: str | None,
    before: str | None,
) -> tuple[tuple[_Item, ...], str | None, str | None]:
    """Return a page, the newest first, and the cursors of the next and the previous one (None where there is none).

    ``found``: one item more than a page shows, where there is one; with ``before`` the oldest first.
    """
    more, shown = len(found) > limit, found[:limit]
    if before is not None:
        shown.reverse()
    has_next, has_previous = (True, more) if before is not None else (more, after is not None)
    return (
        tuple(shown),
        cursor_at(*place(shown[-1])) if shown and has_next else None,
        cursor_at(*place(shown[0])) if shown and has_previous else None,
    )
