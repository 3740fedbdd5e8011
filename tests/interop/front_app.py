"""An adapter in front of the one that the official SDK used before: with one task of its own, or none yet."""

from pydantic import JsonValue

from adapter import Adapter

adapter = Adapter.from_env()

if adapter.settings.api_keys:

    @adapter.task("here")
    async def here(payload: JsonValue) -> JsonValue:
        return {"here": payload}
