"""Pages by cursors, as most lists have them, and with numbers (Trigger.dev's API contract, 7.2, 9 and 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapter.domain.errors import InvalidArgumentError
from adapter.store.cursors import place_of
from adapter.web.errors import bad_query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DEFAULT_SIZE = 25
_MOST = 100
_LAST_PAGE = 1_000_000


def page_size(params: Mapping[str, str]) -> int:
    """Return how much a page by cursors holds.

    Raises:
        ApiError: 400 "Query Error".
    """
    given = params.get("page[size]")
    if not given:
        return _DEFAULT_SIZE
    if not (given.isascii() and given.isdecimal() and len(given) <= 3 and 1 <= int(given) <= _MOST):
        raise bad_query(f"page[size] must be from 1 to {_MOST}")
    return int(given)


def page_sides(params: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the cursors that the page is to come after and before; one of them at most.

    Raises:
        ApiError: 400 "Query Error".
    """
    before = _cursor(params, "page[before]")
    # The SDK sends both when it goes back after it went on: going back is what it wants.
    return (None, before) if before else (_cursor(params, "page[after]"), None)


def cursor_page(data: Sequence[Any], *, following: str | None, previous: str | None) -> dict[str, Any]:
    """Return a page as the SDK reads it; absent cursors are left out, since a present one is followed."""
    cursors = {"next": following, "previous": previous}
    return {"data": list(data), "pagination": {name: cursor for name, cursor in cursors.items() if cursor}}


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


def _cursor(params: Mapping[str, str], name: str) -> str | None:
    given = params.get(name) or None
    if given is not None:
        try:
            place_of(given)
        except InvalidArgumentError as error:
            raise bad_query(f"{name}: {error}") from None
    return given


def _number(params: Mapping[str, str], name: str, *, usual: int, most: int) -> int:
    given = params.get(name)
    if given is None:
        return usual
    if not (
        given.isascii() and given.isdecimal() and len(given) <= len(str(most)) and 1 <= int(given) <= most
    ):
        raise bad_query(f"{name} must be from 1 to {most}")
    return int(given)
