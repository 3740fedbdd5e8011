import asyncio

import httpx
from starlette.applications import Starlette

from adapter.web import health
from adapter.web.health import Readiness


class HandClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> object:
        raise AssertionError

    async def sleep(self, seconds: float) -> None:
        raise AssertionError


class Probe:
    """Counts how often it is asked; may be held."""

    def __init__(self) -> None:
        self.asked = 0
        self.problems: dict[str, str] = {}
        self.fault: Exception | None = None
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def __call__(self) -> dict[str, str]:
        self.asked += 1
        await self.let_go.wait()
        if self.fault:
            raise self.fault
        return self.problems


def made(probe: Probe, clock: HandClock, deadline_s: float = 2.0) -> Readiness:
    return Readiness(probe, clock, deadline_s=deadline_s)  # pyright: ignore[reportArgumentType]


async def test_a_result_is_kept_for_a_second() -> None:
    probe, clock = Probe(), HandClock()
    readiness = made(probe, clock)
    assert await readiness.problems() == {}
    probe.problems = {"database": "gone"}
    clock.seconds = 1.0
    assert await readiness.problems() == {}
    clock.seconds = 1.1
    assert await readiness.problems() == {"database": "gone"}
    assert probe.asked == 2


async def test_many_askers_make_one_probe() -> None:
    probe, clock = Probe(), HandClock()
    readiness = made(probe, clock)
    assert await asyncio.gather(*(readiness.problems() for _ in range(20))) == [{}] * 20
    assert probe.asked == 1


async def test_a_probe_that_hangs_is_not_waited_for_nor_piled_up() -> None:
    probe, clock = Probe(), HandClock()
    probe.let_go.clear()
    readiness = made(probe, clock, deadline_s=0.04)
    for _ in range(3):
        assert await readiness.problems() == {"probe": "no answer within 0.03 s"}
        clock.seconds += 2
    assert probe.asked <= 3
    probe.let_go.set()
    clock.seconds += 2
    assert await readiness.problems() == {}


async def test_a_probe_that_breaks_names_the_kind_and_no_more() -> None:
    probe, clock = Probe(), HandClock()
    probe.fault = ConnectionError("host=db password=x")
    assert await made(probe, clock).problems() == {"probe": "ConnectionError"}


async def test_the_routes() -> None:
    probe, clock = Probe(), HandClock()
    app = Starlette(routes=list(health.routes(made(probe, clock))))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://adapter.test"
    ) as client:
        assert (await client.get("/readyz")).json() == {"status": "ok"}
        clock.seconds = 2
        probe.problems = {"schema": "old"}
        reply = await client.get("/readyz")
        assert (reply.status_code, reply.json()) == (
            503,
            {"status": "unready", "problems": {"schema": "old"}},
        )
        reply = await client.get("/livez")
        assert (reply.status_code, reply.json()) == (200, {"status": "ok"})
        assert probe.asked == 2
