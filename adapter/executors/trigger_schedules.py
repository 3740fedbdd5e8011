"""Trigger.dev's schedules (its API contract, 9): created exact, turned, and what they have started."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from adapter.domain.errors import UnknownOutcomeError
from adapter.domain.packets import decode_packet
from adapter.executors.base import RemoteSchedule, RemoteTick
from adapter.executors.http import HttpClient
from adapter.executors.trigger_requests import path_segment
from adapter.executors.trigger_runs import read_run

_BASE = "/api/v1/schedules"
_PAGE = 100
#: So many pages of schedules are looked through for one.
_MOST_PAGES = 20
_WINDOW = re.compile(r"(\d+)([mh])")


class _Generator(BaseModel):
    expression: str


class _Schedule(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    id: str
    task: str
    active: bool
    generator: _Generator
    timezone: str
    next_run: datetime | None = None
    window: str | None = None

    def seen(self) -> RemoteSchedule:
        return RemoteSchedule(
            schedule_id=self.id,
            task=self.task,
            cron=self.generator.expression,
            timezone=self.timezone,
            active=self.active,
            next_run=self.next_run,
            window=_window(self.window),
        )


def _window(text: str | None) -> timedelta | None:
    found = _WINDOW.fullmatch(text or "")
    if found is None:
        return None
    unit = {"m": "minutes", "h": "hours"}[found[2]]
    return timedelta(**{unit: int(found[1])})


def _read(body: Any) -> RemoteSchedule:
    try:
        return _Schedule.model_validate(body).seen()
    except ValidationError as error:
        places = ", ".join(".".join(map(str, each["loc"])) or "body" for each in error.errors())
        raise UnknownOutcomeError(f"The reply is no schedule; look at: {places}.") from None


class TriggerSchedules:
    """The schedules of one environment. Errors as those of `TriggerDev`."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def create(
        self, *, task: str, cron: str, timezone: str, key: str, external_id: str
    ) -> RemoteSchedule:
        """Make a schedule without a window, or change the one of that key.

        Without ``window`` the Cloud spreads a schedule's runs over an hour.
        """
        body = {
            "task": task,
            "cron": cron,
            "timezone": timezone,
            "deduplicationKey": key,
            "externalId": external_id,
            "window": "0m",
        }
        return _read((await self._http.request("POST", _BASE, json=body, retry=True)).value)

    async def retrieve(self, schedule_id: str) -> RemoteSchedule | None:
        """Return a schedule, None when Trigger.dev does not know it."""
        return await self._of("GET", schedule_id)

    async def find(self, key: str) -> RemoteSchedule | None:
        """Return the schedule of a deduplication key, None when there is none."""
        for number in range(1, _MOST_PAGES + 1):
            query = {"page": str(number), "perPage": str(_PAGE)}
            page: Any = (await self._http.request("GET", _BASE, params=query, retry=True)).value
            shown = cast("list[dict[str, Any]]", page.get("data") or [])
            for each in shown:
                if each.get("deduplicationKey") == key:
                    return _read(each)
            if len(shown) < _PAGE:
                return None
        raise UnknownOutcomeError(
            f"There are more than {_MOST_PAGES * _PAGE} schedules: none was found among the first."
        )

    async def turn(self, schedule_id: str, *, active: bool) -> RemoteSchedule | None:
        """Activate or deactivate a schedule; None when Trigger.dev does not know it."""
        return await self._of("POST", schedule_id, "/activate" if active else "/deactivate")

    async def delete(self, schedule_id: str) -> None:
        """Delete a schedule."""
        path = f"{_BASE}/{path_segment(schedule_id)}"
        await self._http.request("DELETE", path, retry=True, needs_json=False, missing_ok=True)

    async def ticks(self, schedule_id: str, since: datetime) -> AsyncIterator[RemoteTick]:
        """Iterate over all runs it has started since, oldest first, each with its nominal time."""
        query = {
            "filter[schedule]": schedule_id,
            "filter[createdAt][from]": str(int(since.timestamp() * 1000)),
            "page[size]": str(_PAGE),
        }
        # Newest first, and more come in front while pages are turned: a run may show twice.
        ids: dict[str, None] = {}
        while True:
            page: Any = (await self._http.request("GET", "/api/v1/runs", params=query, retry=True)).value
            runs = cast("list[dict[str, Any]]", page.get("data") or [])
            ids |= dict.fromkeys(str(run["id"]) for run in runs)
            following: Any = cast("dict[str, Any]", page.get("pagination") or {}).get("next")
            if not runs or not isinstance(following, str):
                break
            query["page[after]"] = following
        for run_id in reversed(ids):
            found = await self.tick(run_id)
            if found is not None:
                yield replace(found, schedule_id=schedule_id)

    async def _of(self, method: str, schedule_id: str, verb: str = "") -> RemoteSchedule | None:
        path = f"{_BASE}/{path_segment(schedule_id)}{verb}"
        reply = await self._http.request(method, path, retry=True, missing_ok=True)
        return None if reply.status == 404 else _read(reply.value)

    async def tick(self, run_id: str) -> RemoteTick | None:
        """Retrieve a run, whose payload says for when it was meant; None when it is gone or says nothing."""
        path = f"/api/v3/runs/{path_segment(run_id)}"
        reply = await self._http.request("GET", path, retry=True, missing_ok=True)
        if reply.status == 404:
            return None
        body: Any = reply.value
        payload = body.get("payload")
        if isinstance(payload, str) and body.get("payloadType") not in {None, "application/json"}:
            payload = decode_packet(payload, body["payloadType"])
        said = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}
        at = _nominal(said)
        if at is None:
            return None
        run = read_run(body)
        seen = run.as_run(complete=True, output=run.output)
        return RemoteTick(schedule_id=str(said.get("scheduleId")), run=seen, at=at, payload=said)


def _nominal(payload: Mapping[str, Any]) -> datetime | None:
    text = payload.get("timestamp")
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return at if at is not None and at.tzinfo is not None else None
