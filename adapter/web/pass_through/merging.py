"""Lists that both sides have, as one: exact, newest first, with cursors of our own or numbered pages.

A combined cursor says for each side from which of its own pages to read on and which item was the last one
taken, so what arrives meanwhile is neither shown twice nor hides anything. A list fails when one side
does: half of it would pass for all of it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast

from adapter.domain.identity import is_own_tag
from adapter.web.errors import bad_query

#: Asks one side with this query; returns its 200 as an object, or raises.
Side: TypeAlias = Callable[[Mapping[str, str]], Awaitable[dict[str, Any]]]

_DEFAULT_SIZE, _MOST = 25, 100
#: So many pages can be gone back; each takes some bytes of the cursor.
_MOST_BACK = 10
_LONGEST_CURSOR = 16_384
_LONGEST_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Place:
    """Where one side was left: its own cursor, and the last item that was taken from behind it."""

    after: str | None = None
    last: str | None = None
    last_at: str | None = None
    done: bool = False

    def dumped(self) -> list[Any]:
        return [self.after, self.last, self.last_at, self.done]


_Places: TypeAlias = list[_Place]


async def by_cursor(ours: Side, theirs: Side, query: Mapping[str, str]) -> dict[str, Any]:
    """Return one page of both sides.

    Raises:
        ApiError: 400 for a cursor that is none of this list's; what a side raises.
    """
    size = _number(query, "page[size]", _DEFAULT_SIZE)
    given = query.get("page[before]") or query.get("page[after]")
    begin, back = _load(given) if given else ([_Place(), _Place()], [])
    filters: dict[str, str] = {name: value for name, value in query.items() if not name.startswith("page[")}
    sides = (ours, theirs)
    found = [await _behind(side, filters, size, place) for side, place in zip(sides, begin, strict=True)]
    end = [_Place(*place.dumped()) for place in begin]
    data: list[dict[str, Any]] = []
    while len(data) < size and any(each.items for each in found):
        # Ours first where both are of one millisecond.
        at = max((0, 1), key=lambda n: (_made(found[n].items[0][0]) if found[n].items else _LONGEST_AGO, -n))
        item, after = found[at].items.pop(0)
        end[at] = _Place(after, str(item.get("id")), str(item.get("createdAt")))
        data.append(item)
    more = False
    for place, each in zip(end, found, strict=True):
        place.done = not each.items and each.exhausted
        more = more or not place.done
    pagination: dict[str, str] = {}
    if more:
        pagination["next"] = _dump(end, [*back, begin][-_MOST_BACK:])
    if back:
        pagination["previous"] = _dump(back[-1], back[:-1])
    return {"data": data, "pagination": pagination}


@dataclass(slots=True)
class _Found:
    """Items of one side, each with the cursor of its page; ``exhausted``: there is nothing behind them."""

    items: list[tuple[dict[str, Any], str | None]]
    exhausted: bool


async def _behind(side: Side, filters: dict[str, str], size: int, place: _Place) -> _Found:
    """Read a side on from where it was left until ``size`` items are there or none is left."""
    found = _Found([], exhausted=place.done)
    after, passed = place.after, place.last is None
    while len(found.items) < size and not found.exhausted:
        page = await side(filters | {"page[size]": str(size)} | ({"page[after]": after} if after else {}))
        for item in _listed(page):
            if not passed:
                # Up to the last item taken; one that is older was behind it, should it be gone.
                if item.get("id") == place.last:
                    passed = True
                    continue
                passed = _made(item) < _moment(place.last_at)
                if not passed:
                    continue
            # What was submitted from here is shown as the job that it belongs to.
            if not any(is_own_tag(tag) for tag in _tags(item)):
                found.items.append((item, after))
        paging = page.get("pagination")
        following: Any = cast("dict[str, Any]", paging).get("next") if isinstance(paging, dict) else None
        if not isinstance(following, str) or following == after:
            found.exhausted = True
        else:
            after = following
    return found


async def by_number(ours: Side, theirs: Side, query: Mapping[str, str], default_size: int) -> dict[str, Any]:
    """Return one page of ours and, behind all of ours, theirs. Errors: see `by_cursor`."""
    size = _number(query, "perPage", default_size)
    page = _number(query, "page", 1, most=1_000_000)
    filters = dict(query) | {"perPage": str(size)}
    own = await ours(filters | {"page": str(page)})
    data, own_count = _listed(own), _count(own)
    begin = max(0, (page - 1) * size - own_count)
    wanted = size - len(data)
    first = await theirs(filters | {"page": str(begin // size + 1)})
    count = _count(first)
    if wanted > 0:
        there = _listed(first)
        if begin % size and (begin // size + 1) * size < count:
            there += _listed(await theirs(filters | {"page": str(begin // size + 2)}))
        data += there[begin % size :][:wanted]
    total = own_count + count
    pages = max(1, -(-total // size))
    return {"data": data, "pagination": {"currentPage": page, "totalPages": pages, "count": total}}


def _number(query: Mapping[str, str], name: str, default: int, *, most: int = _MOST) -> int:
    given = query.get(name)
    if not given:
        return default
    if not (given.isascii() and given.isdecimal() and len(given) <= 7 and 1 <= int(given) <= most):
        raise bad_query(f"{name} must be from 1 to {most}")
    return int(given)


def _listed(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    data: Any = page.get("data")
    listed = cast("list[Any]", data) if isinstance(data, list) else []
    return [cast("dict[str, Any]", item) for item in listed if isinstance(item, dict)]


def _count(page: Mapping[str, Any]) -> int:
    paging: Any = page.get("pagination")
    count: Any = cast("dict[str, Any]", paging).get("count") if isinstance(paging, dict) else None
    return count if isinstance(count, int) else len(_listed(page))


def _tags(item: Mapping[str, Any]) -> list[str]:
    tags: Any = item.get("tags")
    return [tag for tag in cast("list[Any]", tags) if isinstance(tag, str)] if isinstance(tags, list) else []


def _made(item: Mapping[str, Any]) -> datetime:
    return _moment(item.get("createdAt"))


def _moment(text: object) -> datetime:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return _LONGEST_AGO
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _dump(places: _Places, back: list[_Places]) -> str:
    value = [[each.dumped() for each in some] for some in (places, *back)]
    return "m" + base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip(
        "="
    )


def _load(cursor: str) -> tuple[_Places, list[_Places]]:
    bad = bad_query("the cursor is none of this list's")
    if not cursor.startswith("m") or len(cursor) > _LONGEST_CURSOR:
        raise bad
    text = cursor[1:]
    try:
        value: Any = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        loaded = [[_place(each) for each in some] for some in value]
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise bad from None
    if not loaded or len(loaded) > _MOST_BACK + 1 or any(len(some) != 2 for some in loaded):
        raise bad
    return loaded[0], loaded[1:]


def _place(value: Any) -> _Place:
    after, last, last_at, done = value
    if not all(each is None or isinstance(each, str) for each in (after, last, last_at)):
        raise TypeError
    return _Place(after, last, last_at, done is True)
