"""The tasks an application declares, and what their payloads look like."""

from __future__ import annotations

import difflib
import functools
import hashlib
import inspect
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from adapter.core.batching import batch_signature
from adapter.core.calling import is_async
from adapter.core.hooks import Hooks
from adapter.domain.errors import InvalidPayloadError, TaskDefinitionError, UnknownTaskError
from adapter.domain.failback import CANARY
from adapter.domain.json import problems
from adapter.domain.limits import Limits
from adapter.domain.parity import Price
from adapter.domain.routing import environment_spelling
from adapter.domain.task import TaskPolicy

P = TypeVar("P")
R = TypeVar("R")
_ONE_ARGUMENT, _TWO_ARGUMENTS = 1, 2
_MOST_PROBLEMS = 10
#: What the short way to JSON cannot be trusted with: U+0000, numbers that are none, and integers too long.
_SUSPICIOUS = re.compile(rb"null|NaN|Infinity|\\u0000")
_LONGEST_UNCHECKED = 4000


class TaskDefinition(Generic[P, R]):
    """A task's policy with its handler and schemas. ``handler`` is None where another place runs it."""

    def __init__(
        self,
        policy: TaskPolicy,
        handler: Callable[..., Any] | None,
        payload: Any = Any,
        result: Any = Any,
        *,
        own_hooks: Hooks | None = None,
    ) -> None:
        self.policy = policy
        self.handler = handler
        self.own_hooks = own_hooks or Hooks()
        #: Its own and those of all tasks, once the registry is frozen; None when there is none.
        self.hooks: Hooks | None = None
        #: Whether a worker here runs its jobs; those of a disabled task stay where they are.
        self.runs_here = handler is not None and policy.enabled
        self.is_async = handler is not None and is_async(handler)
        self.takes_context = False
        if handler is not None and policy.batch is not None:
            payload, result = batch_signature(policy.id, handler)
            # Its items carry theirs.
            self.takes_context = True
        elif handler is not None:
            payload, result, self.takes_context = _read_signature(policy.id, handler)
        try:
            self._payload = _type_adapter(payload)
        except PydanticUserError as error:
            msg = f"The payload type of {policy.id!r} has no schema: {error.message.splitlines()[0]}"
            raise TaskDefinitionError(msg) from None
        try:
            self._result = _type_adapter(result)
        except PydanticUserError:
            # A result is only read back; one without a schema is given as it is stored.
            self._result = _type_adapter(Any)

    @property
    def is_isolated(self) -> bool:
        """Whether its handler runs in a child process."""
        return self.handler is not None and self.policy.isolation is not None

    @property
    def id(self) -> str:
        """The task's id."""
        return self.policy.id

    @property
    def is_plain(self) -> bool:
        """Whether its handler sees nothing of a job but the payload, and nobody else looks on."""
        elsewhere = self.is_isolated or self.policy.batch is not None
        return self.is_async and not (self.takes_context or self.hooks is not None or elsewhere)

    @functools.cached_property
    def schema_hash(self) -> str:
        """A short hash of the payload's JSON schema, so that a fleet can tell whether it agrees."""
        try:
            schema = self._payload.json_schema()
        except (PydanticInvalidForJsonSchema, PydanticUserError):
            # A type without a JSON schema still validates.
            return ""
        return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:16]

    def dump_payload(self, payload: Any) -> Any:
        """Return the payload as JSON that PostgreSQL can keep, after validating it.

        Raises:
            InvalidPayloadError: it does not fit the schema, or is no such JSON.
        """
        try:
            # What is stored is what was validated, so that both ends see the same defaults.
            data = self._payload.dump_python(self._validated(payload), mode="json")
        except (ValueError, RecursionError) as error:
            # The serializer's own errors are such, and what is nested too deeply.
            raise InvalidPayloadError(self.id, [str(error)]) from None
        _check_json(self.id, data)
        return data

    def dump_payload_text(self, payload: Any) -> str:
        """Return `dump_payload` as JSON text: written once, by the validator's own serializer where it can.

        Raises:
            InvalidPayloadError: as `dump_payload`.
        """
        try:
            text = self._payload.serializer.to_json(self._validated(payload))
        except (ValueError, RecursionError):
            text = b"null"
        # What PostgreSQL may not be able to keep, and what that serializer turns into null, is looked at.
        if len(text) > _LONGEST_UNCHECKED or _SUSPICIOUS.search(text):
            return json.dumps(self.dump_payload(payload), allow_nan=False, separators=(",", ":"))
        return text.decode()

    def dump_payload_texts(self, payloads: Sequence[Any]) -> list[bytes]:
        """Return `dump_payload_text` of each, as bytes.

        Raises:
            InvalidPayloadError: of the first that does not fit.
        """
        validate, to_json = self._payload.validator.validate_python, self._payload.serializer.to_json
        try:
            texts = [to_json(validate(each)) for each in payloads]
        except (ValueError, RecursionError):
            return [self.dump_payload_text(each).encode() for each in payloads]
        if max(map(len, texts), default=0) <= _LONGEST_UNCHECKED and not _SUSPICIOUS.search(b" ".join(texts)):
            return texts
        return [self.dump_payload_text(each).encode() for each in payloads]

    def load_payload(self, data: Any) -> P:
        """Return what the handler gets.

        Raises:
            InvalidPayloadError: the stored data does not fit the schema (any more).
        """
        return self._validated(data)

    def load_json(self, text: str | None) -> P:
        """Return what the handler gets, from the JSON text of the stored payload (None: SQL null).

        Raises:
            InvalidPayloadError: as `load_payload`.
        """
        if text is None:
            return self._validated(None)
        try:
            return self._payload.validate_json(text)
        except ValidationError as error:
            raise InvalidPayloadError(self.id, problems_of(error)) from None

    def _validated(self, payload: Any) -> Any:
        try:
            return self._payload.validator.validate_python(payload)
        except ValidationError as error:
            raise InvalidPayloadError(self.id, problems_of(error)) from None

    def dump_result(self, result: Any) -> Any:
        """Return a handler's result as JSON that PostgreSQL can keep.

        Raises:
            InvalidPayloadError: it is no such JSON.
        """
        try:
            data = to_jsonable_python(result)
        except PydanticSerializationError as error:
            raise InvalidPayloadError(f"{self.id} (result)", [str(error)]) from None
        _check_json(f"{self.id} (result)", data)
        return data

    def load_result(self, data: Any) -> R:
        """Return a stored result as the type the handler declares; as it is when it does not fit."""
        try:
            return self._result.validate_python(data)
        except ValidationError:
            return data


def _type_adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        # Else NaN where the type says Any would be turned into null without a word.
        return TypeAdapter(kind, config=ConfigDict(ser_json_inf_nan="constants"))
    except PydanticSchemaGenerationError:
        raise
    except PydanticUserError:
        # A model, which has a configuration of its own.
        return TypeAdapter(kind)


def problems_of(error: ValidationError) -> list[str]:
    """Return where a payload is wrong and how, without its values."""
    return [
        f"{'.'.join(str(part) for part in each['loc']) or 'payload'}: {each['msg']}"
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _annotated(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return where the annotations of a handler are: a partial and an object with __call__ have none."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler if inspect.isroutine(handler) else type(handler).__call__


def _read_signature(task: str, handler: Callable[..., Any]) -> tuple[Any, Any, bool]:
    """Return (payload type, result type, takes a context) of a handler."""
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    given = list(inspect.signature(handler).parameters.values())
    names = [each.name for each in given if each.kind in positional]
    if len(names) not in {_ONE_ARGUMENT, _TWO_ARGUMENTS}:
        msg = (
            f"The handler of {task!r} must take (payload) or (payload, ctx); it takes {len(names)} arguments."
        )
        raise TaskDefinitionError(msg)
    try:
        hints = get_type_hints(_annotated(handler), include_extras=True)
    except NameError as error:
        msg = f"An annotation of the handler of {task!r} cannot be resolved: {error}. Import it at module level."
        raise TaskDefinitionError(msg) from error
    return hints.get(names[0], Any), hints.get("return", Any), len(names) == _TWO_ARGUMENTS


def _check_json(task: str, data: Any) -> None:
    found = list(itertools.islice(problems(data), _MOST_PROBLEMS))
    if found:
        raise InvalidPayloadError(task, found)


class Registry:
    """Every task by its id. Frozen when the adapter opens."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskDefinition[Any, Any]] = {}
        self._frozen = False
        self._limits: dict[str, Limits] = {}
        #: The tasks of which a worker need not read the whole row; complete once the registry is frozen.
        self.plain: tuple[str, ...] = ()
        #: The tasks that run in child processes; complete once the registry is frozen.
        self.isolated: tuple[str, ...] = ()
        #: Executors that canaries are sent to, and how often.
        self.canaries: dict[str, timedelta] = {}
        #: What executors cost.
        self.prices: dict[str, Price] = {}
        #: The hooks of all tasks.
        self.hooks = Hooks()

    @property
    def is_frozen(self) -> bool:
        """Whether it takes no more."""
        return self._frozen

    def add(self, definition: TaskDefinition[Any, Any]) -> None:
        """Declare a task.

        Raises:
            TaskDefinitionError: the id is taken, or the adapter is open.
        """
        if self._frozen:
            msg = f"Task {definition.id!r} was declared after the adapter was opened. Declare tasks at import time."
            raise TaskDefinitionError(msg)
        if definition.id in self._tasks:
            msg = f"Task {definition.id!r} is declared twice."
            raise TaskDefinitionError(msg)
        self._tasks[definition.id] = definition

    def add_canary(self, executor: str, remote_id: str, every: timedelta) -> None:
        """Declare the canary of one more executor; all of them are one task.

        Raises:
            TaskDefinitionError: it is too fast, or all was declared already.
        """
        if every < timedelta(seconds=1):
            msg = f"A canary of {executor!r} every {every} is too much: once a second is the most."
            raise TaskDefinitionError(msg)
        before = self._tasks.pop(CANARY, None)
        remote_ids = {**(before.policy.remote_ids if before is not None else {}), executor: remote_id}
        # A kill switch is about the jobs; whether the path is whole is what one wants to know meanwhile.
        policy = TaskPolicy(
            id=CANARY, description="Shows that an executor is well.", remote_ids=remote_ids, on_kill="keep"
        )
        self.add(TaskDefinition(policy, None))
        self.canaries[executor] = every

    def add_price(self, executor: str, price: Price) -> None:
        """Say what an executor costs.

        Raises:
            TaskDefinitionError: all was declared already.
        """
        if self._frozen:
            msg = f"The price of {executor!r} was declared after the adapter was opened. Declare it at import time."
            raise TaskDefinitionError(msg)
        self.prices[executor] = price

    def freeze(self) -> None:
        """Check what can only be checked when all is declared, and take no more.

        Raises:
            TaskDefinitionError: two tasks share one spelling in the environment, or a queue two limits.
        """
        spellings: dict[str, str] = {}
        for task in self._tasks:
            spelling = environment_spelling(task)
            if spelling in spellings:
                msg = f"Tasks {spellings[spelling]!r} and {task!r} would share the variable ADAPTER_EXECUTOR__{spelling}."
                raise TaskDefinitionError(msg)
            spellings[spelling] = task
        self._limits = self._read_limits()
        for definition in self._tasks.values():
            definition.hooks = definition.own_hooks.under(self.hooks)
        self.plain = tuple(each.id for each in self._tasks.values() if each.is_plain)
        self.isolated = tuple(each.id for each in self._tasks.values() if each.is_isolated)
        self._frozen = True

    @property
    def queue_limits(self) -> dict[str, Limits]:
        """Every queue that tasks name, with its limits; complete once the registry is frozen."""
        return self._limits

    def _read_limits(self) -> dict[str, Limits]:
        """Return every queue that tasks name, with its limits.

        Raises:
            TaskDefinitionError: two tasks give one queue different limits.
        """
        limits: dict[str, Limits] = {}
        for definition in self._tasks.values():
            queue = definition.policy.queue
            if limits.setdefault(queue.name, queue.limits) != queue.limits:
                msg = f"Queue {queue.name!r} is declared twice, with different limits."
                raise TaskDefinitionError(msg)
        return limits

    def get(self, task: str) -> TaskDefinition[Any, Any]:
        """Return a task.

        Raises:
            UnknownTaskError: there is none of that name.
        """
        found = self._tasks.get(task)
        if found is None:
            raise UnknownTaskError(task, difflib.get_close_matches(task, self._tasks, n=3))
        return found

    def find(self, task: str) -> TaskDefinition[Any, Any] | None:
        """Return a task or None."""
        return self._tasks.get(task)

    def __iter__(self) -> Iterator[TaskDefinition[Any, Any]]:
        """Iterate over the tasks, by id."""
        return iter(sorted(self._tasks.values(), key=lambda each: each.id))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._tasks)

    @property
    def runnable(self) -> dict[str, str]:
        """The tasks that run here, and the hash of their schemas."""
        return {each.id: each.schema_hash for each in self._tasks.values() if each.runs_here}
