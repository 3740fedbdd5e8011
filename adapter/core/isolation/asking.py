"""What a handler in a child asks of its worker: to schedule children, and to wait for them and for tokens."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, NoReturn
from uuid import UUID

from adapter.core.family import result_of
from adapter.core.handle import JobHandle
from adapter.core.isolation.wire import Message, dump_spec, load_error, load_job
from adapter.core.planning import JobSpec, ScheduleOptions
from adapter.core.registry import Registry
from adapter.domain.errors import InvalidArgumentError, NotOpenError
from adapter.domain.job import Job


class Asking:
    """Sends questions and gives each its answer; on any event loop. Of one try."""

    def __init__(self, send: Callable[[Mapping[str, Any]], None]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._open: dict[int, Future[Any]] = {}

    async def ask(self, what: str, **more: Any) -> Any:
        """Ask the worker and return its answer.

        Raises:
            AdapterError: what the worker came to.
        """
        number, answer = next(self._numbers), Future[Any]()
        self._open[number] = answer
        self._send({"ask": {"number": number, "what": what, **more}})
        try:
            return await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            # It no longer wants to wait, and so it does not.
            self._send({"ask": {"number": number, "what": "nothing"}})
            raise
        finally:
            self._open.pop(number, None)

    def answered(self, answer: Message) -> None:
        """Take an answer; from any thread."""
        asked = self._open.get(answer["number"])
        if asked is None or not asked.set_running_or_notify_cancel():
            return
        if "error" in answer:
            asked.set_exception(load_error(answer["error"]))
        else:
            asked.set_result(answer["value"])


class Elsewhere:
    """Stands in a handle for the adapter, which is in the worker."""

    async def wait_for(self, job_id: UUID, timeout: timedelta | None) -> NoReturn:
        """Raise `NotOpenError`, as the others do."""
        del job_id, timeout
        raise NotOpenError

    async def cancel_job(self, job_id: UUID, *, reason: str) -> NoReturn:
        """See `wait_for`."""
        del job_id, reason
        raise NotOpenError

    async def get_job(self, job_id: UUID) -> NoReturn:
        """See `wait_for`."""
        del job_id
        raise NotOpenError


class FamilyThere:
    """What one try in a child makes and waits for; `Family` in its worker does it."""

    def __init__(self, asking: Asking, registry: Callable[[], Registry]) -> None:
        self._asking = asking
        self._registry = registry

    def spec(self, task: str, data: Any, options: ScheduleOptions) -> JobSpec:
        """Return what `run` takes."""
        return JobSpec(task, data, options)

    async def run(self, specs: Sequence[JobSpec], key: str | None) -> list[Job]:
        """Make children and wait until they have ended; returns them, in order."""
        jobs = await self._asking.ask("run", specs=[dump_spec(each) for each in specs], key=key)
        return [load_job(each) for each in jobs]

    async def wait(self, ids: Sequence[UUID]) -> list[Job]:
        """Wait until these jobs have ended; returns them, in order."""
        jobs = await self._asking.ask("wait", ids=[str(each) for each in ids])
        return [load_job(each) for each in jobs]

    async def wait_for_token(self, token_id: UUID) -> Any:
        """Wait until a token is completed; returns its output."""
        return await self._asking.ask("token", id=str(token_id))

    def result(self, job: Job) -> Any:
        """Return what a child's handler returned."""
        return result_of(job, self._registry())

    def stop(self) -> None:
        """Do nothing: the worker ends what waits."""

    async def schedule(
        self, _: Job, task: str, data: Any, *, within: Any = None, notify: str, **options: Any
    ) -> JobHandle[Any]:
        """Schedule a child that nobody waits for.

        Raises:
            InvalidArgumentError: in a transaction of this process, which the worker has no part in.
        """
        if within is not None:
            msg = (
                "A handler with isolation='process' has no adapter here: within= takes `with adapter.sync:`."
            )
            raise InvalidArgumentError(msg)
        spec = dump_spec(JobSpec(task, data, ScheduleOptions(**options)))
        job = load_job(await self._asking.ask("schedule", spec=spec, notify=notify))
        definition = self._registry().find(task)
        return JobHandle(
            Elsewhere(), job, (lambda found: found) if definition is None else definition.load_result
        )
