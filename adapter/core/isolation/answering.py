"""What a worker hears of a child while it runs a try: log records, metadata, and questions, which it answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from adapter.core.isolation.wire import Message, dump_error, dump_job, load_spec
from adapter.domain.errors import AdapterError

if TYPE_CHECKING:
    from adapter.core.context import JobContext


class Hearing:
    """``send`` reaches the child."""

    def __init__(self, context: JobContext, send: Callable[[Mapping[str, Any]], None]) -> None:
        self._context = context
        self._send = send
        self._asked: dict[int, asyncio.Task[None]] = {}

    def __call__(self, message: Message) -> None:
        """Take what the child says."""
        try:
            if "log" in message:
                _log(message["log"])
            elif "metadata" in message:
                for key, value in message["metadata"]["changed"].items():
                    self._context.metadata.set(key, value)
                for key in message["metadata"]["removed"]:
                    self._context.metadata.delete(key)
            elif "ask" in message:
                self._take(int(message["ask"]["number"]), message["ask"])
        except (AdapterError, KeyError, TypeError, ValueError, AttributeError):
            self._context.logger.exception("its process said something strange")

    def _take(self, number: int, asked: Message) -> None:
        if asked["what"] == "nothing":
            if (task := self._asked.get(number)) is not None:
                task.cancel()
            return
        task = asyncio.get_running_loop().create_task(self._answer(number, asked), name="adapter-asked")
        self._asked[number] = task
        task.add_done_callback(lambda _: self._asked.pop(number, None))

    async def _answer(self, number: int, asked: Message) -> None:
        answer: Message = {"number": number}
        try:
            answer["value"] = await self._value(asked)
        except Exception as error:  # noqa: BLE001 - it is the handler's
            answer["error"] = dump_error(error)
        self._send({"answer": answer, "waited_s": self._context.waited_s})

    async def _value(self, asked: Message) -> Any:
        context = self._context
        match asked["what"]:
            case "schedule":
                spec = load_spec(asked["spec"])
                handle = await context.schedule_job(
                    spec.task, spec.data, notify=asked["notify"], **spec.options
                )
                return dump_job(handle.job)
            case "run":
                jobs = await context.family.run([load_spec(each) for each in asked["specs"]], asked["key"])
            case "wait":
                jobs = await context.family.wait([UUID(each) for each in asked["ids"]])
            case "token":
                return await context.family.wait_for_token(UUID(asked["id"]))
            case what:
                msg = f"a question {what!r}"
                raise ValueError(msg)
        return [dump_job(each) for each in jobs]

    async def close(self) -> None:
        """Answer nothing more: the try has ended."""
        self._context.end_waits()
        if asked := list(self._asked.values()):
            for each in asked:
                each.cancel()
            await asyncio.wait(asked)


def _log(given: Any) -> None:
    target = logging.getLogger(str(given["name"]))
    if target.isEnabledFor(int(given["levelno"])):
        target.handle(logging.makeLogRecord(given))
