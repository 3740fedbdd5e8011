"""What a feed knows, and what it tells: values alone."""

from uuid import UUID

import pytest

from adapter.core.watching.feed import Feed, Interest
from adapter.store.watched import MOST_MEMBERS, Version

FIRST, SECOND, THIRD = (UUID(int=n) for n in (1, 2, 3))


def a_feed(*versions: Version) -> Feed:
    feed = Feed(Interest(tags=frozenset({"a"})))
    feed.apply(versions)
    return feed


def version(job_id: UUID, written: int, *, is_open: bool = True) -> Version:
    return Version(job_id, written, is_open)


def test_a_mark_is_made_of_the_states_and_not_of_how_they_came_about() -> None:
    states = [version(FIRST, 3_000_001), version(SECOND, 1_000_000, is_open=False)]
    at_once = a_feed(*states)
    in_turns = a_feed(version(SECOND, 999_000), version(FIRST, 1_000_000), version(THIRD, 5_000_000))
    assert in_turns.mark != at_once.mark
    for each in reversed(states):
        in_turns.apply([each])
    in_turns.apply([], [THIRD])
    assert in_turns.mark == at_once.mark
    assert at_once.mark.startswith("3000_")
    assert a_feed(version(FIRST, 3_000_002), states[1]).mark != at_once.mark
    assert a_feed().mark == "0_0"


def test_what_has_changed_since_a_mark_is_told_and_what_was_not_known_then_is_new() -> None:
    feed = a_feed(version(FIRST, 1), version(SECOND, 1))
    first = feed.mark
    feed.apply([version(SECOND, 2)])
    second = feed.mark
    feed.apply([version(THIRD, 3)])
    third = feed.mark
    feed.apply([version(THIRD, 4, is_open=False)])
    assert feed.since(first) == {THIRD: True, SECOND: False}
    assert feed.since(second) == {THIRD: True}
    assert feed.since(third) == {THIRD: False}
    assert feed.since(feed.mark) == {}
    assert feed.since("1_1") is None
    assert feed.open == {FIRST: 1, SECOND: 2}
    feed.apply([], [SECOND])
    assert feed.since(first) == {THIRD: True}


def test_a_mark_of_too_long_ago_is_unknown() -> None:
    feed = a_feed(version(FIRST, 1))
    mark = feed.mark
    for written in range(2, 1000):
        feed.apply([version(FIRST, written)])
    assert feed.since(mark) is None


def test_a_read_does_not_undo_what_a_look_has_seen() -> None:
    feed = a_feed(version(FIRST, 5))
    mark = feed.mark
    feed.apply([version(FIRST, 4)], older=False)
    assert feed.mark == mark
    feed.apply([version(FIRST, 4)])
    assert feed.open == {FIRST: 4}


def test_a_feed_keeps_the_newest_of_very_many() -> None:
    feed = a_feed(*(version(UUID(int=n), n) for n in range(1, MOST_MEMBERS + 11)))
    assert len(feed.ids) == MOST_MEMBERS
    assert feed.ids[0] == UUID(int=11)


@pytest.mark.timeout(5)
async def test_whoever_waits_goes_on_with_a_change_and_with_nothing_less() -> None:
    feed = a_feed(version(FIRST, 1))
    mark = feed.mark
    feed.apply([version(FIRST, 1)])
    feed.apply([version(FIRST, 2)])
    await feed.moved(mark)
    assert feed.mark != mark
