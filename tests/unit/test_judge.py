"""Who counts as dead: each clause of the rule, on a clock that only the test moves."""

from dataclasses import replace
from datetime import timedelta

from adapter.core.judge import Judge
from adapter.store.liveness import Pulse
from tests.fakes.clock import ManualClock
from tests.rig import new_id

WORKER = Pulse(new_id(), seen=100.0, lease=timedelta(seconds=30), is_settled=True, lock_is_free=False)
DEAD = replace(WORKER, lock_is_free=True)


class Bench:
    """A judge that looks once a second."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.judge = Judge(self.clock)

    def look(self, pulse: Pulse, seconds: int = 1) -> list[bool]:
        """Look for so many seconds; returns, of the last look, whether each verdict was early."""
        verdicts = [
            self.judge.judge([pulse], (self.clock.advance(1), self.clock.monotonic())[1])
            for _ in range(seconds)
        ]
        return [each.early for each in verdicts[-1]]


def test_a_heartbeat_that_stays_the_same_for_a_lease_is_the_last_one() -> None:
    bench = Bench()
    assert bench.look(WORKER, 30) == []
    assert bench.look(WORKER) == [False]


def test_any_new_heartbeat_is_life_even_one_from_before() -> None:
    bench = Bench()
    bench.look(WORKER, 29)
    assert bench.look(replace(WORKER, seen=50.0), 30) == [], "a failover to a clock that is behind"
    assert bench.look(replace(WORKER, seen=9e9), 30) == [], "and to one that is ahead"


def test_a_free_lock_shortens_it_to_six_seconds() -> None:
    bench = Bench()
    bench.look(WORKER, 3)
    assert bench.look(DEAD, 6) == []
    assert bench.look(DEAD) == [True]


def test_a_lock_that_is_taken_again_begins_anew() -> None:
    bench = Bench()
    bench.look(DEAD, 6)
    bench.look(WORKER)
    assert bench.look(DEAD, 6) == []


def test_a_heartbeat_under_a_free_lock_begins_anew() -> None:
    bench = Bench()
    bench.look(DEAD, 6)
    assert bench.look(replace(DEAD, seen=101.0), 6) == []


def test_a_free_lock_says_nothing_while_the_server_or_our_connection_is_young() -> None:
    bench = Bench()
    assert bench.look(replace(DEAD, is_settled=False), 20) == []
    assert bench.look(DEAD, 6) == [], "it counts from the first look that may believe it"
    assert bench.look(DEAD) == [True]


def test_a_judge_that_did_not_look_for_a_while_knows_nothing() -> None:
    """It was paused, or the database was gone for everybody."""
    bench = Bench()
    bench.look(DEAD, 5)
    bench.clock.advance(6)
    assert bench.look(DEAD, 6) == []
    assert bench.look(DEAD) == [True]


def test_a_worker_that_leaves_is_forgotten() -> None:
    bench = Bench()
    bench.look(WORKER, 29)
    bench.clock.advance(1)
    assert bench.judge.judge([], bench.clock.monotonic()) == []
    assert bench.look(WORKER, 29) == []
