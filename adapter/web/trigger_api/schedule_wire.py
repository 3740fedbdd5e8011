"""A schedule as Trigger.dev's SDK reads and writes it (its API contract, 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, field_validator

from adapter.core.cron.ticks import offset_of
from adapter.domain.errors import InvalidCronError
from adapter.domain.keys import environment_of
from adapter.domain.window import check_window
from adapter.domain.wire import moment
from adapter.store.schedules import DECLARED
from adapter.web.auth import environment_id
from adapter.web.errors import ApiError
from adapter.web.trigger_api.options import Wire
from adapter.web.trigger_api.wire import SCHEDULE, public_id

if TYPE_CHECKING:
    from datetime import datetime

    from adapter.store.schedules import Schedule

_FIELDS = 5
_LONGEST = 2048
#: In front of keys that begin as the registry's do, and of those that begin with it.
_ESCAPE = "key:"
_KINDS = {"dev": "DEVELOPMENT", "stg": "STAGING", "prod": "PRODUCTION", "preview": "PREVIEW"}


class ScheduleBody(Wire):
    """What a change says: all of it, since what is left out is cleared."""

    task: str = Field(max_length=_LONGEST)
    cron: str = Field(max_length=_LONGEST)
    external_id: str | None = Field(default=None, max_length=_LONGEST)
    timezone: str | None = None
    window: str | None = None

    @field_validator("window")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        return None if value is None else check_window(value)


class NewScheduleBody(ScheduleBody):
    """What a creation says."""

    deduplication_key: str = Field(min_length=1, max_length=_LONGEST)

    @property
    def key(self) -> str:
        """The key as we keep it: the registry's own begin with a word that anybody may use there."""
        given = self.deduplication_key
        return _ESCAPE + given if given.startswith((DECLARED, _ESCAPE)) else given


def read_body(model: type[ScheduleBody], body: object) -> Any:
    """Return the body.

    Raises:
        ApiError: 400, with upstream's list of where and why.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        issues = [{"path": list(each["loc"]), "message": each["msg"]} for each in error.errors()]
        raise ApiError(400, "Invalid request body", issues=issues) from None


def cron_refused(error: InvalidCronError, timezone: str) -> ApiError:
    """Return upstream's words for an expression or a zone that cannot be read."""
    if error.given == timezone:
        return ApiError(
            422, f"Invalid IANA timezone: '{timezone}'. GET /api/v1/timezones lists those there are."
        )
    fields = len(error.given.split())
    why = "CRON expressions with seconds are not allowed" if fields > _FIELDS else error.problem
    return ApiError(422, f"Invalid cron expression: {why}")


def shown(schedule: Schedule, now: datetime, secret_key: str) -> dict[str, Any]:
    """Return what every route answers of a schedule."""
    answer: dict[str, Any] = {
        "id": public_id(SCHEDULE, schedule.id),
        "type": "DECLARATIVE" if schedule.is_declared else "IMPERATIVE",
        "task": schedule.task,
        "active": schedule.active,
        "deduplicationKey": None
        if schedule.is_declared or schedule.key is None
        else _given_key(schedule.key),
        "externalId": schedule.external_id,
        "generator": {"type": "CRON", "expression": schedule.cron, "description": described(schedule.cron)},
        "timezone": schedule.timezone,
        "nextRun": None,
        "nextRunEffectiveAt": None,
        "environments": [_environment(secret_key)],
    }
    if schedule.window is not None:
        answer["window"] = schedule.window
    if schedule.active:
        # An executor that keeps its clock does not tell us the time, but fires at the same ones.
        following = schedule.next_at or schedule.times.next_after(now)
        answer["nextRun"] = moment(following)
        answer["nextRunEffectiveAt"] = moment(following + offset_of(schedule, following))
    return answer


def described(cron: str) -> str:
    """Return an expression in words, in English whatever the machine speaks."""
    try:
        # Loaded by whoever looks at a schedule: it takes 40 ms, and opens files of translations.
        from cron_descriptor import (  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs] - brings no types
            Options,
            get_description,
        )

        options = Options()
        options.locale_code, options.use_24hour_time_format = "en_US", False
        return get_description(cron, options)
    except Exception:  # noqa: BLE001 - whatever it cannot say, the expression says
        return cron


def _given_key(key: str) -> str:
    return key.removeprefix(_ESCAPE) if key.startswith((_ESCAPE + DECLARED, _ESCAPE + _ESCAPE)) else key


def _environment(secret_key: str) -> dict[str, Any]:
    return {
        "id": environment_id(secret_key),
        "type": _KINDS[environment_of(secret_key) or "prod"],
        "userName": None,
    }
