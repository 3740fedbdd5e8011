"""Pass-through: whose a request is, and handing on what belongs to the Trigger.dev behind us.

With it an empty registry changes nothing for an application, and runs from before keep answering. What
code that runs on Trigger.dev asks of Trigger.dev never comes by here (docs/pass-through.md).
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote
from uuid import UUID

from pydantic import SecretStr

from adapter.core.loops import Poller
from adapter.core.parts import Parts
from adapter.domain.errors import ConfigurationError, StoreError, UnknownOutcomeError
from adapter.domain.identity import queue_id_of
from adapter.domain.upstream import About, Asked, made_here, subjects_of
from adapter.store import fleet, forwarded, queues, remote_runs
from adapter.store.forwarded import Forwarded
from adapter.store.packets import PacketStore

if TYPE_CHECKING:
    from adapter.executors.http import HttpClient, Transport
    from adapter.executors.upstream import Headers, Passed, Upstream

logger = logging.getLogger("adapter.passthrough")

#: How old the knowledge may be of what workers advertise.
_FRESH_S = 5.0
_FLUSH_S = 10.0
#: Names that are not written yet, at most; what comes on top counts without its task.
_MOST_WAITING = 5000
#: The executor whose runs upstream has.
_TRIGGER = "trigger"
#: A filter of a list that names something one side only can have.
_ONE_SIDED = ("filter[batch]", "filter[schedule]", "filter[bulkAction]")


class Owner(Enum):
    """Who answers a request."""

    OURS = "ours"
    THEIRS = "theirs"
    #: Both have a part of the list.
    BOTH = "both"
    #: It names things of both sides that cannot be taken apart.
    MIXED = "mixed"


class PassThrough:
    """Decides, hands on, counts. It is off without a URL; then everything is ours."""

    def __init__(
        self,
        parts: Parts,
        packets: PacketStore,
        url: str | None,
        keys: Sequence[SecretStr] = (),
        *,
        makes_tokens: bool = False,
        transport: Transport | None = None,
    ) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._clock = parts.clock
        self._packets = packets
        self._makes_tokens = makes_tokens
        self._upstream: Upstream | None = None
        self._store: HttpClient | None = None
        if url is not None:
            from adapter.executors.http import HttpClient  # noqa: PLC0415 - HTTP, only where it is used
            from adapter.executors.upstream import Upstream  # noqa: PLC0415

            self._upstream = Upstream(url, transport)
            self._store = HttpClient(base_url="", headers={}, clock=parts.clock, transport=transport)
        self._for_all, self._keys = _keys(keys)
        self._environments: dict[str, str] = {}
        self._advertised: frozenset[str] | None = None
        self._advertised_at = 0.0
        self._counts: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        #: Writes the counts down.
        self.loop = Poller("pass-through", self.flush, parts.clock, "*", lambda: _FLUSH_S)

    @property
    def is_on(self) -> bool:
        """Whether anything is handed on."""
        return self._upstream is not None

    async def open(self) -> None:
        """Make ready; no request is sent."""
        if self._upstream is not None and self._store is not None:
            await self._upstream.open()
            await self._store.open()

    async def close(self) -> None:
        """Write the counts and release connections."""
        if self._upstream is not None and self._store is not None:
            await self._upstream.close()
            await self._store.close()
            try:
                await self.flush()
            except StoreError as error:
                logger.warning("what was passed on last is not counted: %s", type(error).__name__)

    # ---- whose it is -----------------------------------------------------------------------------

    async def owns_task(self, task: str) -> bool:
        """Whether a task is in the registry, or some worker advertised it in the last 7 days.

        Raises:
            StoreError: it is not in the registry, and what workers advertise was never to be read.
        """
        return self._registry.find(task) is not None or task in await self._runnable()

    async def _owns_any(self) -> bool:
        return bool(len(self._registry) or await self._runnable())

    async def _runnable(self) -> frozenset[str]:
        now = self._clock.monotonic()
        if self._advertised is None or now - self._advertised_at > _FRESH_S:
            try:
                async with self._database.connection() as conn:
                    self._advertised = await fleet.runnable(conn, self._database.schema)
                self._advertised_at = now
            except StoreError:
                if self._advertised is None:
                    raise
        return self._advertised

    async def owns_id(self, text: str) -> bool:
        """Whether this is the id of something that is here. Without the database: whether it may be."""
        made_of = made_here(text, self._clock.now())
        if made_of is None:
            return False
        try:
            async with self._database.connection() as conn:
                return await forwarded.is_here(conn, self._database.schema, text.partition("_")[0], made_of)
        except StoreError:
            return True

    async def whose(
        self, asked: Asked, query: Mapping[str, str], body: Mapping[str, Any]
    ) -> tuple[Owner, str]:
        """Return who answers, and the names that decided where it is nobody."""
        named = [value for name in _ONE_SIDED if (value := query.get(name))]
        if asked.about is About.BODY:
            return await self._by_body(asked, body)
        if asked.about is About.NUMBERED_LIST or (asked.about is About.CURSOR_LIST and not named):
            return Owner.BOTH, ""
        ours = False
        match asked.about:
            case About.TASK:
                ours = await self.owns_task(asked.subject)
            case About.ID:
                ours = await self.owns_id(asked.subject)
            case About.CURSOR_LIST:
                ours = all([await self.owns_id(each) for each in named])
            case About.QUEUE:
                ours = await self._owns_queue(asked.subject, query.get("type") or body.get("type"))
            case About.PACKET:
                ours = asked.endpoint.startswith("PUT") or await self._packets.has(asked.subject)
            case About.TOKEN:
                ours = self._makes_tokens
            case About.WHOLE:
                ours = await self._owns_any()
            case About.KEY:
                ours = True
            case About.REST:
                pass
        return _one(ours), asked.subject

    async def _by_body(self, asked: Asked, body: Mapping[str, Any]) -> tuple[Owner, str]:
        tasks, ids = subjects_of(asked.endpoint, dict(body))
        ours = [task for task in tasks if await self.owns_task(task)]
        ours += [each for each in ids if await self.owns_id(each)]
        named = list(dict.fromkeys([*tasks, *ids]))
        if not named:
            # A batch that does not say what is in it, and what is for everything there is.
            return _one(await self._owns_any()), ""
        theirs = [name for name in named if name not in ours]
        if ours and theirs:
            return Owner.MIXED, f"{', '.join(dict.fromkeys(ours))} here, {', '.join(theirs)} at Trigger.dev"
        return _one(bool(ours)), named[0] if len(named) == 1 else ""

    async def _owns_queue(self, name: str, kind: object) -> bool:
        # The SDK writes a slash as %2F before it encodes the whole.
        name = name.replace("%2F", "/")
        if kind == "task":
            return await self.owns_task(name)
        declared = {each.policy.queue.name for each in self._registry}
        if kind != "id" and name in declared:
            return True
        async with self._database.connection() as conn:
            known = declared.union(await queues.names(conn, self._database.schema))
        return name in known if kind != "id" else any(queue_id_of(each) == name for each in known)

    async def job_of(self, run_id: str) -> UUID | None:
        """Return our job that a run of upstream belongs to, None for a run that others have triggered."""
        try:
            async with self._database.connection() as conn:
                found = await remote_runs.owner(conn, self._database.schema, _TRIGGER, run_id)
        except StoreError:
            # Theirs with hardly an exception; and a job of ours learns of it all the same.
            return None
        return found[0] if found else None

    # ---- handing on ------------------------------------------------------------------------------

    def strangers(self, own_keys: Sequence[SecretStr]) -> int:
        """Return how many of these keys of ours have none of upstream's, so that their callers stay here."""
        return sum(self.key_for(each.get_secret_value()) is None for each in own_keys)

    def key_for(self, own_key: str) -> str | None:
        """Return upstream's key for a caller with one of our keys; None: what is ours stays here."""
        found = self._keys.get(own_key, self._for_all)
        return None if found is None else found.get_secret_value()

    async def environment(self, key: str) -> str:
        """Return what tokens call the environment that a key of upstream opens.

        Raises:
            ExecutorError: upstream does not say.
        """
        known = self._environments.get(key)
        if known is None:
            said = await self._json(key, "POST", "/api/v1/auth/jwt/claims")
            known = self._environments[key] = str(said.get("sub", ""))
        return known

    async def send(
        self,
        asked: Asked,
        target: bytes,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
        *,
        task: str = "",
    ) -> Passed:
        """Hand one request on and count it; the answer must be closed. Errors: see `Upstream.send`."""
        assert self._upstream is not None
        status = 0
        try:
            passed = await self._upstream.send(asked.endpoint.partition(" ")[0], target, headers, body)
            status = passed.status
        finally:
            self._count(asked.endpoint, task, status)
        return passed

    async def carry(self, item: dict[str, Any], key: str) -> None:
        """Take a payload that was stored here along to where its run goes, under the same path.

        ``item``: a trigger's body, or a batch's item. One whose payload is not here is left alone.

        Raises:
            ExecutorError: upstream did not take it.
        """
        options: Any = item.get("options")
        path: Any = item.get("payload")
        if not isinstance(options, dict) or not isinstance(path, str):
            return
        if cast("dict[str, Any]", options).get("payloadType") != "application/store":
            return
        stored = await self._packets.get(path)
        if stored is None:
            return
        assert self._store is not None
        said = await self._json(key, "PUT", f"/api/v2/packets/{quote(path, safe='')}")
        await self._store.transfer(
            "PUT", str(said.get("presignedUrl")), content=stored[1], content_type=stored[0]
        )

    async def _json(self, key: str, method: str, path: str) -> dict[str, Any]:
        assert self._upstream is not None
        headers = [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json")]
        passed = await self._upstream.send(method, path.encode(), headers, b"")
        try:
            raw = await passed.read()
        finally:
            await passed.close()
        try:
            value: Any = json.loads(raw) if passed.status == 200 else None
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise UnknownOutcomeError(f"Trigger.dev answered {method} with {passed.status}.")
        return cast("dict[str, Any]", value)

    # ---- counting --------------------------------------------------------------------------------

    def _count(self, endpoint: str, task: str, status: int) -> None:
        # A name is only worth a row when upstream took it: anybody can ask for anything.
        named = task if 200 <= status < 400 and len(self._counts) < _MOST_WAITING else ""
        counted = self._counts[endpoint, named]
        counted[0] += 1
        counted[1] += 400 <= status < 500
        counted[2] += not 100 <= status < 500

    async def flush(self) -> int:
        """Write what was counted since the last time; at worst a kill loses the last ten seconds."""
        if self._counts:
            counts, self._counts = self._counts, defaultdict(lambda: [0, 0, 0])
            try:
                async with self._database.connection() as conn:
                    await forwarded.add(conn, self._database.schema, counts)
            except StoreError:
                for key, numbers in counts.items():
                    self._counts[key] = [a + b for a, b in zip(self._counts[key], numbers, strict=True)]
                raise
        return 0

    async def last_days(self, days: int = 7) -> list[Forwarded]:
        """Return what all processes have passed on; what this one has not written yet is left out."""
        async with self._database.connection() as conn:
            return await forwarded.last_days(conn, self._database.schema, days)


def _one(is_ours: bool) -> Owner:  # noqa: FBT001 - called here only
    return Owner.OURS if is_ours else Owner.THEIRS


def _keys(given: Sequence[SecretStr]) -> tuple[SecretStr | None, dict[str, SecretStr]]:
    """Return the key for all callers of ours, and those for some."""
    for_all: SecretStr | None = None
    pairs: dict[str, SecretStr] = {}
    for each in given:
        ours, sign, theirs = each.get_secret_value().partition("=")
        if sign and ours and theirs:
            pairs[ours] = SecretStr(theirs)
        elif sign or for_all is not None:
            raise ConfigurationError(
                "TRIGGER_UPSTREAM_KEYS is one key, or pairs ours=theirs, separated by commas."
            )
        else:
            for_all = each
    return for_all, pairs
