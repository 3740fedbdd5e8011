"""What the routes of schedules, queues, tokens and variables share: their bodies, and who is written down as the author."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from adapter.web.auth import Principal

#: How changes made here are told from others in an audit.
SOURCE = "http"
MOST_BODY_BYTES = 64 * 1024


class ResourceBody(BaseModel):
    """A body in camel case; what it does not name is ignored, as upstream does."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", strict=True)


class Authorship(TypedDict):
    """What every verb that leaves a line in an audit takes."""

    reason: str
    actor: str
    source: str


def said_by(principal: Principal) -> Authorship:
    """Return the author of a change."""
    return {"reason": "asked for through the API", "actor": principal.actor, "source": SOURCE}
