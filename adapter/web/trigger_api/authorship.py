"""Who is written down as the author of a change, where upstream's requests give no reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from adapter.web.auth import SOURCE

if TYPE_CHECKING:
    from adapter.web.auth import Principal


class Authorship(TypedDict):
    """What every verb that leaves a line in an audit takes."""

    reason: str
    actor: str
    source: str


def said_by(principal: Principal) -> Authorship:
    """Return the author of a change."""
    return {"reason": "asked for through the API", "actor": principal.actor, "source": SOURCE}
