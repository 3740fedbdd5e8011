"""Payloads as clients send them, made into the JSON value a job keeps (Trigger.dev's API contract, 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapter.domain.packets import JSON, STORED, decode_packet
from adapter.web.errors import ApiError

if TYPE_CHECKING:
    from adapter.app import Adapter
    from adapter.core.batches import FindPacket


async def payload_value(
    adapter: Adapter,
    payload: Any,
    payload_type: str | None,
    *,
    as_text: bool = False,
    find: FindPacket | None = None,
) -> Any:
    """Return the payload's value.

    ``application/json`` is the value itself: a string stays a string. ``as_text``: of a batch, where a string is
    JSON text. Every other type is a packet, and must be text; what is not is dropped, as upstream does.
    ``application/store`` names a packet that was put before; ``find`` looks for it elsewhere than in the store.

    Raises:
        InvalidArgumentError: a packet that cannot be read.
        ApiError: 422 for one that was never stored, 400 for one that is no text.
    """
    kind = (payload_type or JSON).partition(";")[0].strip().lower()
    if kind == JSON and not (as_text and isinstance(payload, str)):
        return payload
    if not isinstance(payload, str):
        return None
    if kind != STORED:
        return decode_packet(payload, kind)
    stored = await (find or adapter.packets.get)(payload) if "\x00" not in payload else None
    if stored is None:
        raise ApiError(422, f"There is no stored payload at {payload[:200]!r}.")
    content_type, content = stored
    try:
        return decode_packet(content.decode(), content_type)
    except UnicodeDecodeError as error:
        raise ApiError(400, "The stored payload is not UTF-8.") from error
