"""Trigger.dev's schedules in memory (its API contract, 9)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx

from adapter.domain.cron import Cron
from tests.fakes.trigger_engine import FakeEngine, FakeRun, iso

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class FakeSchedule:
    id: str
    task: str
    cron: str
    timezone: str
    key: str
    external_id: str | None
    window: str | None
    active: bool = True


class FakeSchedules(FakeEngine):
    """Schedules beside the runs. A test fires them (`fire`): time alone does not."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.schedules: dict[str, FakeSchedule] = {}
        #: Tasks that are no scheduled tasks there.
        self.unscheduled: set[str] = set()

    def fire(self, schedule_id: str, at: datetime) -> FakeRun:
        """Let a tick happen: a run whose payload says for when it is meant."""
        schedule = self.schedules[schedule_id]
        assert schedule.active, "a schedule that rests fires nothing"
        payload = {
            "scheduleId": schedule.id,
            "type": "IMPERATIVE",
            "timestamp": iso(at),
            "timezone": schedule.timezone,
        }
        return self.make(schedule.task, payload, {"schedule": schedule.id}, [])

    def schedule_routes(self) -> tuple[tuple[str, str, str, Callable[..., httpx.Response]], ...]:
        one = r"/api/v1/schedules/([^/]+)"
        return (
            ("schedules", "POST", r"/api/v1/schedules", self._create),
            ("schedules", "GET", r"/api/v1/schedules", self._list_schedules),
            ("schedules", "GET", one, self._show),
            ("schedules", "DELETE", one, self._delete),
            ("activate", "POST", one + "/activate", self._activate),
            ("deactivate", "POST", one + "/deactivate", self._deactivate),
        )

    def _create(self, request: httpx.Request) -> httpx.Response:
        body: dict[str, Any] = json.loads(request.content)
        if body["task"] in self.unscheduled:
            return httpx.Response(422, json={"error": f"{body['task']} is not a scheduled task."})
        known = next((each for each in self.schedules.values() if each.key == body["deduplicationKey"]), None)
        if known is None:
            made = FakeSchedule(
                id=f"sched_{len(self.schedules) + 1:x>20}",
                task=body["task"],
                cron=body["cron"],
                timezone=body.get("timezone", "UTC"),
                key=body["deduplicationKey"],
                external_id=body.get("externalId"),
                window=body.get("window"),
            )
            self.schedules[made.id] = made
            return self._answer(made)
        # As upstream: another task is ignored in silence, and it stays active or not.
        known.cron, known.timezone = body["cron"], body.get("timezone", "UTC")
        known.external_id, known.window = body.get("externalId"), body.get("window")
        return self._answer(known)

    def _answer(self, schedule: FakeSchedule) -> httpx.Response:
        return httpx.Response(200, json=self._body(schedule))

    def _body(self, schedule: FakeSchedule) -> dict[str, Any]:
        following = (
            Cron(schedule.cron, schedule.timezone).next_after(self.clock.now()) if schedule.active else None
        )
        window = {} if schedule.window is None else {"window": schedule.window}
        return {
            "id": schedule.id,
            "type": "IMPERATIVE",
            "task": schedule.task,
            "active": schedule.active,
            "deduplicationKey": schedule.key,
            "externalId": schedule.external_id,
            "generator": {"type": "CRON", "expression": schedule.cron, "description": "by the clock"},
            "timezone": schedule.timezone,
            "nextRun": None if following is None else iso(following),
            "nextRunEffectiveAt": None if following is None else iso(following),
            "environments": [{"id": "env_fake", "type": "PRODUCTION"}],
            **window,
        }

    def _list_schedules(self, request: httpx.Request) -> httpx.Response:
        page, size = int(request.url.params.get("page", 1)), int(request.url.params.get("perPage", 20))
        shown = list(self.schedules.values())[(page - 1) * size : page * size]
        return httpx.Response(200, json={"data": [self._body(each) for each in shown], "pagination": {}})

    def _show(self, _request: httpx.Request, schedule_id: str) -> httpx.Response:
        found = self.schedules.get(schedule_id)
        return self._missing() if found is None else self._answer(found)

    def _delete(self, _request: httpx.Request, schedule_id: str) -> httpx.Response:
        found = self.schedules.pop(schedule_id, None)
        return self._missing() if found is None else httpx.Response(200, json={"id": schedule_id})

    def _activate(self, _request: httpx.Request, schedule_id: str) -> httpx.Response:
        return self._turned(schedule_id, active=True)

    def _deactivate(self, _request: httpx.Request, schedule_id: str) -> httpx.Response:
        return self._turned(schedule_id, active=False)

    def _turned(self, schedule_id: str, *, active: bool) -> httpx.Response:
        found = self.schedules.get(schedule_id)
        if found is None:
            return self._missing()
        found.active = active
        return self._answer(found)

    @staticmethod
    def _missing() -> httpx.Response:
        return httpx.Response(404, json={"error": "Schedule not found"})
