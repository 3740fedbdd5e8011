"""From the items of a batch to what is to be scheduled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import Field

from adapter.core.planning import JobSpec, ScheduleOptions
from adapter.domain.batch import ItemFailure
from adapter.domain.errors import AdapterError, StoreError
from adapter.web.errors import ApiError
from adapter.web.trigger_api.lines import read_line
from adapter.web.trigger_api.options import TriggerOptions, Wire, validated
from adapter.web.trigger_api.payloads import payload_value
from adapter.web.trigger_api.tasks import task_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adapter.core.batches import FindPacket
    from adapter.domain.job import Job
    from adapter.web.trigger_api.context import ApiContext
    from adapter.web.trigger_api.lines import Line

#: Of a batch in one request.
MOST_ITEMS = 500


class BatchItemBody(Wire):
    """One item of a batch in one request; of the oldest form the path names the task."""

    task: str | None = None
    payload: Any = None
    options: TriggerOptions = TriggerOptions()


class BatchBody(Wire):
    """A batch in one request."""

    items: list[BatchItemBody] = Field(min_length=1, max_length=MOST_ITEMS)
    parent_run_id: str | None = None
    resume_parent_on_completion: bool | None = None


class ItemReader:
    """Reads the items of one batch. ``strict``: one that cannot be scheduled is an error of the whole call."""

    def __init__(
        self, context: ApiContext, parent: Job | None, detail: Mapping[str, Any], *, strict: bool = False
    ) -> None:
        """``detail``: what the batch says of all its items."""
        self._context = context
        self._parent = parent
        self._detail = detail
        self._strict = strict
        #: What came in this request need not be read again; another text may be held under its place.
        self.lines: dict[int, Line] = {}

    async def of_line(self, place: int, text: str, find: FindPacket) -> JobSpec | ItemFailure:
        """Return what a line of a stream asks for."""
        line = self.lines.get(place)
        fields = line.fields if line is not None and line.text is text else read_line(text)
        if fields is None:
            return ItemFailure(json.loads(text)[0], "The item is too large.", too_large=True)
        task: str = fields["task"]
        try:
            options = validated(TriggerOptions, fields.get("options") or {})
        except ApiError as error:
            return ItemFailure(task, str(error))
        return await self.spec(task, fields.get("payload"), options, find)

    async def spec(
        self, task: str, payload: Any, options: TriggerOptions, find: FindPacket
    ) -> JobSpec | ItemFailure:
        """Return what an item asks for, or why that cannot be."""
        adapter = self._context.adapter
        try:
            call = options.as_call(adapter.clock.now())
            data = await payload_value(adapter, payload, options.payload_type, as_text=True, find=find)
        except StoreError:
            raise
        except (ApiError, AdapterError) as error:
            if self._strict:
                raise
            return ItemFailure(task, str(error), error.code if isinstance(error, AdapterError) else None)
        if (user_id := self._detail.get("user_id")) is not None:
            call["user_id"], call["own_names"] = user_id, True
        if self._detail.get("resumes_parent") is True:
            call["extra"] = {**call.get("extra", {}), "resumes_parent": True}
        return JobSpec(task, data, ScheduleOptions(**call), self._parent, undeclared=True)


def tasks_of(body: BatchBody, named: str | None) -> list[str]:
    """Return the task of each item; ``named``: the one that the path names.

    Raises:
        ApiError: 400, when an item names none.
    """
    return [task_id(named if named is not None else item.task or "") for item in body.items]
