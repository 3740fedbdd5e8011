"""What a trigger and a replay may ask for, and what it means to `Adapter.schedule_job`.

Strict where upstream is (Trigger.dev's API contract, 5 and 7.4). Machine, region, lockToVersion,
externalDeploymentId, concurrency, test and resumeParentOnCompletion are kept with the job and shown, and move
nothing here. What a newer SDK sends is passed over.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from adapter.domain.debounce import Debounce
from adapter.domain.durations import format_duration, parse_duration
from adapter.domain.errors import InvalidArgumentError
from adapter.domain.metadata_operations import MOST_BYTES as MOST_METADATA_BYTES
from adapter.domain.task import LONGEST_KEY, LONGEST_TAG, MOST_ATTEMPTS, MOST_TAGS
from adapter.web.bodies import is_text
from adapter.web.errors import ApiError

_LONGEST_NAME = 512
_LONGEST_DEPLOYMENT = 128
_MOST_CONCURRENCIES = 2
_SHORTEST_RUN = timedelta(seconds=5)
#: Beyond any use, and well inside what PostgreSQL can add to a date.
_LONGEST = timedelta(days=36_525)
_KEY_TTL = re.compile(r"\d{1,9}[smhd]")

_Model = TypeVar("_Model", bound=BaseModel)

Machine: TypeAlias = Literal[
    "micro", "small-1x", "small-2x", "medium-1x", "medium-2x", "large-1x", "large-2x"
]


def _storable(text: str) -> str:
    if not is_text(text):
        raise ValueError("holds a character that cannot be stored")
    return text


_Text = Annotated[str, AfterValidator(_storable)]
_NameText = Annotated[str, Field(max_length=_LONGEST_NAME), AfterValidator(_storable)]
Tag = Annotated[str, Field(max_length=LONGEST_TAG), AfterValidator(_storable)]
_Concurrency = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,122}$")]


class Wire(BaseModel):
    """What comes in camelCase, with fields of newer clients passed over."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", strict=True, allow_inf_nan=False)


class KeyOptions(Wire):
    """What the SDK's user passed; on the wire the key itself is a hash."""

    key: _Text | None = Field(default=None, max_length=LONGEST_KEY)
    scope: _NameText | None = None


class QueueName(Wire):
    """A custom queue."""

    name: _NameText


class DebounceOptions(Wire):
    """How calls of one key are made into one run."""

    key: _NameText = Field(min_length=1)
    delay: str
    mode: Literal["leading", "trailing"] = "leading"
    max_delay: str | None = None

    def as_debounce(self) -> Debounce:
        """Return what it means.

        Raises:
            ApiError: 422, for durations that cannot be.
        """
        longest = None if self.max_delay is None else _duration(self.max_delay, "debounce maxDelay")
        delay = _duration(self.delay, "debounce delay")
        try:
            return Debounce(self.key, delay, trailing=self.mode == "trailing", longest=longest)
        except InvalidArgumentError as error:
            raise ApiError(422, f"Invalid debounce: {error}") from None


class CommonOptions(Wire):
    """What trigger and replay share."""

    concurrency_key: _NameText | int | float | None = None
    idempotency_key: _Text | None = Field(default=None, max_length=LONGEST_KEY)
    idempotency_key_ttl: str | None = Field(default=None, alias="idempotencyKeyTTL")
    delay: str | None = None
    ttl: str | Annotated[int, Field(ge=0)] | None = None
    tags: Tag | list[Tag] | None = None
    max_attempts: int | None = Field(default=None, ge=1)
    max_duration: float | None = Field(default=None, ge=0)
    metadata: Any = None
    machine: Machine | None = None
    priority: float | None = Field(default=None, ge=-(2**31), lt=2**31)
    region: _NameText | None = None

    def queue_name(self) -> str | None:
        """Return the custom queue, None for the task's own."""
        return None

    def as_call(self, now: datetime) -> dict[str, Any]:
        """Return keyword arguments of `Adapter.schedule_job`, only those that were asked for.

        Raises:
            ApiError: 413 or 422, for what is well-formed and cannot be done.
        """
        asked: dict[str, Any] = {
            "queue": self.queue_name() or None,
            "concurrency_key": None if self.concurrency_key is None else str(self.concurrency_key) or None,
            "idempotency_key": self.idempotency_key or None,
            "idempotency_ttl": key_life(self.idempotency_key_ttl),
            "ttl": _ttl(self.ttl),
            "tags": _tags(self.tags),
            "max_attempts": None if self.max_attempts is None else min(self.max_attempts, MOST_ATTEMPTS),
            "max_duration": _run_time(self.max_duration),
            "metadata": _metadata(self.metadata),
            "priority": None if self.priority is None else round(self.priority),
        } | due_of(self.delay, now)
        return {name: value for name, value in asked.items() if value is not None}

    def kept(self) -> dict[str, Any]:
        """Return what moves nothing here, and is shown."""
        return {"machine": self.machine, "region": self.region or None}


class TriggerOptions(CommonOptions):
    """The options of a trigger."""

    payload_type: str | None = None
    queue: QueueName | None = None
    idempotency_key_options: KeyOptions | None = None
    debounce: DebounceOptions | None = None
    concurrency: list[_Concurrency] | None = Field(default=None, max_length=_MOST_CONCURRENCIES)
    lock_to_version: _NameText | None = None
    external_deployment_id: _Text | None = Field(default=None, max_length=_LONGEST_DEPLOYMENT)
    test: bool | None = None
    parent_run_id: _NameText | None = None
    resume_parent_on_completion: bool | None = None

    def queue_name(self) -> str | None:
        """Return the custom queue, None for the task's own."""
        return self.queue.name if self.queue else None

    def kept(self) -> dict[str, Any]:
        """Return what moves nothing here, and is shown."""
        return super().kept() | {
            "version": self.lock_to_version or None,
            "deployment": self.external_deployment_id or None,
            "concurrency": self.concurrency or None,
            "test": self.test or None,
            "resumes_parent": self.resume_parent_on_completion or None,
        }

    def as_call(self, now: datetime) -> dict[str, Any]:
        """As `CommonOptions.as_call`; what only a retrieve shows goes into ``extra``."""
        call = super().as_call(now)
        extra = {name: value for name, value in self.kept().items() if value is not None}
        if self.debounce is not None:
            # It says by itself when the run starts.
            call = {name: value for name, value in call.items() if name not in {"due", "delay"}}
            call["debounce"] = self.debounce.as_debounce()
        if self.idempotency_key and self.idempotency_key_options:
            extra["idempotency"] = self.idempotency_key_options.model_dump(exclude_none=True)
        if "ttl" in call:
            extra["ttl"] = format_duration(call["ttl"])
        return call | {"extra": extra} if extra else call


class TriggerBody(Wire):
    """The body of a trigger. A payload that was not sent is None."""

    payload: Any = None
    options: TriggerOptions = TriggerOptions()


class ReplayBody(CommonOptions):
    """The overrides of a replay: unknown ones are refused, as upstream does."""

    model_config = ConfigDict(extra="forbid")

    payload: Any = None
    payload_type: Literal["application/json", "application/super+json"] | None = None
    queue: _NameText | None = None
    version: str | None = None

    def queue_name(self) -> str | None:
        """Return the custom queue, None for the original's."""
        return self.queue


def validated(model: type[_Model], value: Any) -> _Model:
    """Return the model.

    Raises:
        ApiError: 400, saying where and why in upstream's form, never the value.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = (f'{each["msg"]} at "{".".join(map(str, each["loc"]))}"' for each in error.errors())
        raise ApiError(400, f"Validation error: {'; '.join(problems)[:1000]}") from None


def _bounded(duration: timedelta, what: str) -> timedelta:
    if duration > _LONGEST:
        raise ApiError(422, f"{what} is too long.")
    return duration


def _duration(text: str, what: str) -> timedelta:
    try:
        return _bounded(parse_duration(text), what)
    except InvalidArgumentError as error:
        raise ApiError(422, f"Invalid {what}: {error}") from None


def due_of(delay: str | None, now: datetime) -> dict[str, Any]:
    """Return ``delay`` or ``due``; a date that has passed is no delay.

    Text that is neither is refused; upstream silently does not delay.
    """
    if not delay:
        return {}
    try:
        due = datetime.fromisoformat(delay)
        due = due.replace(tzinfo=UTC) if due.tzinfo is None else due.astimezone(UTC)
    except (ValueError, OverflowError):
        return {"delay": _duration(delay, "delay")}
    if due <= now:
        return {}
    _bounded(due - now, "delay")
    return {"due": due}


def _ttl(ttl: str | int | None) -> timedelta | None:
    if not ttl:
        return None
    if isinstance(ttl, str):
        found = _duration(ttl, "ttl")
    elif ttl > _LONGEST.total_seconds():
        raise ApiError(422, "ttl is too long.")
    else:
        found = timedelta(seconds=ttl)
    return found or None


def key_life(text: str | None) -> timedelta | None:
    """Return the key's life; upstream silently takes its default for what it cannot read."""
    if text is None or not _KEY_TTL.fullmatch(text):
        return None
    return min(parse_duration(text), _LONGEST)


def _run_time(seconds: float | None) -> timedelta | None:
    if seconds is None:
        return None
    if seconds > _LONGEST.total_seconds():
        raise ApiError(422, "maxDuration is too long.")
    return max(timedelta(seconds=seconds), _SHORTEST_RUN)


def _tags(tags: str | list[str] | None) -> tuple[str, ...] | None:
    if tags is None:
        return None
    listed = [tags] if isinstance(tags, str) else tags
    kept = tuple(dict.fromkeys(tag for tag in listed if tag.strip()))
    if len(kept) > MOST_TAGS:
        raise ApiError(422, f"Runs can only have {MOST_TAGS} tags, you're trying to set {len(kept)}.")
    return kept or None


def _metadata(metadata: Any) -> dict[str, Any] | None:
    if metadata is None:
        return None
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except (ValueError, RecursionError):
            raise ApiError(400, 'Validation error: not an object at "options.metadata"') from None
    if not isinstance(metadata, dict):
        raise ApiError(400, 'Validation error: not an object at "options.metadata"')
    if len(json.dumps(metadata, ensure_ascii=False).encode("utf-8", "replace")) > MOST_METADATA_BYTES:
        raise ApiError(413, f"Metadata exceeds maximum size of {MOST_METADATA_BYTES} bytes")
    return cast("dict[str, Any]", metadata)
