"""The executor on Trigger.dev, over its public HTTP API."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from adapter.domain.clock import Clock, SystemClock
from adapter.domain.errors import (
    ConfigurationError,
    ExecutorError,
    InvalidArgumentError,
    NotSentError,
    RejectedError,
    ThrottledError,
    UnknownOutcomeError,
)
from adapter.domain.json import encode_json
from adapter.domain.packets import JSON, STORED, SUPERJSON, TEXT, decode_packet
from adapter.executors.base import Accepted, Budget, Capabilities, RemoteRun, RunFilter, RunPage, Submission
from adapter.executors.http import HttpClient, Timeouts, Transport
from adapter.executors.trigger_requests import (
    LONGEST_TTL,
    environment_of,
    list_query,
    path_segment,
    replay_tags,
    tombstone_options,
    trigger_headers,
    trigger_options,
)
from adapter.executors.trigger_runs import RunBody, read_run
from adapter.executors.trigger_schedules import TriggerSchedules

API_URL = "https://api.trigger.dev"
API_VERSION = "2025-07-16"
#: How long a repeated request key is answered with the first run.
DEDUP_FOR = timedelta(hours=24)
#: Payloads of so many bytes go through the object store.
OFFLOAD_AT = 128 * 1024
_PACKETS = frozenset({JSON, SUPERJSON, TEXT})
_KEY = re.compile(r"[!-~]+")
_log = logging.getLogger("adapter.executors")


class TriggerDev:
    """Runs jobs on Trigger.dev Cloud or a server of the same API.

    ``environment`` overrides what `environment` derives from key, branch and host: name it when a new
    key opens the same environment as the one before.
    """

    def __init__(
        self,
        *,
        secret_key: str,
        api_url: str = API_URL,
        name: str = "trigger",
        project_ref: str | None = None,
        branch: str | None = None,
        environment: str | None = None,
        requests_per_minute: float = 1500,
        burst: float = 750,
        clock: Clock | None = None,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        parts = urlsplit(api_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError(f"The API URL of executor {name!r} is no http URL with a host.")
        if not _KEY.fullmatch(secret_key):
            raise ConfigurationError(f"The secret key of executor {name!r} is empty or has odd characters.")
        self._name = name
        self.project_ref = project_ref
        self._clock = clock or SystemClock()
        self._budget = (
            Budget(per_second=requests_per_minute / 60, burst=burst) if requests_per_minute else None
        )
        self._environment = environment or environment_of(secret_key, branch, parts.netloc.lower())
        headers = {"authorization": f"Bearer {secret_key}", "x-trigger-api-version": API_VERSION}
        if branch is not None:
            headers["x-trigger-branch"] = branch
        self._http = HttpClient(
            base_url=api_url, headers=headers, clock=self._clock, timeouts=timeouts, transport=transport
        )

    def __repr__(self) -> str:
        return f"TriggerDev(name={self._name!r}, environment={self._environment!r})"

    @property
    def name(self) -> str:
        """What the registry and the flags call it."""
        return self._name

    @property
    def environment(self) -> str:
        """The kind of the key (``prod``) and a digest over key, branch and host."""
        return self._environment

    @property
    def budget(self) -> Budget | None:
        """The rate limit of our key; None for ``requests_per_minute=0``, a remote without one."""
        return self._budget

    @property
    def capabilities(self) -> Capabilities:
        """What can be relied on here."""
        return Capabilities(lookup=True, dedup_for=DEDUP_FOR, remote_delay=True, longest_ttl=LONGEST_TTL)

    @property
    def clock(self) -> TriggerSchedules:
        """Trigger.dev's schedules."""
        return TriggerSchedules(self._http)

    async def open(self) -> None:
        """Make ready; no request is sent."""
        await self._http.open()

    async def close(self) -> None:
        """Release connections."""
        await self._http.close()

    async def submit(self, submission: Submission) -> Accepted:
        """Trigger the run of one epoch. Safe to repeat for 24 h.

        Trigger.dev keeps ten tags of 128 characters. Ours is always among them, so a job's tags are
        cut off from the last, shortened, and left out where they are blank, doubled or look like ours.
        """
        options = trigger_options(submission, self._clock.now())
        try:
            content = encode_json(submission.data)
        except (ValueError, TypeError, RecursionError) as error:
            raise RejectedError(f"The payload cannot be written as JSON: {error}", status=0) from None
        payload: Any = submission.data
        if submission.superjson is not None:
            payload = encode_json({"json": submission.data, "meta": submission.superjson}).decode()
            options |= {"payloadType": SUPERJSON}
        if len(content) >= OFFLOAD_AT:
            payload = await self._offload(submission, content)
            options |= {"payloadType": STORED, "payloadSize": len(content)}
        return await self._trigger(submission, {"payload": payload, "options": options})

    async def submit_tombstone(self, submission: Submission) -> Accepted:
        """Send the keys of an epoch again, without its work, to learn which run they stand for.

        What comes back is either the epoch's real run or one that carries `identity.tombstone_tag`
        as its only tag and waits far in the future. A retrieve tells which.
        """
        options = tombstone_options(submission, self._clock.now())
        return await self._trigger(submission, {"payload": None, "options": options})

    async def retrieve(self, run_id: str) -> RemoteRun | None:
        """Return the run with output and error, or None when Trigger.dev does not know it.

        ``complete`` is False when its output lay in an object store that has no readable copy any more.
        """
        body = await self._retrieve(run_id)
        if body is None:
            return None
        run = body.as_run(complete=True, output=body.output)
        url = body.output_presigned_url
        return run if url is None else await self._with_stored_output(body, url)

    async def list_runs(self, wanted: RunFilter, cursor: str | None = None) -> RunPage:
        """Return one page.

        A run in an unknown status, or that cannot be read, is left out and logged: a page proves no
        absence, and one such run must not hide the others. Raises also InvalidArgumentError: for more than 100 tags.
        """
        reply = await self._http.request("GET", "/api/v1/runs", params=list_query(wanted, cursor), retry=True)
        page: Any = reply.value
        items = _field(page, "data")
        if not isinstance(items, list):
            raise UnknownOutcomeError("The reply is no list of runs.")
        runs: list[RemoteRun] = []
        runs_shown = cast("list[Any]", items)
        for item in runs_shown:
            try:
                runs.append(read_run(item).as_run(complete=False))
            except UnknownOutcomeError as error:
                _log.warning("Executor %s: left out of a list: %s", self._name, error)
        following = _field(_field(page, "pagination"), "next")
        # An empty page, or a cursor that stands still, would be walked for ever.
        more = isinstance(following, str) and runs_shown and following != cursor
        return RunPage(runs=tuple(runs), next=following if more else None)

    async def cancel(self, run_id: str) -> None:
        """Ask for cancellation. Returning means asked, not stopped; unknown runs are no error."""
        path = f"/api/v2/runs/{path_segment(run_id)}/cancel"
        await self._http.request("POST", path, retry=True, needs_json=False, missing_ok=True)

    async def replay(self, run_id: str) -> str:
        """Start a new run like this one and return its id. Not safe to repeat.

        The tags of our epochs are not copied: by them the new run would pass for the old job's.
        """
        body = await self._retrieve(run_id)
        if body is None:
            raise RejectedError(f"There is no run {run_id}.", status=404)
        path = f"/api/v1/runs/{path_segment(run_id)}/replay"
        reply = await self._http.request(
            "POST", path, json={"tags": replay_tags(run_id, body.tags)}, retry=False
        )
        return _run_id(reply.value)

    async def _trigger(self, submission: Submission, body: dict[str, Any]) -> Accepted:
        path = f"/api/v1/tasks/{path_segment(submission.remote_id)}/trigger"
        reply = await self._http.request(
            "POST", path, json=body, headers=trigger_headers(submission), retry=True
        )
        return Accepted(run_id=_run_id(reply.value), cached=_field(reply.value, "isCached") is True)

    async def _offload(self, submission: Submission, content: bytes) -> str:
        """Store the payload and return its path. However that fails, no run was asked for yet."""
        packet = f"trigger/packet_{submission.job_id}_{submission.epoch}/payload.json"
        try:
            reply = await self._http.request("PUT", f"/api/v2/packets/{path_segment(packet)}", retry=True)
        except UnknownOutcomeError as error:
            raise NotSentError(f"The payload could not be stored: {error}") from None
        url, path = _field(reply.value, "presignedUrl"), _field(reply.value, "storagePath")
        if not isinstance(url, str) or not isinstance(path, str):
            raise NotSentError("The payload could not be stored: the reply names no place.")
        try:
            await self._http.transfer("PUT", url, content=content, content_type=JSON)
        except ExecutorError as error:
            raise NotSentError(f"The payload could not be stored: {error}") from None
        return path

    async def _retrieve(self, run_id: str) -> RunBody | None:
        path = f"/api/v3/runs/{path_segment(run_id)}"
        reply = await self._http.request("GET", path, retry=True, missing_ok=True)
        return None if reply.status == 404 else read_run(reply.value)

    async def _with_stored_output(self, body: RunBody, url: str) -> RemoteRun:
        try:
            blob = await self._http.transfer("GET", url)
            kind = blob.content_type.partition(";")[0].strip().lower()
            output = decode_packet(blob.content.decode(), kind if kind in _PACKETS else JSON)
        except ThrottledError as error:  # the store's limit, not the API's
            raise UnknownOutcomeError(f"The output could not be read: {error}") from None
        except (RejectedError, InvalidArgumentError, UnicodeDecodeError) as error:
            _log.warning("Executor %s: the output of run %s is lost: %s", self._name, body.id, error)
            return body.as_run(complete=False)
        return body.as_run(complete=True, output=output)


def _field(value: Any, name: str) -> Any:
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None


def _run_id(value: Any) -> str:
    run_id = _field(value, "id")
    if not isinstance(run_id, str) or not run_id:
        raise UnknownOutcomeError("The reply names no run.")
    return run_id
