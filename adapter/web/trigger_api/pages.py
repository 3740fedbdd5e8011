"""Pages with numbers, as lists of schedules and queues have them (Trigger.dev's API contract, 9 and 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MOST = 100
_LAST_PAGE = 1_000_000


def numbered_page(params: Mapping[str, str], *, usual: int) -> tuple[int, int]:
    """Return the page's number, from 1, and how much is on it.

    Raises:
        ApiError: 400 "Query Error", naming the parameter.
    """
    page = _number(params, "page", usual=1, most=_LAST_PAGE)
    return page, _number(params, "perPage", usual=usual, most=_MOST)


def offset_page(data: Sequence[Any], *, page: int, size: int, total: int) -> dict[str, Any]:
    """Return a page as the SDK reads it."""
    pages = max(1, -(-total // size))
    return {"data": list(data), "pagination": {"currentPage": page, "totalPages": pages, "count": total}}


def _number(params: Mapping[str, str], name: str, *, usual: int, most: int) -> int:
    given = params.get(name)
    if given is None:
        return usual
    if not (
        given.isascii() and given.isdecimal() and len(given) <= len(str(most)) and 1 <= int(given) <= most
    ):
        raise ApiError(400, "Query Error", details=[{"message": f"{name} must be from 1 to {most}"}])
    return int(given)
