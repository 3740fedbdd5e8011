"""The protocol under every order of events Hypothesis can think of. `SIMULATION_EXAMPLES` makes it longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from adapter.domain.recall import RollbackMode
from tests import kit
from tests.simulation.world import BOTH, FENCED, IDEMPOTENT, TASKS, Crash, Loss, World, prepare

EXAMPLES = kit.simulation_examples(25)
STEPS = 50
#: Few, so that things happen to the same job.
MOST_JOBS = 6

#: What a submit may meet.
_FAULTS = (
    "timeout_before",
    "timeout_after",
    "reset_after",
    "garbled_after",
    "connect_error",
    "500",
    "500_after",
    "429",
    "422",
    "401",
)
#: What can be done with a run, by its status; what is usual, more often.
_ACTS = {
    "QUEUED": ("start", "start", "start and fail", "start and complete", "expire"),
    "DEQUEUED": ("start",),
    "EXECUTING": ("complete", "complete", "fail", "attempt", "wait", "crash_after_hook"),
    "WAITING": ("resume",),
    "COMPLETED": ("lose",),
    "FAILED": ("lose",),
}


@dataclass(frozen=True)
class Schedules:
    """An application schedules a job."""

    task: str
    behavior: str = "ok"
    executor: str | None = None
    options: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Cancels:
    """An application cancels a job."""

    which: int


@dataclass(frozen=True)
class Turns:
    """A person turns a flag: a kill switch, a percentage, or nothing any more."""

    task: str
    to: str | int | None


@dataclass(frozen=True)
class Recalls:
    """A person takes back what was given away."""

    task: str
    mode: RollbackMode
    lost: Literal["retrieve", "cancel"] | None


@dataclass(frozen=True)
class Works:
    """A worker claims and runs, and may die."""

    loss: Loss


@dataclass(frozen=True)
class Dispatches:
    """A dispatcher ticks, meets a fault, or dies. ``later``: when every pause and lease is over."""

    later: bool = False
    fault: str | None = None
    crash: Crash | None = None


@dataclass(frozen=True)
class Ticks:
    """Something that happens now and then."""

    what: Literal[
        "maintain", "reconcile", "confirm", "bury", "zombies", "takeover", "arrive", "recall", "stop"
    ]


@dataclass(frozen=True)
class Runs:
    """A run there starts, goes on, ends, or is forgotten."""

    which: int
    how: int


@dataclass(frozen=True)
class Webhook:
    """A webhook arrives: in any order, more than once, or never."""

    which: int
    fate: Literal["once", "twice", "again later", "lost"]


@dataclass(frozen=True)
class Sleeps:
    """Time passes."""

    seconds: int


Happening = Schedules | Cancels | Turns | Recalls | Works | Dispatches | Ticks | Runs | Webhook | Sleeps

_MODES: tuple[RollbackMode, ...] = ("recall-unstarted", "recall-unstarted", "recall-all")
_which = st.integers(0, 9)
_options = st.one_of(
    st.builds(dict[str, Any]),
    st.fixed_dictionaries(
        {},
        optional={
            "idempotency_key": st.just("k1"),
            "tag": st.just("t1"),
            "delay": st.sampled_from([timedelta(seconds=20), timedelta(seconds=600)]),
            "ttl": st.just(timedelta(seconds=60)),
        },
    ),
)
_schedules = st.builds(
    Schedules,
    st.sampled_from(TASKS),
    st.sampled_from(["ok", "ok", "fail", "abort"]),
    st.sampled_from(["trigger", None]),
    _options,
)
_runs = st.builds(Runs, _which, st.integers(0, 29))
_ticks = st.builds(
    Ticks,
    st.sampled_from(
        [
            "maintain",
            "reconcile",
            "confirm",
            "bury",
            "zombies",
            "takeover",
            "arrive",
            "recall",
            "recall",
            "stop",
        ]
    ),
)
_turns = st.builds(
    Turns,
    st.sampled_from(["*", BOTH, FENCED]),
    st.sampled_from(["local", "trigger", None, None, 0, 50, 100]),
)
_recalls = st.builds(
    Recalls,
    st.sampled_from(["*", BOTH, BOTH, FENCED, IDEMPOTENT, IDEMPOTENT]),
    st.sampled_from(_MODES),
    st.sampled_from([None, None, "retrieve", "cancel"]),
)
_dies = st.builds(Dispatches, st.booleans(), st.none(), st.sampled_from(["before", "in_flight", "after"]))
#: What happens, and how often compared with the rest.
_happenings: tuple[tuple[int, st.SearchStrategy[Happening]], ...] = (
    (2, _schedules),
    (1, st.builds(Cancels, _which)),
    (1, _turns),
    (3, _recalls),
    (3, st.builds(Works, st.sampled_from(["none", "claimed", "outcome", "reply"]))),
    (2, st.builds(Dispatches, st.booleans())),
    (3, st.builds(Dispatches, st.booleans(), st.sampled_from(_FAULTS))),
    (2, _dies),
    (3, _ticks),
    (6, _runs),
    (2, st.builds(Webhook, _which, st.sampled_from(["once", "once", "twice", "again later", "lost"]))),
    (1, st.builds(Sleeps, st.sampled_from([5, 30, 90, 700, 3600]))),
)


class Protocol(RuleBasedStateMachine):
    """One thing happens after another; after each, every invariant is checked.

    It is one rule: several would be left out of whole stories at random, and a story needs most of them.
    """

    runner: ClassVar[asyncio.Runner]
    url: ClassVar[str]
    broom: ClassVar[kit.Broom]

    def __init__(self) -> None:
        super().__init__()
        self.broom.sweep()
        self.world = World(self.url)
        self._do(self.world.open())

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(what)

    @initialize(first=_schedules)
    def begins(self, first: Schedules) -> None:
        self._do(self._happens(first))

    @rule(what=st.one_of(*(each for weight, each in _happenings for _ in range(weight))))
    def happens(self, what: Happening) -> None:
        self._do(self._happens(what))

    async def _happens(self, what: Happening) -> None:  # noqa: C901, PLR0912 - one case per happening
        world = self.world
        match what:
            case Schedules(task, behavior, executor, options):
                if len(world.accepted) < MOST_JOBS:
                    await world.schedule(task, behavior, executor=executor, **options)
            case Cancels(which):
                jobs = list(world.accepted)
                await world.cancel(jobs[which % len(jobs)])
            case Turns(task, to):
                await world.turn(task, to)
            case Recalls(task, mode, lost):
                await world.recall(task, mode, lost)
            case Works(loss):
                await world.work(loss)
            case Dispatches(later, fault, crash):
                if later:
                    await world.sleep(400)
                await world.dispatch(fault, crash)
            case Ticks(tick):
                await world.tick(tick)
            case Runs(which, how):
                if runs := world.runs(*_ACTS):
                    run = runs[which % len(runs)]
                    acts = _ACTS[run.status]
                    await world.act(run, acts[how % len(acts)])
            case Webhook(which, fate):
                if world.messages:
                    await world.webhook(which % len(world.messages), fate)
            case Sleeps(seconds):
                await world.sleep(seconds)

    @invariant()
    def the_protocol_holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        try:
            self._do(self.world.settle())
            self.world.check()
            left = self.world.never_ends()
            assert not left, "\n".join(["it never ends:", *left])
            assert self.world.finished.keys() == self.world.accepted.keys()
        finally:
            self._do(self.world.close())


@pytest.mark.timeout(60 + 3 * EXAMPLES)
def test_the_protocol_holds_whatever_happens(make_database: Callable[[], str]) -> None:
    url = make_database()
    kit.set_up(url)
    prepare(url)
    Protocol.url, Protocol.broom = url, kit.Broom(url)
    profile = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=True,
        # Shrinking takes minutes: a story that breaks something is shortened by hand.
        phases=(Phase.generate,),
        database=None,
        print_blob=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    with asyncio.Runner() as runner:
        Protocol.runner = runner
        try:
            run_state_machine_as_test(Protocol, settings=profile)
        finally:
            Protocol.broom.close()
