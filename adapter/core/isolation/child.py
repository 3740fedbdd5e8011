"""The child process itself: ``python -m adapter.core.isolation.child FD PARENT``. Runs tries, one after the other.

It ends when its worker does, whatever the handler is at: a kernel's signal where there is one, else the
end of the socket.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from uuid_utils.compat import uuid7

from adapter.core.calling import Caller
from adapter.core.context import JobContext
from adapter.core.handler_errors import describe_error
from adapter.core.isolation import here
from adapter.core.isolation.address import Address, resolve
from adapter.core.isolation.asking import Asking, FamilyThere
from adapter.core.isolation.wire import Message, dump_outcome, encode, load_job, receive
from adapter.core.progress import JobMetadata
from adapter.core.registry import Registry, TaskDefinition
from adapter.core.runner import Interruption, run_try
from adapter.domain.job import Job
from adapter.domain.outcome import Errored, Lease, Stopped, TryOutcome
from adapter.store.job_metadata import MetadataPatch

_PR_SET_PDEATHSIG = 1
_STATM = Path("/proc/self/statm")
_STANDARD = frozenset(vars(logging.makeLogRecord({})))
#: Its worker writes; here nobody holds a lease.
_NO_LEASE = Lease(uuid7(), 0)


class ChildContext(JobContext):
    """The context of a handler in a child."""

    @property
    def time_limit(self) -> None:
        """Its worker knows when the time is over, and ends this process."""

    def has_waited(self, seconds: float) -> None:
        """Take note how long the try has waited in all."""
        self._waited_s = seconds

    def flag(self) -> None:
        """Let ``is_canceled`` be true at once, from any thread; `cancel` follows on the event loop."""
        self._is_canceled = True


class Connection:
    """The way to the worker; from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lock = threading.Lock()
        self._changed: queue.SimpleQueue[JobMetadata] = queue.SimpleQueue()
        threading.Thread(target=self._send_metadata, name="adapter-metadata", daemon=True).start()

    def receive(self) -> Message | None:
        """Return the next message; None when the worker is gone."""
        return receive(self._socket)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message."""
        data = encode(message)
        with self._lock:
            self._socket.sendall(data)

    def metadata(self, job: Job) -> JobMetadata:
        """Return the metadata of a job, whose changes are sent."""
        return JobMetadata(job, _NO_LEASE, self._changed.put)

    def _send_metadata(self) -> None:
        while True:
            metadata = self._changed.get()
            # Under the lock, so that an older patch cannot follow a newer one.
            with self._lock:
                if metadata.is_closed:
                    continue
                patch, version = metadata.patch()
                self._socket.sendall(encode(_patch(patch)))
            if metadata.wrote(version):
                self._changed.put(metadata)

    def send_last(self, patch: MetadataPatch | None, outcome: TryOutcome) -> None:
        """Send what a try came to, and before it what its handler said last."""
        last = encode(_patch(patch)) if patch is not None else b""
        try:
            answer = encode({"outcome": dump_outcome(outcome), "rss": rss()})
        except (ValueError, TypeError) as error:
            answer = encode({"outcome": dump_outcome(Errored(describe_error(error))), "rss": rss()})
        with self._lock:
            self._socket.sendall(last + answer)


def _patch(patch: MetadataPatch) -> Message:
    return {"metadata": {"changed": patch.changed, "removed": list(patch.removed)}}


class Forwarding(logging.Handler):
    """Gives log records to the worker, which treats them like its own."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, as text where it is no JSON."""
        try:
            fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
            fields |= {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
            fields |= {"msg": record.getMessage(), "created": record.created, "lineno": record.lineno}
            fields |= {"pathname": record.pathname, "funcName": record.funcName, "process": record.process}
            fields["threadName"] = record.threadName
            if record.exc_info:
                fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
            self._connection.send({"log": json.loads(json.dumps(fields, default=str))})
        except Exception:  # noqa: BLE001 - as every handler of the standard library
            self.handleError(record)


class Child:
    """Runs what the worker asks for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.Queue[Message | None] = asyncio.Queue()
        self._definitions: dict[str, tuple[TaskDefinition[Any, Any], Registry]] = {}
        self._registry = Registry()
        self._asking = Asking(connection.send)
        self._context: ChildContext | None = None
        self._interruption = Interruption()
        self._task: asyncio.Task[TryOutcome] | None = None
        self._caller: Caller | None = None

    def listen(self) -> None:
        """Hear the worker, on a thread of its own: a handler may block the event loop."""
        threading.Thread(target=self._listen, name="adapter-worker", daemon=True).start()

    def _listen(self) -> None:
        while (message := self._connection.receive()) is not None:
            if "answer" in message:
                if self._context is not None:
                    self._context.has_waited(message["waited_s"])
                self._asking.answered(message["answer"])
            elif "cancel" not in message:
                self._loop.call_soon_threadsafe(self._asked.put_nowait, message)
            elif (context := self._context) is not None:
                context.flag()
                self._loop.call_soon_threadsafe(self._cancel, context)
        if self._context is not None:
            # Nobody wants the result, and others may run the job by now.
            os._exit(1)
        self._loop.call_soon_threadsafe(self._asked.put_nowait, None)

    def _cancel(self, context: ChildContext) -> None:
        if context is self._context and self._task is not None:
            self._interruption.set(Stopped("canceled"))
            context.cancel()
            self._task.cancel()

    async def serve(self) -> None:
        """Run tries until the worker closes the connection."""
        here.loop = self._loop
        self.listen()
        self._connection.send({"ready": rss()})
        while (message := await self._asked.get()) is not None:
            job = load_job(message["run"]["job"])
            self._context = self._make_context(job)
            self._interruption = Interruption()
            try:
                outcome = await self._run(message, self._context)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - an application that cannot be imported, in the main
                outcome = Errored(describe_error(error))
            context, self._context, self._task = self._context, None, None
            self._connection.send_last(context.close(), outcome)

    def _make_context(self, job: Job) -> ChildContext:
        self._asking = Asking(self._connection.send)
        family = FamilyThere(self._asking, lambda: self._registry)
        return ChildContext(job, family.schedule, self._connection.metadata, lambda _: family)

    async def _run(self, message: Message, context: ChildContext) -> TryOutcome:
        address, request = Address.read(message["address"]), message["run"]
        if address.task not in self._definitions:
            self._definitions[address.task] = resolve(address)
        definition, self._registry = self._definitions[address.task]
        if self._caller is None:
            grace, hooks = request["cancel_grace"], request["hook_timeout"]
            self._caller = Caller(1, timedelta(seconds=grace), timedelta(seconds=hooks), Counter())
        run = run_try(definition, context, self._interruption, self._caller)
        self._task = self._loop.create_task(run)
        return await self._task


def rss() -> int:
    """Return the bytes of memory this process has; 0 where nobody tells."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def die_with(parent: int) -> None:
    """Let the kernel kill us when our worker is gone; where it cannot, the end of the socket tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


async def _serve(connection: Connection) -> None:
    await Child(connection).serve()


def main() -> None:
    """Serve the worker at the other end of the socket."""
    die_with(int(sys.argv[2]))
    # Who stops all processes of a group or a container at once means the worker, which decides.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    connection = Connection(socket.socket(fileno=int(sys.argv[1])))
    hello = connection.receive()
    if hello is None:
        return
    sys.path[:] = hello["path"]
    root = logging.getLogger()
    root.addHandler(Forwarding(connection))
    root.setLevel(hello["level"])
    asyncio.run(_serve(connection))


if __name__ == "__main__":
    main()
